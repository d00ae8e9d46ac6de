"""Soft labels on disk: ``labels/labels.json`` and, where they are stored, parquet beside it.

``labels.json`` says which views the labels are of: the views themselves are drawn again from its
seed, as each is a function of (seed, epoch, step). A row of ``labels/block*.parquet`` is the label
of one view: epoch, step, image (position in the set), logits; where not all classes are kept,
classes and residual; where logits are int8, scale and offset (see :mod:`raydd.ops.labels`). Rows
follow the order of the views.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa

from raydd.data.preprocessing import Preprocessing

INFO = "labels.json"
# Raise when the meaning of a field or column changes. Labels in float16 are written in the first
# format still, so that earlier versions read them.
FORMAT, FLOAT16_FORMAT = 2, 1

# Without compression parquet holds an int8 in four bytes, or as one byte in a dictionary.
_VALUES = "logits.list.element"
_DICTIONARIES = {"float16": ["epoch", "step"], "int8": ["epoch", "step", _VALUES]}
# On normal logits, splitting the bytes of a float16 saves 4 to 8 %, and a dictionary costs 1 to 3.
_SPLIT = {"float16": [_VALUES], "int8": ["scale", "offset"]}
LOGIT_BYTES = {"float16": 2, "int8": 1}


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
        logits: how a stored logit is kept: ``float16`` or ``int8``.
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
    logits: str = "float16"

    @property
    def label_bytes(self) -> int:
        """Bytes of one view's stored label before compression, at most."""
        values = LOGIT_BYTES[self.logits] * self.top_k
        scale = 4 if self.logits == "int8" else 0
        others = 4 + 4 * self.top_k if self.top_k < self.num_classes else 0
        return 12 + values + scale + others

    @property
    def encoding(self) -> dict[str, Any]:
        """What of pyarrow's makes the smallest files."""
        split = dict.fromkeys(_SPLIT[self.logits], "BYTE_STREAM_SPLIT")
        return {"use_dictionary": _DICTIONARIES[self.logits], "column_encoding": split}

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

    def values(self) -> dict[str, Any]:
        """All fields but a ``logits`` of float16: keys and files are those of earlier versions."""
        values = asdict(self)
        if self.logits == "float16":
            del values["logits"]
        return values

    def to_text(self) -> str:
        """Return the text of ``labels.json``."""
        number = FLOAT16_FORMAT if self.logits == "float16" else FORMAT
        record = {**self.values(), "preprocessing": self.preprocessing.to_json()}
        return json.dumps({"format": number, **record}, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Inverse of `to_text`.

        Raises:
            ValueError: of another format.
        """
        record = json.loads(text)
        if (found := record.pop("format", None)) not in (FLOAT16_FORMAT, FORMAT):
            raise ValueError(
                f"these labels have format {found!r}, this raydd reads formats up to {FORMAT}; use "
                "the raydd version that made them."
            )
        return cls(**{**record, "preprocessing": Preprocessing.from_json(record["preprocessing"])})


def block_name(block: int) -> str:
    """File name of a block of batches."""
    return f"block{block:07d}.parquet"


def label_table(
    info: LabelInfo, epoch: int, step: int, images: np.ndarray, labels: Mapping[str, np.ndarray]
) -> pa.Table:
    """Labels of one batch as rows.

    Args:
        info: fixes the integer types.
        epoch: of the batch.
        step: of the batch.
        images: int64 [B], position of each view's image in the set.
        labels: ``logits`` float16 or int8 [B, k]; where k is below C also ``classes`` int64 [B, k]
            and ``residual`` float32 [B]; with int8 also ``scale`` and ``offset``, float16 [B].
    """
    columns = {
        "epoch": pa.array(np.full(len(images), epoch, np.int32)),
        "step": pa.array(np.full(len(images), step, np.int32)),
        "image": pa.array(images.astype(smallest_type(info.num_images))),
    }
    for name, values in labels.items():
        kept = values.astype(smallest_type(info.num_classes)) if name == "classes" else values
        columns[name] = pa.array(kept) if kept.ndim == 1 else _lists(kept)
    # without nulls parquet stores no level for each value
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def label_arrays(table: pa.Table) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Images int64 [B] and labels of rows; inverse of `label_table`."""
    images = table["image"].to_numpy().astype(np.int64)
    labels = {"logits": _matrix(table["logits"])}
    if "classes" in table.column_names:
        labels["classes"] = _matrix(table["classes"]).astype(np.int64)
    scalars = [name for name in ("residual", "scale", "offset") if name in table.column_names]
    return images, labels | {name: table[name].to_numpy() for name in scalars}


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
