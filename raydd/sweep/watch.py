"""What a sweep's driver says of its trials: each that ended, and how far those in work are."""

import json
import time
from collections.abc import Mapping
from typing import Any

from upath import UPath

from raydd.config.sweep import spell
from raydd.report.arms import varied_by
from raydd.store.failure import ERROR
from raydd.store.meter import Meter
from raydd.store.progress import Progress
from raydd.store.tail import JournalTail
from raydd.sweep.relay import REPORT

TRIAL = "trial.json"  # of a trial: what it varies
_SHOWN = 2  # trials in work of which a line tells


class Watch:
    """Looks at the trials' folders, on an object store only every half minute.

    Args:
        root: of the folders.
        progress: told of new finished ones.
        arms: of the sweep.
    """

    def __init__(
        self, root: UPath, progress: Progress, arms: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.root, self.progress, self.arms = root, progress, arms
        self.finished = self._ended(REPORT)
        self.working: dict[str, _Working] = {}
        self._pause, self._looked = JournalTail(root).seconds, -float("inf")

    def count(self) -> int:
        """Finished trials; new ones are said."""
        if time.monotonic() - self._looked >= self._pause:
            self.look()
        return len(self.finished)

    def look(self) -> None:
        """Read what is new."""
        self._looked = time.monotonic()
        finished = self._ended(REPORT)
        for name in sorted(finished - self.finished):
            self.progress.say(f"  {describe_trial(self.root / name, self.arms)}")
        self.finished = finished
        begun = self._ended(TRIAL) - finished - self._ended(ERROR)
        self.working = {n: self.working.get(n) or _Working(self.root / n) for n in sorted(begun)}
        for trial in self.working.values():
            trial.look()

    def doing(self) -> str:
        """How far the trials in work are, "" where nothing was heard of any."""
        heard = [trial.text for trial in self.working.values() if trial.text]
        more = f"; {len(heard) - _SHOWN} more" if len(heard) > _SHOWN else ""
        return "; ".join(heard[:_SHOWN]) + more

    def _ended(self, file: str) -> set[str]:
        return {path.parent.name for path in self.root.glob(f"*/{file}")}


class _Working:
    """A trial that has not ended, and the stage of it that was heard of last."""

    def __init__(self, folder: UPath) -> None:
        self.tail, self.text = JournalTail(folder), ""
        self._stage, self._meter = "", Meter()

    def look(self) -> None:
        for event in self.tail.events():
            if event["stage"] != self._stage:
                self._stage, self._meter = event["stage"], Meter()
            self._meter.hear(event)
        self.text = f"{self._stage} {self._meter.position()}".strip()


def describe_trial(folder: UPath, arms: Mapping[str, Mapping[str, Any]]) -> str:
    """One line about a finished trial: its arm, what else it varies and what came of it."""
    report = json.loads((folder / REPORT).read_text())
    overrides: dict[str, Any] = json.loads((folder / TRIAL).read_text())["overrides"]
    parts = []
    for images in ("distilled", "random"):
        part = report["headline"][images]
        half = "" if part["half_width"] is None else f" +- {100 * part['half_width']:.1f}"
        parts.append(f"{images} {100 * part['mean']:.1f}{half}")
    varied = " ".join(f"{k}={v}" for k, v in varied_by(overrides, arms).items())
    return f"{varied:<60} {', '.join(parts)} % top-1"


def describe_best(root: UPath) -> str | None:
    """The combination whose images taught best, over its run seeds; None where none has ended."""
    found: dict[str, list[float]] = {}
    for path in sorted(root.glob(f"*/{REPORT}"), key=str):
        overrides = json.loads((path.parent / TRIAL).read_text())["overrides"]
        words = " ".join(spell(key, value) for key, value in overrides.items() if key != "seed")
        best = json.loads(path.read_text())["headline"]["distilled"]
        found.setdefault(words, []).append(best["mean"])
    if not found:
        return None
    means = {words: sum(values) / len(values) for words, values in found.items()}
    first = max(means, key=lambda words: means[words])
    return f"{first} ({100 * means[first]:.1f} % top-1)"
