"""One run: open the data, call the driver, judge its product, report.

The doors (``run``, ``sweep``) say which configuration; this is what they have in common.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, TypeVar

from upath import UPath

from raydd.config import RunConfig, differing_keys, run_name, what
from raydd.data.classes import read_class_names
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source, open_source
from raydd.engine.cluster import Resources, connect
from raydd.engine.engine import Engine
from raydd.engine.errors import Refused
from raydd.engine.judge import build_report, judge
from raydd.engine.plan import Planner
from raydd.engine.plan_table import plan_lines
from raydd.engine.product import Product
from raydd.engine.progress import Progress
from raydd.engine.stages import Guard, Stages, free, write_atomic
from raydd.engine.storage import open_storage
from raydd.engine.writer import write_product, write_report
from raydd.methods import DRIVERS
from raydd.models.registry import ModelConfig, create_meta_model

EngineKind = TypeVar("EngineKind", bound=Engine)


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


def check(config: RunConfig) -> tuple[Source, Source]:
    """Open the data and refuse what cannot be run, before any work.

    Returns:
        Training and test source.
    Raises:
        Refused: the request cannot be carried out; nothing was written.
    """
    train, test = _open_sources(config)
    _check_request(config, train)
    return train, test


def run(config: RunConfig, progress: Progress, place: Place = ALONE) -> dict[str, Any]:
    """Distil, judge and report.

    Returns:
        The report.
    Raises:
        Refused: the request cannot be carried out; nothing was written.
    """
    train, test = check(config)
    resources = connect(config.cluster).shared(place.share)
    folder = claim_folder(place.folder or run_folder(config), what(config))
    engine = _engine(Engine, config, train, test, resources, progress, folder, place.guard)
    progress.say(
        f"[bold]{folder.name}[/bold]  {config.method.name} on {config.dataset.name}, "
        f"ipc {config.method.ipc}"
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


def claim_folder(folder: UPath, record: dict[str, Any]) -> UPath:
    """Make a folder that belongs to a configuration, or continue in it.

    Args:
        folder: of a run or a sweep; ``config.json`` in it says whose it is.
        record: the configuration, as json values.
    Raises:
        Refused: it belongs to another configuration.
    """
    path = folder / "config.json"
    if path.exists():
        keys = differing_keys(json.loads(path.read_text()), record)
        if keys:
            raise Refused(
                f"the run {folder.name!r} exists with another configuration; these keys differ: "
                f"{', '.join(keys)}. Choose another name=."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(record, indent=1).encode())
    return folder


def _distil(engine: Engine, config: RunConfig) -> Product:
    """Call the driver; then label what it made, where the product shall carry labels."""
    product: Product = DRIVERS[type(config.method)](engine, config.method)
    recipe = config.protocol.resolve(product.counts).recipe
    product.labels = engine.relabel(product.images, product.teacher, recipe, "distilled")
    return product


def _open_sources(config: RunConfig) -> tuple[Source, Source]:
    data = config.dataset
    read = partial(
        open_source,
        data.kind,
        data.root,
        image_column=data.image_column,
        label_column=data.label_column,
    )
    try:
        names = read_class_names(data.classes_file) if data.classes_file else None
        train = read(data.split_train, class_names=names, num_classes=data.num_classes)
        test = read(data.split_test, class_names=train.class_names)
    except ValueError as error:
        gated = " (this data set is gated: accept its licence on the Hub and log in)"
        raise Refused(f"{error}{gated if data.gated else ''}") from error
    return train, test


def _check_request(config: RunConfig, train: Source) -> None:
    try:
        preprocessing = _preprocessing(config)
        for model in _models(config):
            create_meta_model(model, len(train.class_names), preprocessing.resolution)
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


def _models(config: Any) -> Iterator[ModelConfig]:
    """Every network that a configuration names."""
    if isinstance(config, ModelConfig):
        yield config
    elif isinstance(config, list):
        for item in config:
            yield from _models(item)
    elif is_dataclass(config):
        for entry in fields(config):
            yield from _models(getattr(config, entry.name))


def _preprocessing(config: RunConfig) -> Preprocessing:
    data = config.dataset
    return Preprocessing(data.resolution, data.resize, data.mean, data.std)


def _engine(
    kind: type[EngineKind],
    config: RunConfig,
    train: Source,
    test: Source,
    resources: Resources,
    progress: Progress,
    folder: UPath,
    guard: Guard = free,
) -> EngineKind:
    return kind(
        stages=Stages(open_storage(config.storage), progress, guard),
        train_source=train,
        test_source=test,
        preprocessing=_preprocessing(config),
        flip=config.dataset.flip,
        teacher=config.teacher,
        data=config.data,
        resources=resources,
        seed=config.seed,
        journal=str(folder / "metrics.jsonl"),
        labels=config.labels,
        validation=config.validation,
    )


def plan(config: RunConfig, progress: Progress) -> None:
    """Say what a run would do, and how large it is."""
    train, test = check(config)
    nothing = Resources(0, False, 1, 1, 0)
    planner = _engine(Planner, config, train, test, nothing, progress, open_storage(config.storage))
    product = _distil(planner, config)
    if config.evaluate:
        judge(planner, product, config.protocol)
    for line in plan_lines(planner.rows):
        progress.say(line)


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
