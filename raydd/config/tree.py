"""The typed configuration tree of a run.

Every group's schema is the dataclass beside its component; the YAML files in ``configs/`` only set
values. Hydra composes, and answers unknown keys and wrong types before anything else runs.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING
from upath import UPath

from raydd.cluster.config import ClusterConfig
from raydd.cluster.resources import Resources
from raydd.config.compose import ConfigError, compose_tree, to_typed
from raydd.config.dataset import DatasetConfig, preprocessing_of
from raydd.config.sweep import TRACKERS, SweepConfig, parse_space
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source
from raydd.engine.engine import Engine
from raydd.engine.labels.data import LabelConfig
from raydd.engine.passes.stream import DataConfig
from raydd.engine.training.teacher import TeacherConfig
from raydd.judge.protocol import ProtocolConfig
from raydd.methods.acs import AcsConfig
from raydd.methods.ccfs import CcfsConfig
from raydd.methods.curricular import CurricularConfig
from raydd.methods.edc import EdcConfig
from raydd.models.registry import ModelConfig, create_meta_model
from raydd.ops.configs import check_choices, settled
from raydd.store.artifacts import Stages

_NAME = re.compile(r"\w[\w\-.,=+ ]*")


@dataclass
class CommonConfig:
    """What every door that works on a data set can be told.

    Attributes:
        dataset: the real images.
        teacher: the network that knows them.
        protocol: how images are judged.
        data: how real images are read.
        cluster: processes and devices.
        name: of the folder; null spells one and a hash of the rest.
        storage: local folder or object-store URI for results and shared stages.
        seed: of every random draw.
        verbose: say more.
    """

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    data: DataConfig = field(default_factory=DataConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    name: str | None = None
    storage: str = "runs"
    seed: int = 0
    verbose: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        if self.name == "stages":
            raise ValueError("name=stages is taken: the storage keeps its stages there")
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name={self.name} is no name of a folder below the storage: letters, digits and "
                "-_.,=+ are, and it begins with a letter or digit"
            )
        if self.protocol.labels == "hard" and self.protocol.recipe.hard_epochs:
            raise ValueError("protocol.recipe.hard_span needs protocol.labels=soft: all are hard")
        if self.teacher.recipe.hard_epochs:
            raise ValueError("teacher.recipe.hard_span has no use: a teacher learns hard labels")


@dataclass
class RunConfig(CommonConfig):
    """Everything ``python -m raydd.run`` can be told; see :class:`CommonConfig` for the rest.

    Attributes:
        method: knobs of the driver.
        labels: soft labels that the product carries.
        evaluate: judge the product and random real images of the same size.
        validation: real images per class that no selection takes; 0 judges on the test split, more
            judges on them. The teacher and statistics still see them.
        sweep: run the driver once per trial; null runs it once.
        tracker: where the metrics of a run, or of a sweep's trials, go, too: "none", "tensorboard"
            (below the run's folder; a sweep always has them), "wandb" or "mlflow".
        export: "none", "imagefolder" to write the product as PNG files too, or "indices" to write
            CCFS's ``selected_indices.json`` of its real images.
        plan: print stages, units, bytes, memory and hours, and stop.
    """

    method: Any = MISSING
    labels: LabelConfig = field(default_factory=LabelConfig)
    evaluate: bool = True
    validation: int = 0
    sweep: SweepConfig | None = None
    tracker: str = "none"
    export: str = "none"
    plan: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        super().__post_init__()
        check_choices(self, {"tracker": TRACKERS, "export": ("none", "imagefolder", "indices")})
        if self.validation < 0:
            raise ValueError(f"validation must be at least 0, got {self.validation}")
        if self.sweep and self.plan:
            raise ValueError("plan=true plans one run: leave the sweep out")
        if self.labels.form != "online" and self.protocol.labels == "hard":
            raise ValueError(f"labels.form={self.labels.form} needs protocol.labels=soft")


# Keys that say how a run is carried out, not what it makes: they may differ when it is continued.
INDIFFERENT_KEYS = ("cluster", "storage", "plan", "verbose", "export", "name", "sweep", "tracker")


def compose_config(overrides: Sequence[str]) -> RunConfig:
    """Compose and check the configuration of one run.

    Args:
        overrides: Hydra overrides, e.g. ``["dataset=cifar10", "method.ipc=50"]``.
    Returns:
        The typed tree.
    Raises:
        ConfigError: unknown key or group, wrong type or a value that cannot run.
    """
    config = to_typed(compose_tree(overrides), RunConfig)
    try:
        parse_space(config.sweep.space if config.sweep else {})
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return config


def run_name(config: RunConfig) -> str:
    """The run's name: as given, or spelled from its fields and a hash of everything it makes."""
    if config.name:
        return config.name
    return (
        f"{config.method.name}-{config.dataset.name}-ipc{config.method.ipc}-s{config.seed}-"
        f"{short_digest(decisive_values(config))}"
    )


def short_digest(values: dict[str, Any]) -> str:
    """Six hexadecimal digits that tell configurations apart in names."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:6]


def decisive_values(config: Any) -> dict[str, Any]:
    """The part of a door's configuration that decides what is made, as json values."""
    return {key: value for key, value in settled(config).items() if key not in INDIFFERENT_KEYS}


def check_networks(config: Any, preprocessing: Preprocessing, num_classes: int) -> None:
    """Build every network that a configuration names, without memory.

    Raises:
        ValueError: one that does not exist, or cannot see images of this size.
    """
    for model in _models(config):
        create_meta_model(model, num_classes, preprocessing.resolution)


def make_engine(
    config: CommonConfig,
    sources: tuple[Source, Source],
    resources: Resources,
    stages: Stages,
    folder: UPath,
) -> Engine:
    """What the stages of one run are given.

    Args:
        config: of the run.
        sources: training and test split.
        resources: workers and devices.
        stages: of the run's storage.
        folder: of the run; its journal goes there.
    """
    data = config.dataset
    return Engine(
        stages=stages,
        train_source=sources[0],
        test_source=sources[1],
        preprocessing=preprocessing_of(data),
        flip=data.flip,
        teacher=config.teacher,
        data=config.data,
        resources=resources,
        seed=config.seed,
        labels=config.labels if isinstance(config, RunConfig) else LabelConfig(),
        journal=str(folder / "metrics.jsonl"),
        validation=config.validation if isinstance(config, RunConfig) else 0,
        known_images=(data.train_images, data.test_images),
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


def _register() -> None:
    store = ConfigStore.instance()
    store.store(name="run_schema", node=RunConfig)
    store.store(group="method", name="acs_schema", node=AcsConfig)
    store.store(group="method", name="ccfs_schema", node=CcfsConfig)
    store.store(group="method", name="curricular_schema", node=CurricularConfig)
    store.store(group="method", name="edc_schema", node=EdcConfig)
    store.store(group="dataset", name="dataset_schema", node=DatasetConfig)
    store.store(group="teacher", name="teacher_schema", node=TeacherConfig)
    store.store(group="protocol", name="protocol_schema", node=ProtocolConfig)
    store.store(group="sweep", name="sweep_schema", node=SweepConfig)
    store.store(group="cluster", name="cluster_schema", node=ClusterConfig)


_register()  # compose_tree finds what is registered by then
