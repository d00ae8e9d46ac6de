"""Run the trials of a sweep under Ray Tune; :mod:`raydd.engine.sweep_relay` is each of them."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from upath import UPath

from raydd.engine.storage import storage_arguments
from raydd.engine.sweep_config import Choice, Domain, SweepConfig
from raydd.engine.sweep_relay import METRIC, TIME, Relay, trial_name
from raydd.engine.trackers import tracker_callbacks

TUNE = "tune"  # Ray Tune's folder below the sweep's
_RELAY_BYTES = 200_000_000  # of a trial's own process, measured
_LOGGERS = ("ray.tune", "ray.train", "ray.air", "optuna")


def run_trials(
    relay: Relay,
    points: Sequence[Mapping[str, Any]],
    space: Mapping[str, Domain],
    config: SweepConfig,
    folder: UPath,
    tracker: str,
    seed: int,
) -> tune.ResultGrid:
    """Run a sweep to its end, or continue one that was killed; finished trials are left alone.

    Args:
        relay: what a trial does.
        points: overrides of each trial of a grid or a random search.
        space: domains of a Bayesian search.
        config: of the sweep.
        folder: of the sweep; Tune's files go to ``tune`` below it.
        tracker: see :func:`raydd.engine.trackers.tracker_callbacks`.
        seed: of a Bayesian search.
    """

    def trial(parameters: dict[str, Any]) -> None:
        relay(parameters["overrides"])

    # no CPU, not even a thousandth: the stages of the trials reckon with whole ones
    trainable = tune.with_resources(trial, {"memory": _RELAY_BYTES})
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
                    search_alg=_searcher(config, seed, relay.lanes),
                    scheduler=_scheduler(config),
                    num_samples=config.samples if config.search == "bayes" else 1,
                    max_concurrent_trials=relay.lanes if config.search == "bayes" else None,
                    trial_dirname_creator=_directory,
                ),
                run_config=tune.RunConfig(
                    name=TUNE,
                    verbose=0,
                    callbacks=tracker_callbacks(tracker, folder.name),
                    **place,
                ),
            )
        return tuner.fit()


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


def _searcher(config: SweepConfig, seed: int, lanes: int) -> Searcher | SearchAlgorithm:
    if config.search != "bayes":
        return BasicVariantGenerator(max_concurrent=lanes)
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


def _directory(trial: Any) -> str:
    return trial_name(trial.config["overrides"])


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
