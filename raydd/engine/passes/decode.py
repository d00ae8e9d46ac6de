"""Decode a source once and keep its pixels on disk: a teacher's training set, the test split.

A training set above ``data.memory_limit_mb`` of pixels is streamed at every epoch instead; the test
split is read back a part at a time (:mod:`raydd.store.images`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import pixel_array
from raydd.data.sources import Source
from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.engine.passes.feed import decoded_rows, decoding
from raydd.engine.passes.stream import map_pass
from raydd.errors import Refused
from raydd.store.artifacts import Artifact, digest_stage
from raydd.store.tables import part_files, read_table
from raydd.store.units import PART

if TYPE_CHECKING:
    import ray.data as rd


def class_counts(engine: Engine) -> np.ndarray:
    """Images of each class [C], counted by a pass where the source does not know.

    int64; float and nan in the plan of a run whose source nobody has counted.
    """
    counts = engine.train_source.class_counts()
    if counts is None:
        counts = np.array(count(engine).summary["counts"])
        check_no_class_is_empty(counts, engine.class_names)
    return counts


def check_no_class_is_empty(counts: np.ndarray, class_names: Sequence[str]) -> None:
    """Refuse classes of which ``counts``, ``(num_classes,)``, has no training image."""
    if not counts.all():
        raise Refused(
            f"class {class_names[int(counts.argmin())]!r} has no training images: leave it out "
            "with dataset.classes, or correct dataset.num_classes or the class list."
        )


def count(engine: Engine) -> Artifact:
    """Stage ``count``: images of each class, where only a pass can tell."""
    source, classes = engine.train_source, engine.num_classes

    def work(folder: UPath) -> dict[str, Any]:
        map_pass(folder, source, lambda batch: batch.drop_columns(["image"]), max_rejected=1.0)
        return {"counts": count_labels(folder, classes).tolist()}

    return engine.stages.run(
        "count",
        work,
        inputs=[source.fingerprint],
        config=None,
        seed=0,
        cost=lambda: Cost(reads=engine.encoded_bytes(engine.num_images)),
        expected=lambda: {"counts": [engine.num_images / classes] * classes},
        title="classes",
        units=len(source.shards()),
        done=[PART],
    )


def count_labels(folder: UPath, num_classes: int) -> np.ndarray:
    """Rows of each class in the parts of a finished pass, int64 [C]."""
    counts = np.zeros(num_classes, np.int64)
    for path in part_files(folder):
        labels = read_table(path, ["class_index"])["class_index"].to_numpy()
        counts += np.bincount(labels, minlength=num_classes)
    return counts


def decode_test(engine: Engine) -> Artifact:
    """Stage ``decode``: the pixels of the good test images, uint8, one part file per shard."""
    source = engine.test_source
    return _decode(engine, source, lambda: engine.num_tests, "test", engine.preprocessing)


def find_test(engine: Engine) -> Artifact | None:
    """The decoded test split, where some stage has asked for it; nothing is done."""
    source, config = engine.test_source, _key(engine, engine.preprocessing)
    found = engine.stages.find("decode", digest_stage("decode", config, [source.fingerprint], 0))
    return found[0] if found else None


def stored_images(engine: Engine, preprocessing: Preprocessing) -> Artifact | None:
    """The pixels of the real images, decoded once, where they fit in memory; else None.

    Nothing is counted for it: a source that cannot even estimate its size is not stored.
    """
    if not fits_memory(engine, engine.num_images, preprocessing):
        return None
    return _decode(engine, engine.train_source, lambda: engine.num_images, "train", preprocessing)


def fits_memory(engine: Engine, images: float, preprocessing: Preprocessing) -> bool:
    """Whether the pixels of so many images do; nan images do not."""
    return images * preprocessing.resolution**2 * 3 <= engine.data.memory_limit_mb << 20


def list_images(engine: Engine) -> Artifact:
    """Id, class_index and row of every training image that can be decoded.

    Stage ``decode``, or ``list`` where the pixels of all images would not fit in memory.
    """
    if stored := stored_images(engine, engine.preprocessing):
        return stored
    source, images = engine.train_source, lambda: engine.num_images
    return _decode(engine, source, images, "train", engine.preprocessing, kept=False)


def _decode(
    engine: Engine,
    source: Source,
    images: Callable[[], float],
    title: str,
    preprocessing: Preprocessing,
    kept: bool = True,
) -> Artifact:
    data = engine.data

    def cost() -> Cost:
        count = images()
        pixels = count * preprocessing.resolution**2 * 3
        return Cost(
            reads=engine.encoded_bytes(count),
            writes=pixels if kept else 0,
            decodes=count,
            divides="tasks",
        )

    def work(folder: UPath) -> dict[str, Any]:
        decode = decoding(preprocessing, data.max_pixels, kept)
        split = {"train": "training"}.get(title, title)
        return map_pass(folder, source, decode, data.max_rejected, split, images())

    return engine.stages.run(
        "decode" if kept else "list",
        work,
        inputs=[source.fingerprint],
        config=_key(engine, preprocessing),
        seed=0,  # decoding draws nothing: every seed shares it
        cost=cost,
        expected=dict,
        title=title,
        units=len(source.shards()),
        done=[PART],
    )


def _key(engine: Engine, preprocessing: Preprocessing) -> dict[str, Any]:
    size = [preprocessing.resolution, preprocessing.resize]
    return {"size": size, "max_pixels": engine.data.max_pixels}


def stream_pixels(engine: Engine, preprocessing: Preprocessing) -> rd.Dataset:
    """Dataset of (pixels uint8 [R, R, 3], class_index, shard, row), for sets beyond memory.

    The shards are shuffled, not their blocks: that would hold all of them before the first is seen.
    """
    source, max_pixels = engine.train_source, engine.data.max_pixels

    def arrays(table: pa.Table) -> dict[str, np.ndarray]:
        table = table.filter(pc.equal(table.column("reason"), ""))
        columns = {n: table.column(n).to_numpy() for n in ("class_index", "shard", "row")}
        return {"pixels": pixel_array(table.column("pixels"), preprocessing.resolution)} | columns

    order = np.random.default_rng(0).permutation(len(source.shards())).tolist()
    shards = {index: source.shards()[index] for index in order}
    rows = decoded_rows(source, shards, preprocessing, max_pixels)
    return rows.map_batches(arrays, batch_size=None, batch_format="pyarrow")


@dataclass(frozen=True)
class RealImages:
    """Where a training finds the real images.

    Attributes:
        folders: of the decoded images; empty where they are streamed.
        count: how many there are; nan in a plan where nobody knows.
        origin: what a stage that reads them names as its input.
        stream: opens the streamed images, by the name that a loop asks for; None where they are
            decoded.
    """

    folders: tuple[str, ...]
    count: int
    origin: Artifact | str
    stream: Callable[[], Mapping[str, rd.Dataset]] | None = None

    def cost(self, engine: Engine, side: int, epochs: float) -> Cost:
        """What it takes to look at every image of ``side`` pixels so many times."""
        if self.stream is None:
            return Cost(reads=self.count * side**2 * 3)
        views = epochs * self.count
        return Cost(reads=engine.encoded_bytes(views), decodes=views)


def place_images(engine: Engine, preprocessing: Preprocessing) -> RealImages:
    """Decode the real training images once if they fit in memory, else stream them.

    Args:
        engine: of the run.
        preprocessing: of the stored images.
    """
    images = class_counts(engine).sum().item()
    if fits_memory(engine, images, preprocessing):
        real = _decode(engine, engine.train_source, lambda: images, "train", preprocessing)
        return RealImages((str(real.folder),), images, real)
    origin = engine.train_source.fingerprint
    return RealImages((), images, origin, lambda: {"train": stream_pixels(engine, preprocessing)})
