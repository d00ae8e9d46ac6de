"""An engine around one source, for benchmarks that call a stage of it."""

from pathlib import Path

from upath import UPath

from raydd.cluster.resources import Resources
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source
from raydd.engine.engine import Engine
from raydd.engine.labels.data import LabelConfig
from raydd.engine.passes.stream import DataConfig
from raydd.engine.training.teacher import TeacherConfig
from raydd.store.artifacts import Stages
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
