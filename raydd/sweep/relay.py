"""What a Ray Tune trial does: it has the work done elsewhere and relays what comes of it.

The work is done by an actor of its own, as if that were the driver of a single run. So no stage
ever runs inside a Tune session (where Ray Train refuses to report), a dead process is started again
without Tune losing the trial, and a trial that is stopped early, which happens between two tests
of a judged network, leaves no Train run behind. This module imports no torch: every trial pays for
a process that does nothing else.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from upath import UPath

from raydd.report.verdict import measured
from raydd.store.artifacts import Guard
from raydd.store.failure import kept_error
from raydd.store.journal import read_events
from raydd.sweep.locks import stage_guard

METRIC, TIME = "top1", "percent"  # of the judged networks, in [0, 1]; of their epochs, done
REPORT = "report.json"  # of a trial that is finished
_POLL_SECONDS = 2.0

# folder of the trial, its overrides, guard of its stages, number of trials that share the cluster
Work = Callable[[UPath, Mapping[str, Any], Guard, int], None]


@dataclass(frozen=True)
class Relay:
    """What the trials of a sweep share.

    Attributes:
        root: folder of their folders.
        work: reference of a :data:`Work`, which is not unpickled here; it continues from what lies
            in the folder, and leaves ``metrics.jsonl`` meanwhile and ``report.json`` at its end.
        keeper: of the locks, see :mod:`raydd.sweep.locks`.
        concurrent: trials at once.
        max_failures: restarts of a trial's process.
    """

    root: UPath
    work: Any
    keeper: Any
    concurrent: int
    max_failures: int

    def __call__(self, overrides: Mapping[str, Any]) -> None:
        """Run a trial in Tune; one that has its report is not run again."""
        folder = self.root / trial_name(overrides)
        if not (folder / REPORT).exists():
            with kept_error(folder):
                self._watch(folder, overrides)
        tune.report({TIME: 100.0, **tune_metrics(folder)})

    def _watch(self, folder: UPath, overrides: Mapping[str, Any]) -> None:
        actor: Any = ray.remote(
            num_cpus=1,
            max_restarts=self.max_failures,
            max_task_retries=self.max_failures,
            # outside the trial's placement group: a run finds there what it would find alone
            scheduling_strategy=PlacementGroupSchedulingStrategy(None),  # type: ignore[arg-type]
        )(_Worker)
        worker, percent = actor.remote(), 0.0
        done = worker.run.remote(self.work, folder, overrides, self.keeper, self.concurrent)
        while not ray.wait([done], timeout=_POLL_SECONDS)[0]:
            for at, top1 in curve(folder):
                if percent < at < 100:
                    percent = at
                    tune.report({TIME: at, METRIC: top1})
        ray.get(done)


class _Worker:
    """Carries out one trial, in a process of its own."""

    def ping(self) -> None:
        """Answer, which a dead actor does not."""

    def run(
        self, work: Work, folder: UPath, overrides: Mapping[str, Any], keeper: Any, concurrent: int
    ) -> None:
        me = ray.get_runtime_context().current_actor
        work(folder, overrides, stage_guard(keeper, folder.name, me), concurrent)


def trial_name(overrides: Mapping[str, Any]) -> str:
    """Name of a trial's folder: what it varies, and a hash where that is not all of it."""
    spelled = [f"{key.rpartition('.')[2]}{value}" for key, value in overrides.items()]
    slug = "-".join("".join(c for c in part if c.isalnum() or c in "._") for part in spelled)
    digest = hashlib.sha256(json.dumps(dict(overrides)).encode()).hexdigest()[:6]
    return f"{slug[:60]}-{digest}"


def curve(folder: UPath) -> list[tuple[float, float]]:
    """(percent of the epochs, top-1 in [0, 1]) of the first network judged on a trial's images."""
    tests = [
        event
        for event in read_events(folder)
        if event["stage"] == "evaluate"
        and (event.get("images"), event.get("seed")) == ("distilled", 0)
        and "top1" in event
    ]
    first = [e for e in tests if e["architecture"] == tests[0]["architecture"]]
    return [(100 * event["epoch"] / event["epochs"], event["top1"]) for event in first]


def tune_metrics(folder: UPath) -> dict[str, float]:
    """What Tune is told of a finished trial; accuracies in [0, 1]."""
    return measured(json.loads((folder / REPORT).read_text()))
