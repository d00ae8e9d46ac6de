"""A small engine over the embedded digits; everything real, only small."""

from pathlib import Path

import pyarrow as pa
import torch
from upath import UPath

from raydd.cluster.resources import Resources
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import image_table
from raydd.data.sources import Source, open_source
from raydd.engine.engine import Engine
from raydd.engine.labels.data import LabelConfig
from raydd.engine.passes.stream import DataConfig
from raydd.engine.synthesis.teacher import SynthesisConfig
from raydd.engine.training.teacher import TeacherConfig
from raydd.models.registry import ModelConfig
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Stages
from raydd.store.progress import Progress
from raydd.store.tables import part_files, read_table, write_table

TINY = ModelConfig("resnet10_thin", width=8)
PREPROCESSING = Preprocessing(16, 16, (0.3, 0.3, 0.3), (0.32, 0.32, 0.32))
RECIPE = Recipe(
    epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.1, crop="pad", padding=2, mix="none"
)
SYNTHESIS = SynthesisConfig(steps=4, batch_size=10, roll=(0, 4), precision="fp32")


def resources(num_workers: int = 0, parallel: int = 1) -> Resources:
    return Resources(
        num_workers,
        num_workers,
        use_gpu=False,
        threads_per_worker=1,
        parallel=parallel,
        max_failures=2,
        parallel_cpu=parallel,
    )


def make_engine(
    folder: Path,
    *,
    source: Source | None = None,
    num_workers: int = 0,
    parallel: int = 1,
    data: DataConfig | None = None,
    teacher: TeacherConfig | None = None,
    labels: LabelConfig | None = None,
) -> Engine:
    train = source or open_source("digits", "", "train")
    return Engine(
        stages=Stages(UPath(folder), Progress()),
        train_source=train,
        test_source=open_source("digits", "", "test"),
        preprocessing=PREPROCESSING,
        flip=0.0,
        teacher=teacher or TeacherConfig(TINY, RECIPE),
        data=data or DataConfig(),
        resources=resources(num_workers, parallel),
        seed=0,
        labels=labels or LabelConfig(),
        journal=str(folder / "metrics.jsonl"),
    )


def write_images(folder: Path, count: int = 200) -> str:
    """An artifact of images of 16 pixels whose class is their brightness."""
    labels = torch.arange(count) % 10
    draws = torch.Generator().manual_seed(0)
    noise = torch.randint(20, (count, 16, 16, 3), generator=draws)
    pixels = (labels[:, None, None, None] * 25 + noise).to(torch.uint8)
    (folder / "parts").mkdir(parents=True)
    table = image_table(
        pixels.numpy(), labels.tolist(), list(range(count)), 0, [None] * count, "synthetic"
    )
    write_table(UPath(folder / "parts" / "00000.parquet"), table)
    return str(folder)


def columns_of(artifact):
    """Columns of a score table, numpy arrays by name."""
    table = pa.concat_tables(read_table(path) for path in part_files(artifact.folder))
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
