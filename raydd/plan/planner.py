"""``plan=true``: the driver runs with stages that only note; then the table of what they noted.

There is no second description of a run: the stages are those of :mod:`raydd.engine.vocabulary`,
called by the unchanged drivers. So a planned key is the key of the run, and the table can say which
stages are finished in this storage already.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from upath import UPath

from raydd.cluster.connect import local_resources
from raydd.cluster.resources import Resources
from raydd.config.dataset import open_sources
from raydd.config.tree import RunConfig, decisive_values, make_engine, run_name
from raydd.data.sources import Source
from raydd.data.sources.counted import CountedSource
from raydd.engine.engine import Engine
from raydd.errors import Refused
from raydd.judge.product import judge
from raydd.ops.describe import byte_size
from raydd.plan.calibrate import calibrate
from raydd.plan.machines import Machine, PlanRow, named_machine, plan_hours
from raydd.session import check, describe, distil
from raydd.store.artifacts import Artifact, Stage, Stages, Together
from raydd.store.files import check_claim, open_storage
from raydd.store.progress import Progress

_UNKNOWN = "unknown"


class NotedStages(Stages):
    """Stages that are asked what they take, and not done; what is finished is found."""

    def __init__(self, storage: UPath, progress: Progress) -> None:
        super().__init__(storage, progress)
        self.rows: list[PlanRow] = []

    def run_together(self, asked: Sequence[Stage], work: Together) -> list[Artifact]:
        """Note stages, each once; see :meth:`raydd.store.artifacts.Stages.run_together`."""
        together = sum(stage.units for stage in asked)
        for stage in asked:
            key = stage.key
            if key not in self._finished:
                found = self.find(stage.name, key)
                about = stage.label, key, stage.units, stage.cost(), bool(found), together
                self.rows.append(PlanRow(*about))
                planned = Artifact(self.root / key, key, dict(stage.expected()), stage.name)
                self._finished[key] = found[0] if found else planned
        return [self._finished[stage.key] for stage in asked]


def plan(config: RunConfig, progress: Progress) -> None:
    """Say what a run would do, how large it is and how long it takes; starts no Ray."""
    cluster = config.cluster
    named = [named_machine(cluster.plan_for, cluster.plan_small_images)] if cluster.plan_for else []
    engine, rows = walk(config, progress)
    machines = [*([_here(config, engine, rows)] if cluster.plan_seconds else []), *named]
    for line in plan_lines(rows, machines):
        progress.say(line)


def walk(config: RunConfig, progress: Progress) -> tuple[Engine, list[PlanRow]]:
    """Walk through a run's stages without work: the engine, and a row for each stage."""
    sources = _sources(config, progress)
    storage = open_storage(config.storage)
    check_claim(storage / run_name(config), decisive_values(config))
    stages, nothing = NotedStages(storage, progress), Resources(0, 0, False, 1, 1, 0)
    engine = make_engine(config, sources, nothing, stages, storage)
    product = distil(engine, config)
    if config.evaluate:
        judge(engine.seen_by(product.teacher), product, config.protocol)
    return engine, stages.rows


def plan_lines(rows: Sequence[PlanRow], machines: Sequence[Machine] = ()) -> Iterator[str]:
    """A header, a line per stage and their sum, then what is unknown or assumed."""
    width = 2 + max(len(row.stage) for row in rows)
    header = f"{'stage':<{width}}{'units':>8}{'reads':>12}{'writes':>12}{'memory/worker':>15}"
    hours = [plan_hours(rows, machine) for machine in machines]
    yield header + "".join(f"{f'h {machine.name}':>12}" for machine in machines)
    for number, row in enumerate(rows):
        cost = row.cost
        sizes = f"{_size(cost.reads):>12}{_size(cost.writes):>12}{_size(cost.memory):>15}"
        there = "  finished" if row.finished else ""
        times = _hours([h[number] for h in hours])
        yield f"{row.stage:<{width}}{row.units:>8}{sizes}{times}{there}"
    if machines:
        yield f"{'all stages':<{width}}{'':>47}{_hours([sum(column) for column in hours])}"
    if any(row.finished for row in rows):
        yield "finished: found in this storage; takes no time."
    if any(row.cost.reads != row.cost.reads for row in rows):
        yield (
            f"{_UNKNOWN}: nobody has counted this data set; dataset.train_images= and "
            "dataset.test_images= tell its size."
        )
    for machine in machines:
        yield from _about(machine, rows)


def _about(machine: Machine, rows: Sequence[PlanRow]) -> Iterator[str]:
    yield f"h {machine.name}: {machine.about}."
    large = [row.stage for row in rows if machine.memory and row.cost.memory > machine.memory]
    if large:
        names = ", ".join(large)
        yield f"more than a device of {machine.name} holds, were there one worker: {names}."


def _sources(config: RunConfig, progress: Progress) -> tuple[Source, Source]:
    """The data, or their published numbers where they are not at hand."""
    data = config.dataset
    train: Source
    test: Source
    try:
        train, test = open_sources(data, config.evaluate)
    except Refused as reason:
        if not (data.num_classes and data.train_images and data.test_images):
            raise
        progress.say(
            f"{reason} Planned from published numbers: {data.num_classes:,} classes, "
            f"{data.train_images:,} training and {data.test_images:,} test images."
        )
        train = CountedSource(data.num_classes, data.train_images)
        test = CountedSource(data.num_classes, data.test_images)
        return check(config, (train, test))
    sources = check(config, (train, test))
    describe(config, sources, progress)
    return sources


def _here(config: RunConfig, engine: Engine, rows: Sequence[PlanRow]) -> Machine:
    """Time the plan's steps with what a private cluster on this machine would have."""
    # a GPU that is asked for may be the named machine's
    here = replace(config.cluster, use_gpu=config.cluster.use_gpu and None)
    cores, seconds = os.cpu_count() or 1, config.cluster.plan_seconds
    return calibrate(rows, engine, local_resources(here), cores, seconds)


def _hours(values: Sequence[float]) -> str:
    return "".join(f"{_hour(value):>12}" for value in values)


def _hour(value: float) -> str:
    if value != value:
        return _UNKNOWN
    return f"{value:.3f}" if value < 100 else f"{value:.0f}"


def _size(count: float) -> str:
    return _UNKNOWN if count != count else byte_size(count)
