"""What every door does with its configuration before work begins."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from upath import UPath

from raydd.config import DatasetConfig, differing_keys
from raydd.data.classes import read_class_names
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source, open_source
from raydd.engine.cluster import Resources
from raydd.engine.data_config import DataConfig
from raydd.engine.engine import Engine
from raydd.engine.errors import Refused
from raydd.engine.labels import LabelConfig
from raydd.engine.progress import Progress
from raydd.engine.squeeze import TeacherConfig
from raydd.engine.stages import Guard, Stages, free, write_atomic
from raydd.engine.storage import open_storage
from raydd.models.registry import ModelConfig, create_meta_model

EngineKind = TypeVar("EngineKind", bound=Engine)


class Opened(Protocol):
    """The part of a configuration that every door has."""

    dataset: DatasetConfig
    teacher: TeacherConfig
    data: DataConfig
    storage: str
    seed: int


def open_sources(data: DatasetConfig) -> tuple[Source, Source]:
    """Open the training and the test split of a real data set.

    Raises:
        Refused: a split, a root or a class list that is not as the configuration says.
    """
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


def preprocessing_of(data: DatasetConfig) -> Preprocessing:
    """The data set's own preprocessing; ValueError where its numbers make none."""
    return Preprocessing(data.resolution, data.resize, data.mean, data.std)


def check_networks(config: Any, preprocessing: Preprocessing, num_classes: int) -> None:
    """Build every network that a configuration names, without memory.

    Raises:
        ValueError: one that does not exist, or cannot see images of this size.
    """
    for model in _models(config):
        create_meta_model(model, num_classes, preprocessing.resolution)


def claim_folder(folder: UPath, what: Mapping[str, Any]) -> UPath:
    """Make a run's folder, or continue in it if it belongs to the same configuration.

    Args:
        folder: of the run; ``config.json`` in it says whose it is.
        what: everything that decides what the run makes, as json values.
    Raises:
        Refused: the folder belongs to another configuration.
    """
    record = folder / "config.json"
    if record.exists():
        keys = differing_keys(json.loads(record.read_text()), dict(what))
        if keys:
            raise Refused(
                f"the run {folder.name!r} exists with another configuration; these keys differ: "
                f"{', '.join(keys)}. Choose another name=."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(record, json.dumps(what, indent=1).encode())
    return folder


def make_engine(
    kind: type[EngineKind],
    config: Opened,
    sources: tuple[Source, Source],
    resources: Resources,
    progress: Progress,
    folder: UPath,
    labels: LabelConfig,
    guard: Guard = free,
    validation: int = 0,
) -> EngineKind:
    """The stages of one run.

    Args:
        kind: an engine, or what plans its stages.
        config: of the run.
        sources: training and test split.
        resources: workers and devices.
        progress: tells what is being done.
        folder: of the run; its journal goes there.
        labels: form of the soft labels.
        guard: of its stages, where several runs make them.
        validation: images per class that are held out.
    """
    return kind(
        stages=Stages(open_storage(config.storage), progress, guard),
        train_source=sources[0],
        test_source=sources[1],
        preprocessing=preprocessing_of(config.dataset),
        flip=config.dataset.flip,
        teacher=config.teacher,
        data=config.data,
        resources=resources,
        seed=config.seed,
        journal=str(folder / "metrics.jsonl"),
        labels=labels,
        validation=validation,
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
