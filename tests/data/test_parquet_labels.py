"""The label column of parquet files, counted as arrays and digested as ever."""

import numpy as np
import pyarrow as pa
import pytest

from raydd.data.sources.files import digest
from raydd.data.sources.parquet.labels import add_up, count_labels, spelled


@pytest.mark.parametrize("numbers", [[], [7], [3, -1, 12, 0, 2**40]])
def test_whole_numbers_are_digested_as_one_by_one(numbers):
    column = pa.array(numbers, pa.int64())
    assert digest("before", *spelled(column)) == digest("before", *numbers)


def test_labels_of_files_add_up_whether_they_are_numbers_or_texts():
    files = [
        count_labels(pa.chunked_array([pa.array(values)]))[:2]
        for values in ([3, 1, 3], [1, 9], ["cat", None, "cat"], ["cat"])
    ]
    assert isinstance(files[0][0], np.ndarray)
    counts = add_up(iter(files))
    assert counts == {1: 2, 3: 2, 9: 1, "cat": 3, None: 1}
    assert list(counts)[:3] == [1, 3, 9]
    assert add_up([]) == {}
