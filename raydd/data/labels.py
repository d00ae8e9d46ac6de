"""Soft labels on disk: ``labels/labels.json`` and, where they are stored, parquet beside it.

``labels.json`` says which views the labels are of: the views themselves are drawn again from its
seed, as each is a function of (seed, epoch, step). A row of ``labels/block*.parquet`` is the label
of one view: epoch, step, image (position in the set), logits and, where not all classes are kept,
classes and residual (see :mod:`raydd.ops.labels`). Rows follow the order of the views.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa

from raydd.data.preprocessing import Preprocessing

INFO = "labels.json"
FORMAT = 1  # raise when the meaning of a field or column changes

# On normal logits, splitting the bytes of a float16 saves 4 to 8 %, and a dictionary costs 1 to 3.
ENCODING: dict[str, Any] = {
    "use_dictionary": ["epoch", "step"],
    "column_encoding": {"logits.list.element": "BYTE_STREAM_SPLIT"},
}


@dataclass(frozen=True)
class LabelInfo:
    """The content of ``labels.json``.

    Attributes:
        form: ``seeded`` (the teacher beside the folder is asked again) or ``stored``.
        num_classes: C.
        top_k: logits kept of each stored view, 1 to C.
        epochs: label epochs; a longer training goes round again.
        seed: run seed; with epoch and step it fixes every view.
        views: batch size, crop, mixing and flip of the views.
        preprocessing: of the views; its resolution is their side.
        num_images: N.
        images: sha256 of the N images and their classes.
        block: batches per parquet file.
        check: what the first batch must look like: ``views`` and ``logits``, some evenly spaced
            values, and ``sha256`` of all its logits.
    """

    form: str
    num_classes: int
    top_k: int
    epochs: int
    seed: int
    views: Mapping[str, Any]
    preprocessing: Preprocessing
    num_images: int
    block: int
    images: str = ""
    check: Mapping[str, Any] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        """Views of a full batch."""
        return min(int(self.views["batch_size"]), self.num_images)

    @property
    def steps(self) -> int:
        """Batches of an epoch; the last may be smaller."""
        return -(-self.num_images // self.batch_size)

    @property
    def num_blocks(self) -> int:
        """Parquet files of stored labels."""
        return -(-self.epochs * self.steps // self.block) if self.form == "stored" else 0

    def batches(self, block: int) -> list[tuple[int, int]]:
        """Epoch and step of every batch of a block."""
        first = block * self.block
        last = min(first + self.block, self.epochs * self.steps)
        return [divmod(batch, self.steps) for batch in range(first, last)]

    def place(self, epoch: int, step: int) -> tuple[int, int]:
        """Block of a batch, and its first row there."""
        batch = epoch * self.steps + step
        block = batch // self.block
        return block, self._first_view(batch) - self._first_view(block * self.block)

    def _first_view(self, batch: int) -> int:
        epoch, step = divmod(batch, self.steps)
        return epoch * self.num_images + step * self.batch_size

    def to_text(self) -> str:
        """Return the text of ``labels.json``."""
        record = {**asdict(self), "preprocessing": self.preprocessing.to_json()}
        return json.dumps({"format": FORMAT, **record}, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Inverse of `to_text`.

        Raises:
            ValueError: of another format.
        """
        record = json.loads(text)
        if (found := record.pop("format", None)) != FORMAT:
            raise ValueError(
                f"these labels have format {found!r}, this raydd reads format {FORMAT}; use the "
                "raydd version that made them."
            )
        return cls(**{**record, "preprocessing": Preprocessing.from_json(record["preprocessing"])})


def block_name(block: int) -> str:
    """File name of a block of batches."""
    return f"block{block:07d}.parquet"


def label_table(
    info: LabelInfo, epoch: int, step: int, images: np.ndarray, labels: Sequence[np.ndarray]
) -> pa.Table:
    """Labels of one batch as rows.

    Args:
        info: fixes the integer types.
        epoch: of the batch.
        step: of the batch.
        images: int64 [B], position of each view's image in the set.
        labels: logits float16 [B, k]; where k is below C also classes int64 [B, k] and residual
            float32 [B].
    """
    columns = {
        "epoch": pa.array(np.full(len(images), epoch, np.int32)),
        "step": pa.array(np.full(len(images), step, np.int32)),
        "image": pa.array(images.astype(smallest_type(info.num_images))),
        "logits": _lists(labels[0]),
    }
    if len(labels) > 1:
        columns["classes"] = _lists(labels[1].astype(smallest_type(info.num_classes)))
        columns["residual"] = pa.array(labels[2])
    # without nulls parquet stores no level for each value
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def label_arrays(table: pa.Table) -> tuple[np.ndarray, list[np.ndarray]]:
    """Images int64 [B] and labels of rows; inverse of `label_table`."""
    images = table["image"].to_numpy().astype(np.int64)
    if "classes" not in table.column_names:
        return images, [_matrix(table["logits"])]
    classes = _matrix(table["classes"]).astype(np.int64)
    return images, [_matrix(table["logits"]), classes, table["residual"].to_numpy()]


def smallest_type(count: int) -> type[np.unsignedinteger[Any]]:
    """Smallest unsigned integer type that holds 0 .. count - 1."""
    for kind in (np.uint8, np.uint16):
        if count - 1 <= np.iinfo(kind).max:
            return kind
    return np.uint32


def _lists(matrix: np.ndarray) -> pa.FixedSizeListArray:
    """Rows of a matrix as lists of one length, without nulls."""
    values = pa.array(np.ascontiguousarray(matrix).ravel())
    item = pa.field("item", values.type, nullable=False)
    return pa.FixedSizeListArray.from_arrays(values, type=pa.list_(item, matrix.shape[1]))


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(flat).reshape(len(column), -1)
