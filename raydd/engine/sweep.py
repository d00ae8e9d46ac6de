"""Run the trials of a sweep under Ray Tune.

A Tune trial only relays: its work is done by an actor of its own, as if that were the driver of a
single run. So no stage ever runs inside a Tune session (where Ray Train refuses to report), a dead
process is started again without Tune losing the trial, and a trial that is stopped early, which
happens between two tests of a judged network, leaves no Train run behind.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from upath import UPath

from raydd.engine.errors import Refused
from raydd.engine.fit import storage_arguments
from raydd.engine.stage_locks import make_keeper, stage_guard
from raydd.engine.stages import Guard, write_atomic
from raydd.engine.sweep_config import Choice, Domain, SweepConfig
from raydd.engine.trackers import tracker_callbacks

METRIC, TIME = "top1", "percent"  # of the judged networks, in [0, 1]; of their epochs, done
TUNE = "tune"  # Ray Tune's folder below the sweep's
REPORT, ERROR = "report.json", "error.txt"  # of a trial that is finished, or failed
_POLL_SECONDS = 1.0
_LOGGERS = ("ray.tune", "ray.train", "ray.air")


class Trials(Protocol):
    """What a trial is; picklable."""

    def folder(self, overrides: Mapping[str, Any]) -> UPath:
        """Folder of the trial's run, whether it exists or not."""

    def run(self, overrides: Mapping[str, Any], guard: Guard, share: int) -> None:
        """Carry it out, continuing from what is there; leaves ``report.json``."""

    def points(self, folder: UPath) -> list[tuple[float, float]]:
        """(percent of the epochs, top-1 in [0, 1]) of the first judged network, so far."""

    def summary(self, folder: UPath) -> dict[str, float]:
        """Numbers of a finished trial, with the metric."""


@dataclass(frozen=True)
class Lanes:
    """Trials that run at once, and retries of each one's process."""

    count: int
    max_failures: int


def run_trials(
    trials: Trials,
    points: Sequence[Mapping[str, Any]],
    space: Mapping[str, Domain],
    config: SweepConfig,
    lanes: Lanes,
    folder: UPath,
    tracker: str,
    seed: int,
) -> tune.ResultGrid:
    """Run a sweep to its end, or continue one that was killed; finished trials are left alone.

    Args:
        trials: what a trial does.
        points: overrides of each trial of a grid or a random search.
        space: domains of a Bayesian search.
        config: of the sweep.
        lanes: how many trials run at once.
        folder: of the sweep; Tune's files go to ``tune`` below it.
        tracker: see :func:`raydd.engine.trackers.tracker_callbacks`.
        seed: of a Bayesian search.
    """
    keeper = make_keeper()

    def trial(parameters: dict[str, Any]) -> None:
        _relay(trials, parameters["overrides"], keeper, lanes)

    # a token: the work has CPUs of its own, and the lanes are counted by max_concurrent_trials
    trainable = tune.with_resources(trial, {"CPU": 0.001})
    with _quiet():
        place = storage_arguments(folder)
        path, store = f"{place['storage_path']}/{TUNE}", place.get("storage_filesystem")
        if tune.Tuner.can_restore(path, storage_filesystem=store):
            tuner = tune.Tuner.restore(
                path, trainable, restart_errored=True, storage_filesystem=store
            )
        else:
            tuner = tune.Tuner(
                trainable,
                param_space={"overrides": _parameters(points, space, config)},
                tune_config=tune.TuneConfig(
                    metric=METRIC,
                    mode="max",
                    search_alg=_searcher(config, seed),
                    scheduler=_scheduler(config),
                    num_samples=config.samples if config.search == "bayes" else 1,
                    max_concurrent_trials=lanes.count,
                    trial_dirname_creator=lambda trial: _directory(trials, trial.config),
                ),
                run_config=tune.RunConfig(
                    name=TUNE,
                    verbose=0,
                    callbacks=tracker_callbacks(tracker, folder.name),
                    **place,
                ),
            )
        return tuner.fit()


class _Worker:
    """Carries out one trial, in a process of its own."""

    def ping(self) -> None:
        """Answer, which a dead actor does not."""

    def run(
        self, trials: Trials, overrides: dict[str, Any], keeper: Any, name: str, share: int
    ) -> None:
        me = ray.get_runtime_context().current_actor
        trials.run(overrides, stage_guard(keeper, name, me), share)


def _relay(trials: Trials, overrides: dict[str, Any], keeper: Any, lanes: Lanes) -> None:
    """Have a trial's work done and report its points and its end to Tune."""
    folder, percent = trials.folder(overrides), 0.0
    if not (folder / REPORT).exists():
        actor: Any = ray.remote(
            num_cpus=1,
            max_restarts=lanes.max_failures,
            max_task_retries=lanes.max_failures,
            # outside the trial's placement group, where a run finds what it would find alone
            scheduling_strategy=PlacementGroupSchedulingStrategy(None),  # type: ignore[arg-type]
        )(_Worker)
        worker = actor.remote()
        done = worker.run.remote(trials, overrides, keeper, folder.name, lanes.count)
        with _kept_error(folder):
            while not ray.wait([done], timeout=_POLL_SECONDS)[0]:
                for at, top1 in trials.points(folder):
                    if percent < at < 100:
                        percent = at
                        tune.report({TIME: at, METRIC: top1})
            ray.get(done)
    tune.report({TIME: 100.0, **trials.summary(folder)})


@contextlib.contextmanager
def _kept_error(folder: UPath) -> Iterator[None]:
    """Leave ``error.txt`` in the trial's folder, as long as its last attempt failed."""
    (folder / ERROR).unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        cause = error.cause if isinstance(error, RayTaskError) else None
        text = f"raydd: {cause}" if isinstance(cause, Refused) else str(error)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / ERROR, text.encode())
        raise


def _parameters(
    points: Sequence[Mapping[str, Any]], space: Mapping[str, Domain], config: SweepConfig
) -> Any:
    if config.search != "bayes":
        return tune.grid_search([dict(point) for point in points])
    return {key: _tune_domain(domain) for key, domain in space.items()}


def _tune_domain(domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return tune.choice(list(domain.values))
    low, high = domain.low, domain.high
    if domain.is_integer:  # Tune leaves the upper end out
        draw = tune.lograndint if domain.is_log else tune.randint
        return draw(int(low), int(high) + 1)
    return (tune.loguniform if domain.is_log else tune.uniform)(low, high)


def _searcher(config: SweepConfig, seed: int) -> Searcher | SearchAlgorithm:
    if config.search != "bayes":
        return BasicVariantGenerator()
    from ray.tune.search.optuna import OptunaSearch

    return OptunaSearch(seed=seed % 2**32)


def _scheduler(config: SweepConfig) -> TrialScheduler:
    if not config.early_stop:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr=TIME,
        max_t=100,
        grace_period=config.grace_percent,
        reduction_factor=config.reduction,
    )


def _directory(trials: Trials, parameters: Mapping[str, Any]) -> str:
    return trials.folder(parameters["overrides"]).name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray's own error logs stay in its files: failed trials are listed at the end."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
