"""The label column of a parquet file: how many rows each label has, and a digest of them all.

Hundreds of files may hold tens of thousands of distinct labels each: whole numbers stay arrays.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydd.data.sources.files import digest
from raydd.data.sources.parquet.rows import text_or_value

Labels = np.ndarray | list[Any]  # distinct ones: int64 where the column holds whole numbers


def count_labels(column: pa.ChunkedArray) -> tuple[Labels, np.ndarray, str]:
    """Distinct labels, rows of each of them, and a digest of all labels in their order."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        return [None], np.array([len(column)]), ""
    encoded = column.dictionary_encode().combine_chunks()
    places = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype("<i4")
    rows = np.bincount(places + 1, minlength=len(encoded.dictionary) + 1)
    content = hashlib.sha256(places.tobytes()).hexdigest()
    if pa.types.is_integer(column.type) and column.type != pa.uint64() and not rows[0]:
        numbers = encoded.dictionary.cast(pa.int64())
        return numbers.to_numpy(), rows[1:], digest(content, *spelled(numbers))
    values = text_or_value(encoded.dictionary)
    return [None, *values], rows, digest(content, *map(repr, values))


def spelled(numbers: pa.Array) -> list[str]:
    """Whole numbers as :func:`digest` spells them one by one, in one piece."""
    if not len(numbers):
        return []
    texts = numbers.cast(pa.string())
    return [pc.binary_join(pa.ListArray.from_arrays([0, len(texts)], texts), "\x00")[0].as_py()]


def add_up(counted: Iterable[tuple[Labels, np.ndarray]]) -> Counter[Any]:
    """Rows of every label, out of the labels and rows of each file."""
    files, counts = list(counted), Counter[Any]()
    if numbers := [file for file in files if isinstance(file[0], np.ndarray)]:
        columns = zip(("label", "rows"), zip(*numbers, strict=True), strict=True)
        table = pa.table({name: np.concatenate(column) for name, column in columns})
        sums = table.group_by("label").aggregate([("rows", "sum")]).sort_by("label")
        pairs = zip(sums["label"].to_pylist(), sums["rows_sum"].to_pylist(), strict=True)
        counts.update(dict(pairs))
    for labels, rows in files:
        if isinstance(labels, list):
            for label, count in zip(labels, rows.tolist(), strict=True):
                counts[label] += count  # mended texts may be equal
    return +counts
