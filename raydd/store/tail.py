"""The newest events of a run's journal, each read once."""

import json
from collections.abc import Iterator
from typing import Any

from upath import UPath

from raydd.store.files import is_local


class JournalTail:
    """Reads what was written since it was last asked.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: UPath) -> None:
        self.folder = folder
        self.seconds = 1.0 if is_local(folder) else 30.0  # one listing, then the newest lines
        self._read = dict(self._sizes())

    def events(self) -> Iterator[dict[str, Any]]:
        """New events; a line that is still being written waits for the next time."""
        for name, size in self._sizes():
            before = self._read.get(name, 0)
            if size > before:
                with self._path(name).open("rb") as file:
                    file.seek(before)
                    lines, _, _ = file.read(size - before).rpartition(b"\n")
                self._read[name] = before + len(lines) + bool(lines)
                yield from map(json.loads, lines.splitlines())

    def _path(self, name: str) -> UPath:
        return self.folder / name

    def _sizes(self) -> list[tuple[str, int]]:
        """Names below the folder and bytes of the journal's files, in order of time."""
        found = []
        for name in ("metrics.jsonl", "metrics"):
            path = self._path(name)
            try:
                path.fs.invalidate_cache()
                for item in path.fs.ls(path.path, detail=True):
                    last = str(item["name"]).rpartition("/")[2]
                    key = name if name == "metrics.jsonl" else f"metrics/{last}"
                    found.append((key, int(item["size"] or 0)))
            except FileNotFoundError:
                continue
        return sorted(found)
