"""A sweep: the same run once per trial, where a trial is a list of overrides.

Called by ``python -m raydd.run ... sweep=NAME``; see :mod:`raydd.sweep.tune` for how trials run.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import ray
from ray import tune
from upath import UPath

from raydd.cluster.connect import connect
from raydd.config.sweep import (
    PREFIX,
    Domain,
    Interval,
    SweepConfig,
    draw_trials,
    parse_space,
    spell,
)
from raydd.config.tree import (
    INDIFFERENT_KEYS,
    RunConfig,
    compose_config,
    decisive_values,
    short_digest,
)
from raydd.errors import Refused
from raydd.ops.configs import settled
from raydd.report.tracker import check_tracker
from raydd.session import check, run
from raydd.store.artifacts import Guard
from raydd.store.failure import ERROR
from raydd.store.files import claim_folder, open_storage, write_atomic
from raydd.store.progress import Progress
from raydd.sweep.locks import make_keeper
from raydd.sweep.relay import REPORT, Relay, trial_name
from raydd.sweep.tune import TUNE, count_concurrent, run_trials
from raydd.sweep.watch import TRIAL, Watch, describe_best

TRIALS, SWEEP = "trials", "sweep.json"
_OWN_KEYS = (*INDIFFERENT_KEYS, "sweep", "tracker", "evaluate")


def sweep(words: Sequence[str], config: RunConfig, progress: Progress) -> int:
    """Run a sweep to its end, or continue it.

    Args:
        words: the command line.
        config: composed of it.
        progress: says what is done.
    Returns:
        The number of trials that failed.
    Raises:
        Refused: the sweep, or one of its trials, cannot be carried out; nothing was written.
    """
    assert config.sweep is not None
    space = parse_space(config.sweep.space)
    _check(config, config.sweep, space)
    folder = open_storage(config.storage) / _name(config)
    base = _base(words)
    points = [] if config.sweep.search == "bayes" else draw_trials(config.sweep, space, config.seed)
    _check_trials(base, points or _corners(space))
    count = len(points) or config.sweep.samples
    cluster, note = config.cluster, progress.note
    concurrent = count_concurrent(cluster, config.sweep.concurrent, count, note)
    connect(cluster, concurrent, note)
    claim_folder(folder, {**decisive_values(config), "sweep": settled(config.sweep)})
    _write_record(folder, words, config.sweep, count)
    progress.say((folder.name, "bold"), f"  {count} trials, {concurrent} at once")
    watch = Watch(folder / TRIALS, progress, config.sweep.arms)
    work = ray.put(partial(carry_out, base))
    relay = Relay(folder / TRIALS, work, make_keeper(), concurrent, config.cluster.max_failures)
    with progress.stage("sweep", count, len(watch.finished), watch.count, watch.doing):
        grid = run_trials(relay, points, space, config.sweep, folder, config.tracker, config.seed)
    watch.look()
    _mark_stopped(folder / TRIALS, grid)
    grid.get_dataframe().to_csv(str(folder / "results.csv"), index=False)
    failed = _conclude(folder, grid, progress)
    if config.sweep.choose and (best := describe_best(folder / TRIALS)):
        progress.say(f"best on held-out images: {best}")
    return failed


def carry_out(
    base: Sequence[str], folder: UPath, overrides: Mapping[str, Any], guard: Guard, share: int
) -> None:
    """Carry out a trial; see :data:`raydd.sweep.relay.Work`.

    Args:
        base: overrides that all trials share.
        folder: of the trial's run.
        overrides: of this trial.
        guard: of its stages.
        share: how many trials share the cluster.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_trial(folder, overrides)
    run(trial_config(base, overrides), Progress(), folder, guard, share)


def trial_config(base: Sequence[str], overrides: Mapping[str, Any]) -> RunConfig:
    """The configuration of a trial."""
    return compose_config([*base, *(spell(*item) for item in overrides.items())])


def _check(config: RunConfig, sweep: SweepConfig, space: Mapping[str, Domain]) -> None:
    if not space and not sweep.arms and sweep.seeds == 1:
        raise Refused(f"this sweep varies nothing: name keys, like {PREFIX}method.ipc=[10,20].")
    keys = [*space, *(key for arm in sweep.arms.values() for key in arm)]
    if own := [key for key in keys if key.split(".")[0] in _OWN_KEYS]:
        raise Refused(f"a sweep cannot vary {', '.join(own)}: it says how trials are carried out.")
    if sweep.seeds > 1 and "seed" in keys:
        raise Refused("sweep.seeds and sweep.space.seed vary the same key: use one of them.")
    if not config.evaluate:
        raise Refused("a sweep compares what its trials' images teach: it needs evaluate=true.")
    if sweep.is_choosing and not config.validation:
        raise Refused(
            "this sweep chooses by what it measures, which must not be the test split: hold real "
            "images out of every selection with validation=N (images per class)."
        )
    ranges = [key for key, domain in space.items() if isinstance(domain, Interval)]
    if sweep.search == "grid" and ranges:
        raise Refused(
            f"{PREFIX}{ranges[0]} is an interval, which a grid cannot walk: give a list, or use "
            "sweep.search=random."
        )
    check_tracker(config.tracker)


def _check_trials(base: Sequence[str], points: Sequence[Mapping[str, Any]]) -> None:
    """Refuse the sweep if one of its trials would be refused; a data set is opened once."""
    opened: dict[str, Any] = {}
    for point in points:
        try:
            config = trial_config(base, point)
            dataset = str(config.dataset)
            opened[dataset] = check(config, opened.get(dataset))
        except ValueError as error:
            raise Refused(f"{', '.join(f'{k}={v}' for k, v in point.items())}: {error}") from error


def _corners(space: Mapping[str, Domain]) -> list[dict[str, Any]]:
    """Two trials at the ends of every domain."""
    return [{key: domain.at(share) for key, domain in space.items()} for share in (0.0, 0.999999)]


def _base(words: Sequence[str]) -> list[str]:
    """Overrides of every trial: the command line without what is the sweep's own."""
    own = ("sweep=", "sweep.", "name=", "tracker=", "storage=")
    given = [word for word in words if not word.lstrip("+").startswith(own)]
    storage = next((w.partition("=")[2] for w in words if w.startswith("storage=")), "runs")
    return [*given, spell("storage", str(open_storage(storage)))]


def _name(config: RunConfig) -> str:
    sweep = config.sweep
    assert sweep is not None
    digest = short_digest({**decisive_values(config), "sweep": settled(sweep)})
    fields = ("sweep", sweep.name, config.method.name, config.dataset.name, digest)
    return config.name or "-".join(fields)


def _write_record(folder: UPath, words: Sequence[str], sweep: SweepConfig, count: int) -> None:
    record = {
        "name": folder.name,
        "search": sweep.search,
        "early_stop": sweep.early_stop,
        "space": sweep.space,
        "arms": sweep.arms,
        "base": list(words),
        "trials": count,
    }
    write_atomic(folder / SWEEP, json.dumps(record, indent=1).encode())


def _write_trial(folder: UPath, overrides: Mapping[str, Any], **more: Any) -> None:
    record = {"sweep": folder.parent.parent.name, "overrides": dict(overrides), **more}
    write_atomic(folder / TRIAL, json.dumps(record, indent=1).encode())


def _mark_stopped(root: UPath, grid: tune.ResultGrid) -> None:
    for result in (grid[number] for number in range(len(grid))):
        overrides = (result.config or {})["overrides"]
        folder = root / trial_name(overrides)
        if result.error is None and not (folder / REPORT).exists():
            _write_trial(folder, overrides, stopped=True)


def _conclude(folder: UPath, grid: tune.ResultGrid, progress: Progress) -> int:
    finished = sorted((folder / TRIALS).glob(f"*/{REPORT}"), key=str)
    failed = sorted((folder / TRIALS).glob(f"*/{ERROR}"), key=str)
    stopped = len(grid) - len(finished) - len(failed)
    ended = f"{len(finished)} finished, {stopped} stopped early, {len(failed)} failed"
    progress.say(f"\ntrials: {ended}")
    for path in failed:
        reason = path.read_text().strip().splitlines()[-1]
        progress.say(f"  {path.parent.name}: {reason}")
    progress.say(f"their folders: {folder / TRIALS}")
    progress.say(f"Ray Tune's files (CSV, JSON, TensorBoard): {folder / TUNE}")
    progress.say(f"look at them: python -m raydd.browse {folder}")
    return len(failed)
