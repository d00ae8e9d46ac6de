"""One run: open the data, call the driver, judge its product, report.

The doors (``run``, ``sweep``) say which configuration; this is what they have in common.
"""

from typing import Any

from upath import UPath

from raydd.cluster.connect import connect_when_needed
from raydd.config.dataset import open_sources, preprocessing_of
from raydd.config.describe import describe_sizes, describe_splits, enter_folder, judged_on
from raydd.config.tree import RunConfig, check_networks, decisive_values, make_engine, run_name
from raydd.data.sources import Source
from raydd.engine.engine import Engine
from raydd.engine.labels.relabel import relabel
from raydd.engine.passes.decode import check_no_class_is_empty
from raydd.engine.product import Product
from raydd.errors import Refused
from raydd.judge.product import judge
from raydd.methods import DRIVERS
from raydd.report.gather import build_report
from raydd.report.tracker import check_tracker, tracking
from raydd.report.verdict import measured
from raydd.report.write import write_product, write_report
from raydd.store.artifacts import Guard, Stages, unguarded
from raydd.store.failure import kept_error
from raydd.store.files import open_storage
from raydd.store.progress import Progress

Sources = tuple[Source, Source]


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
    sources = opened or open_sources(config.dataset, config.evaluate)
    _check_request(config, sources[0])
    return sources


def describe(config: RunConfig, sources: Sources, progress: Progress) -> None:
    """Say which images there are."""
    progress.note(describe_splits(*sources))
    if sizes := describe_sizes(sources[0], preprocessing_of(config.dataset)):
        progress.note(sizes)


def run(
    config: RunConfig,
    progress: Progress,
    folder: UPath | None = None,
    guard: Guard = unguarded,
    share: int = 1,
) -> dict[str, Any]:
    """Distil, judge and report.

    Args:
        config: of the run.
        progress: says what is being done.
        folder: of the run; None names it by its configuration, below the storage.
        guard: held while a stage is made, see :class:`raydd.store.artifacts.Stages`.
        share: how many runs share the cluster: trials of a sweep.
    Returns:
        The report.
    Raises:
        Refused: the request cannot be carried out; nothing was written.
    """
    sources = check(config)
    check_tracker(config.tracker)
    folder = folder or run_folder(config)
    progress.say(
        (folder.name, "bold"),
        f"  {config.method.name} on {config.dataset.name}, ipc {config.method.ipc}",
    )
    describe(config, sources, progress)
    folder = enter_folder(folder, decisive_values(config), sources, progress)
    with kept_error(folder):
        resources, begin = connect_when_needed(config.cluster, say=progress.note)
        stages = Stages(open_storage(config.storage), progress, guard, begin)
        engine = make_engine(config, sources, resources.shared(share), stages, folder)
        with tracking(config.tracker, folder, decisive_values(config)) as conclude:
            report = _carry_out(config, engine, folder, sources[1])
            conclude(measured(report))
    return report


def _carry_out(config: RunConfig, engine: Engine, folder: UPath, test: Source) -> dict[str, Any]:
    product = distil(engine, config)
    engine, about = engine.seen_by(product.teacher), _about(config, test)
    results = judge(engine, product, config.protocol) if config.evaluate else []
    sizes = write_product(folder / "distilled", engine, product, results, about, config.export)
    report = build_report(engine, product, results, config.protocol, sizes, about)
    write_report(folder, report, product, engine)
    return report


def run_folder(config: RunConfig) -> UPath:
    """The folder of a run that is alone."""
    return open_storage(config.storage) / run_name(config)


def distil(engine: Engine, config: RunConfig) -> Product:
    """Call the driver; then label what it made, where the product shall carry labels."""
    product: Product = DRIVERS[type(config.method)](engine, config.method)
    recipe = config.protocol.resolve(product.counts).recipe
    engine = engine.seen_by(product.teacher)
    product.labels = relabel(engine, product.images, product.teacher, recipe, "distilled")
    return product


def _check_request(config: RunConfig, train: Source) -> None:
    try:
        check_networks(config, preprocessing_of(config.dataset), len(train.class_names))
    except ValueError as error:
        raise Refused(str(error)) from error
    counts, needed = train.class_counts(), config.method.real_ipc() + config.validation
    if counts is None:
        return
    check_no_class_is_empty(counts, train.class_names)
    smallest = int(counts.argmin())
    if counts[smallest] < needed:
        held_out = f" beside the {config.validation} of validation" if config.validation else ""
        raise Refused(
            f"method.ipc={config.method.ipc} is more than class {train.class_names[smallest]!r} "
            f"has{held_out}: {counts[smallest]} training images."
        )


def _about(config: RunConfig, test: Source) -> dict[str, Any]:
    return {
        "name": run_name(config),
        "method": config.method.name,
        "dataset": config.dataset.name,
        "licence": config.dataset.licence,
        "seed": config.seed,
        "ipc": config.method.ipc,
        "judged_on": _judged_on(config, test),
        "config": decisive_values(config),
    }


def _judged_on(config: RunConfig, test: Source) -> str:
    """Which images the networks are judged on, for people."""
    if config.validation:
        return f"{config.validation} real images per class, held out of every selection"
    return judged_on(config.dataset, test)
