"""Run the trials of a sweep under Ray Tune; :mod:`raydd.sweep.relay` is each of them."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from upath import UPath

from raydd.cluster.config import ClusterConfig
from raydd.cluster.connect import connect, cpus_per_trial
from raydd.cluster.gpus import local_gpus
from raydd.cluster.resources import resolve
from raydd.config.sweep import Choice, Domain, SweepConfig
from raydd.errors import Refused
from raydd.store.files import storage_arguments
from raydd.sweep.relay import METRIC, TIME, Relay, trial_name


def count_concurrent(
    config: ClusterConfig, asked: int | None, trials: int, say: Callable[[str], None]
) -> int:
    """How many trials of a sweep run at once without ever waiting for each other's CPUs.

    Args:
        config: of each trial.
        asked: by the user; None takes as many as fit.
        trials: how many there are.
        say: is told what is waited for where a cluster is joined.
    Raises:
        Refused: not one trial fits into the cluster that was joined.
    """
    if not os.environ.get("RAY_ADDRESS") and not ray.is_initialized():
        fitting = _concurrent_here(config)
    else:
        connect(config, say=say)
        fitting = fitting_trials(config, ray.cluster_resources())
    return min(trials, fitting if asked is None else min(asked, fitting))


def _concurrent_here(config: ClusterConfig) -> int:
    """Trials that keep this machine busy; its private cluster gets logical CPUs for all of them."""
    gpus = 0 if config.use_gpu is False else local_gpus()
    if gpus:
        return max(1, gpus // max(1, gpus if config.num_workers is None else config.num_workers))
    return max(1, (os.cpu_count() or 1) // max(1, config.threads_per_worker))


def fitting_trials(config: ClusterConfig, totals: dict[str, float]) -> int:
    """How many trials fit into a cluster's totals; refuses one that is too small for any."""
    cpus, each = int(totals.get("CPU", 0)), cpus_per_trial(config)
    if cpus < each:
        raise Refused(
            f"this cluster has {cpus} CPUs, but a trial needs {each} so that its stages never wait "
            "for each other; add nodes, or run without RAY_ADDRESS."
        )
    resources = resolve(config, totals)
    gpus = int(totals.get("GPU", 0)) // max(1, resources.num_workers)
    return max(1, min(cpus // each, gpus) if resources.use_gpu else cpus // each)


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
        tracker: see :func:`raydd.sweep.tune.tracker_callbacks`.
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
                    search_alg=_searcher(config, seed, relay.concurrent),
                    scheduler=_scheduler(config),
                    num_samples=config.samples if config.search == "bayes" else 1,
                    max_concurrent_trials=relay.concurrent if config.search == "bayes" else None,
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


def _searcher(config: SweepConfig, seed: int, concurrent: int) -> Searcher | SearchAlgorithm:
    if config.search != "bayes":
        return BasicVariantGenerator(max_concurrent=concurrent)
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


def tracker_callbacks(tracker: str, group: str) -> list[Any]:
    """Tune callbacks that send every trial's configuration and metrics to a tracker.

    Args:
        tracker: one of TRACKERS; TensorBoard's files are written by Tune in any case.
        group: what the tracker calls the sweep.
    """
    check_tracker(tracker)
    if tracker == "wandb":
        from ray.air.integrations.wandb import WandbLoggerCallback

        return [WandbLoggerCallback(project="raydd", group=group)]
    if tracker == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        return [MLflowLoggerCallback(experiment_name=group)]
    return []


def check_tracker(tracker: str) -> None:
    """Refuse a tracker whose package is not there, before any work."""
    package = {"wandb": "wandb", "mlflow": "mlflow"}.get(tracker)
    if package and find_spec(package) is None:
        raise Refused(f"tracker={tracker} needs the package {package}: pip install {package}.")
