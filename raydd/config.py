"""The typed configuration tree and how a command line becomes one.

Every group's schema is the dataclass beside its component; the YAML files in ``configs/`` only set
values. Hydra composes, and answers unknown keys and wrong types before anything else runs.
"""

import difflib
import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from raydd.engine.cluster import ClusterConfig
from raydd.engine.evaluate import ProtocolConfig
from raydd.engine.labels import LabelConfig
from raydd.engine.pixels import DataConfig
from raydd.engine.squeeze import TeacherConfig
from raydd.engine.sweep_config import SweepConfig
from raydd.engine.trackers import TRACKERS
from raydd.methods.acs import AcsConfig
from raydd.methods.ccfs import CcfsConfig
from raydd.methods.curricular import CurricularConfig
from raydd.methods.edc import EdcConfig
from raydd.ops.checks import check_choices
from raydd.space import parse_space, split_space


class ConfigError(ValueError):
    """The command line does not describe a run; the text is one sentence."""


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


@dataclass
class RunConfig:
    """Everything ``python -m raydd.run`` can be told.

    Attributes:
        method: knobs of the driver.
        dataset: the real images.
        teacher: the network that knows them.
        protocol: how the product is judged.
        labels: soft labels that the product carries.
        data: how real images are read.
        cluster: processes and devices.
        name: of the run's folder; null spells method, data set, ipc, seed and a hash of the rest.
        storage: local folder or object-store URI for runs and shared stages.
        seed: of every random draw.
        evaluate: judge the product and random real images of the same size.
        validation: real images per class that no selection takes; 0 judges on the test split, more
            judges on them. The teacher and statistics still see them.
        sweep: run the driver once per trial; null runs it once.
        tracker: where a sweep's metrics go, too: "none", "tensorboard" (Tune always writes its
            files), "wandb" or "mlflow".
        export: "none", or "imagefolder" to write the product as PNG files too.
        plan: print stages, units, bytes and memory, and stop.
        verbose: say more.
    """

    method: Any = MISSING
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    name: str | None = None
    storage: str = "runs"
    seed: int = 0
    evaluate: bool = True
    validation: int = 0
    sweep: SweepConfig | None = None
    tracker: str = "none"
    export: str = "none"
    plan: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        if self.name == "stages":
            raise ValueError("name=stages is taken: the storage keeps its stages there")
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


def config_dir() -> Path:
    """Folder of the YAML files: inside an installed package, else at the top of the checkout."""
    package = Path(__file__).parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def compose_config(overrides: Sequence[str]) -> RunConfig:
    """Compose and check the configuration of one run.

    Args:
        overrides: Hydra overrides, e.g. ``["dataset=cifar10", "method.ipc=50"]``.
    Returns:
        The typed tree.
    Raises:
        ConfigError: unknown key or group, wrong type or a value that cannot run.
    """
    tree = compose_tree(overrides)
    try:
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        raise ConfigError(_sentence(error)) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error
    assert isinstance(config, RunConfig)
    try:
        parse_space(config.sweep.space if config.sweep else {})
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return config


def compose_tree(overrides: Sequence[str]) -> DictConfig:
    """Compose the tree that ``--cfg job`` prints."""
    _register()
    words, space = split_space(overrides)
    if space and not any(word.startswith("sweep=") for word in words):
        words = [*words, "sweep=grid"]
    try:
        with initialize_config_dir(str(config_dir().resolve()), version_base=None):
            tree = compose("config", overrides=words)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_sentence(error)) from error
    with open_dict(tree):
        for key, text in space.items():
            tree.sweep.space[key] = text
    return tree


def run_name(config: RunConfig) -> str:
    """The run's name: as given, or spelled from its fields and a hash of everything it makes."""
    if config.name:
        return config.name
    digest = config_digest(what(config))
    return (
        f"{config.method.name}-{config.dataset.name}-ipc{config.method.ipc}-s{config.seed}-{digest}"
    )


def config_digest(values: dict[str, Any]) -> str:
    """Six characters that name a configuration."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:6]


def what(config: RunConfig) -> dict[str, Any]:
    """The part of a configuration that decides what the run makes, as json values."""
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


@functools.cache
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


def _sentence(error: Exception) -> str:
    """Say in one sentence what Hydra or OmegaConf found wrong, and what would be right."""
    text = f"{error}\n{error.__cause__ or ''}"
    if found := re.search(r"Could not override '([^']+)'", text):
        return f"there is no key {found[1]!r}{_close(found[1])} (--cfg job prints them all)."
    if found := re.search(r"Could not find '(\w+)/([^']+)'", text):
        choices = sorted(path.stem for path in (config_dir() / found[1]).glob("*.yaml"))
        return f"there is no {found[1]} {found[2]!r}; choose one of {', '.join(choices)}."
    key = re.search(r"full_key: (\S+)", text)
    if found := re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", text):
        return f"{key[1] if key else 'a key'} takes {found[2].lower()} values, got {found[1]!r}."
    if found := re.search(r"Error parsing override '([^']*)'", text):
        return f"{found[1]!r} is not of the form key=value."
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _close(key: str) -> str:
    def flatten(node: Any, prefix: str = "") -> list[str]:
        if not isinstance(node, DictConfig):
            return [prefix[:-1]]
        return [
            name for k in map(str, node) for name in flatten(node._get_node(k), f"{prefix}{k}.")
        ]

    close = difflib.get_close_matches(key, flatten(compose_tree([])), n=1, cutoff=0.7)
    return f", did you mean {close[0]!r}?" if close else ""
