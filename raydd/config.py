"""The typed configuration tree of a run.

Every group's schema is the dataclass beside its component; the YAML files in ``configs/`` only set
values. Hydra composes, and answers unknown keys and wrong types before anything else runs.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from raydd.composing import ConfigError, compose_tree, to_typed
from raydd.engine.cluster_config import ClusterConfig
from raydd.engine.data_config import DataConfig
from raydd.engine.evaluate import ProtocolConfig
from raydd.engine.labels import LabelConfig
from raydd.engine.squeeze import TeacherConfig
from raydd.engine.sweep_config import SweepConfig
from raydd.engine.trackers import TRACKERS
from raydd.methods.acs import AcsConfig
from raydd.methods.ccfs import CcfsConfig
from raydd.methods.curricular import CurricularConfig
from raydd.methods.edc import EdcConfig
from raydd.ops.checks import check_choices
from raydd.space import parse_space


@dataclass
class DatasetConfig:
    """A real data set: where it lies and how networks see it.

    Attributes:
        name: in run names and reports.
        kind: "digits", "imagefolder", "parquet" or "webdataset".
        root: local folder or any fsspec URI.
        split_train: name of the training split.
        split_test: name of the split that judges.
        num_classes: C; null reads it from the data.
        classes_file: text file with one class name per line; null reads the names from the data.
        image_column: of a parquet source.
        label_column: of a parquet source.
        resolution: side of a network's input, pixels.
        resize: shorter side before the centre crop, pixels.
        mean: per channel, of pixels in [0, 1].
        std: per channel, of pixels in [0, 1].
        flip: probability of a mirrored view; 0 where mirror images mean something else.
        licence: of the images; the distilled set inherits it.
        gated: whether the public copy asks for an accepted licence.
        train_images: of the public training split: ``plan=true`` counts with it where the data are
            not at hand; null needs the data.
        test_images: the same of the test split.
    """

    name: str = MISSING
    kind: str = MISSING
    root: str = MISSING
    split_train: str = "train"
    split_test: str = "test"
    num_classes: int | None = None
    classes_file: str | None = None
    image_column: str = "image"
    label_column: str = "label"
    resolution: int = MISSING
    resize: int = MISSING
    mean: tuple[float, float, float] = MISSING
    std: tuple[float, float, float] = MISSING
    flip: float = 0.5
    licence: str = "unknown"
    gated: bool = False
    train_images: int | None = None
    test_images: int | None = None


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
        tracker: where a sweep's metrics go, too: "none", "tensorboard" (Tune always writes its
            files), "wandb" or "mlflow".
        export: "none", or "imagefolder" to write the product as PNG files too.
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
        check_choices(self, {"tracker": TRACKERS})
        if self.validation < 0:
            raise ValueError(f"validation must be at least 0, got {self.validation}")
        if self.tracker != "none" and self.sweep is None:
            raise ValueError(f"tracker={self.tracker} follows the trials of a sweep: add sweep=")
        if self.sweep and self.plan:
            raise ValueError("plan=true plans one run: leave the sweep out")
        if self.export not in ("none", "imagefolder"):
            raise ValueError(f"export must be none or imagefolder, got {self.export!r}")
        if self.labels.form != "online" and self.protocol.labels == "hard":
            raise ValueError(f"labels.form={self.labels.form} needs protocol.labels=soft")


# Keys that say how a run is carried out, not what it makes: they may differ when it is continued.
HOW = ("cluster", "storage", "plan", "verbose", "export", "name", "sweep", "tracker")


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
        f"{short_digest(what(config))}"
    )


def short_digest(values: dict[str, Any]) -> str:
    """Six hexadecimal digits that tell configurations apart in names."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:6]


def what(config: Any) -> dict[str, Any]:
    """The part of a door's configuration that decides what is made, as json values."""
    values = {key: value for key, value in asdict(config).items() if key not in HOW}
    return json.loads(json.dumps(values))


def differing_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the keys whose values differ between two nested dictionaries."""
    keys: list[str] = []
    for key in sorted({*old, *new}):
        ours, theirs = old.get(key), new.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            keys += differing_keys(ours, theirs, f"{prefix}{key}.")
        elif ours != theirs:
            keys.append(prefix + key)
    return keys


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
