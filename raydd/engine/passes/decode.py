"""Decode a source once and keep its pixels on disk: a teacher's training set, the test split.

A training set above ``data.memory_limit_mb`` of pixels is streamed at every epoch instead; the test
split is read back a part at a time (:mod:`raydd.store.images`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data as rd
from upath import UPath

from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import decode_rows, pixel_column
from raydd.data.sources import Source
from raydd.engine.passes.stream import DataConfig, encoded_rows, run_pass
from raydd.store.artifacts import Artifact, Stages
from raydd.store.tables import part_files, read_table


def count_classes(stages: Stages, source: Source) -> np.ndarray:
    """Stage ``count``: images of each class, int64 [C], where only a pass can tell."""

    def work(folder: UPath) -> dict[str, Any]:
        run_pass(folder, source, lambda rows: rows.drop_columns(["image"]), max_rejected=1.0)
        return {"counts": count_labels(folder, len(source.class_names)).tolist()}

    artifact = stages.run(
        "count", work, inputs=[source.fingerprint], config=None, seed=0, title="classes"
    )
    return np.array(artifact.summary["counts"], np.int64)


def count_labels(folder: UPath, num_classes: int) -> np.ndarray:
    """Rows of each class in the parts of a finished pass, int64 [C]."""
    counts = np.zeros(num_classes, np.int64)
    for path in part_files(folder):
        labels = read_table(path, ["class_index"])["class_index"].to_numpy()
        counts += np.bincount(labels, minlength=num_classes)
    return counts


def decode_source(
    stages: Stages, source: Source, split: str, preprocessing: Preprocessing, config: DataConfig
) -> Artifact:
    """Stage ``decode``: the pixels of every good image, uint8, one part file per shard."""
    return _decode(stages, source, split, preprocessing, config, kept=True)


def list_images(
    stages: Stages, source: Source, preprocessing: Preprocessing, config: DataConfig
) -> Artifact:
    """Stage ``list``: id, class_index and row of every training image that can be decoded."""
    return _decode(stages, source, "train", preprocessing, config, kept=False)


def _decode(
    stages: Stages,
    source: Source,
    title: str,
    preprocessing: Preprocessing,
    config: DataConfig,
    kept: bool,
) -> Artifact:
    def decode_batch(batch: pa.Table) -> pa.Table:
        pixels, reasons = decode_rows(batch, preprocessing, config.max_pixels)
        batch = batch.drop_columns(["image"])
        if kept:
            batch = batch.append_column("pixels", pixel_column(pixels))
        return batch.set_column(
            batch.schema.get_field_index("reason"), "reason", pa.array(reasons, pa.string())
        )

    def transform(rows: rd.Dataset) -> rd.Dataset:
        return rows.map_batches(decode_batch, batch_size=256, batch_format="pyarrow")

    return stages.run(
        "decode" if kept else "list",
        lambda folder: run_pass(folder, source, transform, config.max_rejected),
        inputs=[source.fingerprint],
        config={
            "size": [preprocessing.resolution, preprocessing.resize],
            "max_pixels": config.max_pixels,
        },
        seed=0,  # decoding draws nothing: every seed shares it
        title=title,
    )


def stream_pixels(source: Source, preprocessing: Preprocessing, config: DataConfig) -> rd.Dataset:
    """Dataset of (pixels uint8 [R, R, 3], class_index, shard, row), for sets beyond memory."""

    def decode_batch(batch: pa.Table) -> dict[str, np.ndarray]:
        pixels, reasons = decode_rows(batch, preprocessing, config.max_pixels)
        good = np.array([not reason for reason in reasons])
        columns = ("class_index", "shard", "row")
        return {"pixels": pixels[good]} | {n: batch.column(n).to_numpy()[good] for n in columns}

    rows = encoded_rows(source, dict(enumerate(source.shards()))).randomize_block_order(seed=0)
    return rows.map_batches(decode_batch, batch_size=256, batch_format="pyarrow")


@dataclass(frozen=True)
class RealImages:
    """Where a training finds the real images.

    Attributes:
        folders: of the decoded images; empty where they are streamed.
        datasets: streamed images, by the name that a loop asks for; None where they are decoded.
        origin: what a stage that reads them names as its input.
    """

    folders: tuple[str, ...]
    datasets: Mapping[str, rd.Dataset] | None
    origin: Artifact | str


def place_images(
    stages: Stages, source: Source, preprocessing: Preprocessing, count: int, data: DataConfig
) -> RealImages:
    """Decode the real training images once if they fit in memory, else stream them.

    Args:
        stages: where decoded images are kept.
        source: the real training images.
        preprocessing: of the stored images.
        count: images in the source.
        data: memory limit, and how images are read.
    """
    if count * preprocessing.resolution**2 * 3 <= data.memory_limit_mb << 20:
        real = decode_source(stages, source, "train", preprocessing, data)
        return RealImages((str(real.folder),), None, real)
    streamed = {"train": stream_pixels(source, preprocessing, data)}
    return RealImages((), streamed, source.fingerprint)
