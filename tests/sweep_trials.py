"""A trial for the tests of sweeps: small real work, and a note of every attempt."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upath import UPath

from raydd.cluster.fit import fit
from raydd.cluster.resources import Resources
from raydd.cluster.tasks import run_many
from raydd.engine.cost import Cost
from raydd.store.artifacts import Guard, Stages
from raydd.store.journal import Journal
from raydd.store.progress import Progress


@dataclass(frozen=True)
class SmallTrial:
    """Makes a stage that all share, perhaps trains nothing on a worker, and is tested four times.

    Attributes:
        is_nested: start a Ray Train worker before the tests.
        seconds: between two tests.
    """

    is_nested: bool = False
    seconds: float = 0.2

    def __call__(
        self, folder: UPath, overrides: Mapping[str, Any], guard: Guard, share: int
    ) -> None:
        path, storage = Path(str(folder)), Path(str(folder)).parents[1]
        path.mkdir(parents=True, exist_ok=True)
        note(storage / "attempts", str(overrides["quality"]))
        stages = Stages(UPath(storage), Progress(), guard)
        stages.run("shared", self._make, inputs=[], config={}, seed=0, cost=Cost, expected=dict)
        if (storage / "broken").exists() and overrides["quality"] == 0.6:
            raise RuntimeError("this trial is broken")
        if self.is_nested:
            (path / "fit").mkdir(exist_ok=True)
            fit(nothing, {}, _resources(1), folder / "fit")
        run_many(judge, [(str(path), overrides["quality"], self.seconds)], _resources(0))
        part = {"mean": overrides["quality"], "half_width": None}
        report = {"headline": {"distilled": part, "random": part}, "num_images": 1, "bytes": {}}
        (path / "report.json").write_text(json.dumps(report))

    def _make(self, folder: UPath) -> dict[str, Any]:
        note(Path(str(folder)).parents[1] / "built", "shared")
        time.sleep(1)
        return {}


def judge(job: tuple[str, float, float]) -> dict[str, Any]:
    folder, quality, seconds = job
    for epoch in range(1, 5):
        time.sleep(seconds)
        point = {"epoch": epoch, "epochs": 4, "top1": quality}
        judge = {"architecture": "small", "images": "distilled", "seed": 0}
        Journal(f"{folder}/metrics.jsonl").log("evaluate", **judge, **point)
    return {}


def nothing(arguments: dict[str, Any]) -> None:
    """Loop of a Train worker."""


def note(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text + "\n")


def _resources(workers: int) -> Resources:
    return Resources(
        workers, workers, use_gpu=False, threads_per_worker=1, parallel=1, max_failures=1
    )
