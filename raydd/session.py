"""One run: open the data, call the driver, judge its product, report.

The doors (``run``, ``sweep``) say which configuration; this is what they have in common.
"""

import os
from dataclasses import dataclass, replace
from typing import Any

from upath import UPath

from raydd.config import RunConfig, run_name, what
from raydd.data.sources import Source
from raydd.engine.cluster import Resources, connect, local_resources
from raydd.engine.engine import Engine
from raydd.engine.errors import Refused
from raydd.engine.judge import build_report, judge
from raydd.engine.plan import Planner
from raydd.engine.plan_calibrate import calibrate
from raydd.engine.plan_machines import named_machine
from raydd.engine.plan_source import CountedSource
from raydd.engine.plan_table import plan_lines
from raydd.engine.plan_work import Machine
from raydd.engine.product import Product
from raydd.engine.progress import Progress
from raydd.engine.stages import Guard, free
from raydd.engine.storage import open_storage
from raydd.engine.writer import write_product, write_report
from raydd.methods import DRIVERS
from raydd.opening import check_networks, claim_folder, make_engine, open_sources, preprocessing_of

Sources = tuple[Source, Source]


@dataclass(frozen=True)
class Place:
    """Where a run finds itself: alone, or among the trials of a sweep.

    Attributes:
        folder: of the run; None names it by its configuration, below the storage.
        guard: held while a stage is made, see :class:`raydd.engine.stages.Stages`.
        share: how many runs share the cluster.
    """

    folder: UPath | None = None
    guard: Guard = free
    share: int = 1


ALONE = Place()


def check(config: RunConfig, opened: Sources | None = None) -> Sources:
    """Open the data and refuse what cannot be run, before any work.

    Args:
        config: of the run.
        opened: its sources, where they are open already.
    Returns:
        Training and test source.
    Raises:
        Refused: the request cannot be carried out; nothing was written.
    """
    sources = opened or open_sources(config.dataset)
    _check_request(config, sources[0])
    return sources


def run(config: RunConfig, progress: Progress, place: Place = ALONE) -> dict[str, Any]:
    """Distil, judge and report.

    Returns:
        The report.
    Raises:
        Refused: the request cannot be carried out; nothing was written.
    """
    sources = check(config)
    folder = place.folder or run_folder(config)
    progress.say(
        f"[bold]{folder.name}[/bold]  {config.method.name} on {config.dataset.name}, "
        f"ipc {config.method.ipc}"
    )
    resources = connect(config.cluster).shared(place.share)  # silent for seconds
    folder = claim_folder(folder, what(config))
    engine = make_engine(
        Engine,
        config,
        sources,
        resources,
        progress,
        folder,
        config.labels,
        place.guard,
        config.validation,
    )
    product = _distil(engine, config)
    results = judge(engine, product, config.protocol) if config.evaluate else []
    sizes = write_product(
        folder / "distilled", engine, product, results, _about(config), config.export
    )
    report = build_report(engine, product, results, config.protocol, sizes, _about(config))
    write_report(folder, report, product, engine)
    return report


def run_folder(config: RunConfig) -> UPath:
    """The folder of a run that is alone."""
    return open_storage(config.storage) / run_name(config)


def _distil(engine: Engine, config: RunConfig) -> Product:
    """Call the driver; then label what it made, where the product shall carry labels."""
    product: Product = DRIVERS[type(config.method)](engine, config.method)
    recipe = config.protocol.resolve(product.counts).recipe
    product.labels = engine.relabel(product.images, product.teacher, recipe, "distilled")
    return product


def _check_request(config: RunConfig, train: Source) -> None:
    try:
        check_networks(config, preprocessing_of(config.dataset), len(train.class_names))
    except ValueError as error:
        raise Refused(str(error)) from error
    counts = train.class_counts()
    if counts is None:
        return
    smallest = int(counts.argmin())
    if counts[smallest] < config.method.ipc + config.validation:
        held_out = f" beside the {config.validation} of validation" if config.validation else ""
        raise Refused(
            f"method.ipc={config.method.ipc} is more than class {train.class_names[smallest]!r} "
            f"has{held_out}: {counts[smallest]} training images."
        )


def plan(config: RunConfig, progress: Progress) -> None:
    """Say what a run would do, how large it is and how long it takes; starts no Ray."""
    cluster = config.cluster
    named = [named_machine(cluster.plan_for)] if cluster.plan_for else []
    planner = walk(config, progress)
    machines = [*([this_machine(config, planner)] if cluster.plan_seconds else []), *named]
    for line in plan_lines(planner.rows, machines):
        progress.say(line)


def walk(config: RunConfig, progress: Progress) -> Planner:
    """Walk through a run's stages without work: the planner then has a row for each."""
    sources = _plan_sources(config, progress)
    nothing, storage = Resources(0, 0, False, 1, 1, 0), open_storage(config.storage)
    planner = make_engine(
        Planner,
        config,
        sources,
        nothing,
        progress,
        storage,
        config.labels,
        validation=config.validation,
    )
    product = _distil(planner, config)
    if config.evaluate:
        judge(planner, product, config.protocol)
    return planner


def _plan_sources(config: RunConfig, progress: Progress) -> tuple[Source, Source]:
    """The data, or their published numbers where they are not at hand."""
    data = config.dataset
    train: Source
    test: Source
    try:
        train, test = open_sources(data)
    except Refused as reason:
        if not (data.num_classes and data.train_images and data.test_images):
            raise
        progress.say(
            f"{reason} Planned from published numbers: {data.num_classes:,} classes, "
            f"{data.train_images:,} training and {data.test_images:,} test images."
        )
        train = CountedSource(data.num_classes, data.train_images)
        test = CountedSource(data.num_classes, data.test_images)
    _check_request(config, train)
    return train, test


def this_machine(config: RunConfig, planner: Planner) -> Machine:
    """Time the plan's steps with what a private cluster on this machine would have."""
    # a GPU that is asked for may be the named machine's
    here = replace(config.cluster, use_gpu=config.cluster.use_gpu and None)
    return calibrate(
        planner.rows,
        planner.train_source,
        planner.preprocessing,
        config.data.max_pixels,
        local_resources(here),
        os.cpu_count() or 1,
        config.cluster.plan_seconds,
    )


def _about(config: RunConfig) -> dict[str, Any]:
    return {
        "name": run_name(config),
        "method": config.method.name,
        "dataset": config.dataset.name,
        "licence": config.dataset.licence,
        "seed": config.seed,
        "ipc": config.method.ipc,
        "config": what(config),
    }
