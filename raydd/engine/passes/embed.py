"""Stage ``embed``: one streaming pass of one network keeps the features of every real image.

One row per good image: id, class_index, row (in its shard) and features: the penultimate ones of
the network, of unit length, as float16. They lie on disk only, 2 bytes for each of them and image;
who reads them takes a class, or some classes, at a time.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from upath import UPath

from raydd.data.rows import binary_array, binary_column
from raydd.engine.engine import Engine
from raydd.engine.passes.decode import class_counts, count_labels, stored_images
from raydd.engine.passes.network import RowNetwork, ask_network, asking_cost
from raydd.engine.passes.stream import DataConfig
from raydd.models.answers import answer
from raydd.models.features import FeatureTap
from raydd.store.artifacts import Artifact
from raydd.store.tables import part_files, read_table
from raydd.store.units import PART

DTYPE = np.dtype(np.float16)
_USUAL_WIDTH = 512  # features of a ResNet-18, for plans


def embed(engine: Engine, checkpoint: Artifact, title: str) -> Artifact:
    """Keep the features that a checkpoint's network has of every real training image.

    Returns:
        Artifact with ``parts/*.parquet`` and ``rejected.parquet``; its summary has ``counts``,
        images of each class, and ``width``, features of an image.
    """
    stored = stored_images(engine, engine.card(checkpoint).preprocessing)

    def work(folder: UPath) -> dict[str, Any]:
        summary = ask_network(engine, Embedder, folder, checkpoint, stored)
        counts = count_labels(folder, engine.num_classes)
        return {**summary, "counts": counts.tolist(), "width": _width(folder)}

    return engine.stages.run(
        "embed",
        work,
        inputs=[checkpoint, engine.train_source.fingerprint],
        config={"max_pixels": engine.data.max_pixels},
        seed=0,
        cost=lambda: asking_cost(engine, checkpoint, stored, _USUAL_WIDTH * DTYPE.itemsize),
        expected=lambda: {"counts": class_counts(engine).tolist(), "width": _USUAL_WIDTH},
        title=title,
        units=len(engine.train_source.shards()),
        done=[PART],
    )


def read_features(path: UPath, rows: np.ndarray, width: int) -> np.ndarray:
    """Features of chosen images of a part, float16 [N, width].

    Args:
        path: of the part.
        rows: N numbers of the images in their shard, in any order.
        width: features of an image.
    """
    table = read_table(path, ["row", "features"])
    at = np.searchsorted(table["row"].to_numpy(), rows)  # a part is sorted by row
    return binary_array(table["features"], DTYPE, (width,))[at]


class Embedder(RowNetwork):
    """A network on one device; decodes and embeds batches of encoded rows."""

    def __init__(self, folder: str, config: DataConfig, device: str, threads: int) -> None:
        super().__init__(folder, config, device, threads)
        self.tap = FeatureTap(self.network, len(self.card.class_names))

    @torch.inference_mode()
    def __call__(self, batch: pa.Table) -> pa.Table:
        """Replace the images of a batch of encoded rows by their features."""
        images, rows = self.read(batch)
        _, features = answer(self.tap, images)
        unit = F.normalize(features[: rows.num_rows].float()).half().cpu().numpy()
        return rows.append_column("features", binary_column(unit))


def _width(folder: UPath) -> int:
    """Features of an image, from the first part's schema."""
    kind = read_table(part_files(folder)[0], ["features"]).schema.field("features").type
    return int(kind.byte_width) // DTYPE.itemsize
