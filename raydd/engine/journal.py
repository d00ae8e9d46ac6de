"""The one sink of live metrics: ``metrics.jsonl`` of the run, a line per event."""

import json
import time
from typing import Any

from upath import UPath


class Journal:
    """Appends one json line per event; many processes may write to one file.

    Args:
        path: the file, or None to keep nothing.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path

    def log(self, stage: str, **values: Any) -> None:
        """Append an event with its stage and the wall time in seconds since the epoch."""
        if self.path is None:
            return
        line = json.dumps({"time": round(time.time(), 3), "stage": stage, **values}) + "\n"
        with UPath(self.path).open("a") as file:
            file.write(line)
