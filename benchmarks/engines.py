"""An engine around one source and a network, for benchmarks that call a stage of it."""

from pathlib import Path

import torch
from upath import UPath

from raydd.cluster.resources import Resources
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source
from raydd.engine.engine import Engine
from raydd.engine.labels.data import LabelConfig
from raydd.engine.passes.stream import DataConfig
from raydd.engine.training.teacher import TeacherConfig
from raydd.models.registry import ModelConfig, create_model
from raydd.store.artifacts import Artifact, Stages
from raydd.store.checkpoint import CheckpointCard, save_checkpoint
from raydd.store.progress import Progress


def make_engine(
    storage: str | Path,
    source: Source,
    preprocessing: Preprocessing,
    resources: Resources,
    data: DataConfig | None = None,
) -> Engine:
    """An engine that keeps its stages below ``storage``; nothing is mirrored, the seed is 0."""
    return Engine(
        stages=Stages(UPath(storage), Progress()),
        train_source=source,
        test_source=source,
        preprocessing=preprocessing,
        flip=0.0,
        teacher=TeacherConfig(),
        data=data or DataConfig(),
        resources=resources,
        seed=0,
        labels=LabelConfig(),
    )


def fresh_checkpoint(
    folder: Path, model: ModelConfig, names: tuple[str, ...], preprocessing: Preprocessing
) -> Artifact:
    """An untrained network as a finished checkpoint: it takes as long as a trained one."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = create_model(model, len(names), preprocessing.resolution).eval()
    save_checkpoint(UPath(folder), network, CheckpointCard(model, names, preprocessing))
    return Artifact(UPath(folder), folder.name, stage="squeeze")
