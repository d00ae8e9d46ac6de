"""Difficulty tables: ids, classes to check against, or an order that is said; never a guess."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from upath import UPath

from raydd.data.difficulty_table import check_classes, check_order, read_table

VALUES = [0.0, 3.5, 1.0, 2.0]
IDS = ["cat/1.png", "ant/0.png", "bee/0.png", "bee/1.png"]


def save(folder: Path, kind: str, **columns: Any) -> UPath:
    path = folder / f"scores{kind}"
    if kind == ".npy":
        np.save(path, columns["scores"])
    elif kind == ".npz":
        np.savez(path, **columns)
    elif kind == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        pyarrow.csv.write_csv(pa.table(columns), path)
    return UPath(path)


@pytest.mark.parametrize("kind", [".npy", ".npz", ".parquet", ".csv"])
def test_values_are_read_from_every_kind(tmp_path: Path, kind: str) -> None:
    table = read_table(save(tmp_path, kind, scores=VALUES), "scores")
    assert (table.rows, table.id_column, table.class_column) == (4, None, None)
    assert table.values().tolist() == VALUES
    assert table.values().dtype == np.float64


@pytest.mark.parametrize("kind", [".npz", ".parquet", ".csv"])
def test_ids_and_classes_are_found(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path, kind, id=IDS, labels=[2, 0, 1, 1], scores=VALUES)
    table = read_table(path, "scores")
    assert (table.id_column, table.class_column) == ("id", "labels")
    assert table.ids().to_pylist() == IDS
    assert table.classes().tolist() == [2, 0, 1, 1]
    check_order(table, None, 1000)  # its ids say which images it knows


def test_the_column_of_the_values_is_not_a_class_column(tmp_path: Path) -> None:
    table = read_table(save(tmp_path, ".parquet", label=VALUES, other=VALUES), "label")
    assert table.class_column is None
    assert table.values().tolist() == VALUES


def test_a_table_without_ids_and_classes_needs_its_order_said(tmp_path: Path) -> None:
    table = read_table(save(tmp_path, ".npy", scores=VALUES), "scores")
    with pytest.raises(ValueError, match=r"neither ids nor classes.* difficulty\.order=source"):
        check_order(table, None, 4)
    check_order(table, "source", 4)
    with pytest.raises(ValueError, match="has 4 rows for 5 training images"):
        check_order(table, "source", 5)
    with pytest.raises(ValueError, match="must be null or source, got 'torchvision'"):
        check_order(table, "torchvision", 4)


@pytest.mark.parametrize("classes", [[2, 0, 1, 1], ["cat", "ant", "bee", "bee"]])
def test_aligned_classes_must_agree_in_every_row(tmp_path: Path, classes: list) -> None:
    table = read_table(save(tmp_path, ".parquet", label=classes, scores=VALUES), "scores")
    check_order(table, None, 4)
    names = ("ant", "bee", "cat")
    check_classes(table.classes(), np.array([2, 0, 1, 1]), names, "it")
    check_classes(table.classes(), np.array([2, -1, -1, 1]), names, "it")  # broken ones have none
    with pytest.raises(
        ValueError, match=r"^it is in another order .* 2 of 4 rows .*row 11 says .* 'bee'"
    ):
        check_classes(table.classes(), np.array([2, 1, 0, 1]), names, "it", 10)


def test_a_class_name_that_is_none_is_a_difference() -> None:
    with pytest.raises(ValueError, match="1 of 2 rows"):
        check_classes(np.array(["ant", "dog"]), np.array([0, 1]), ("ant", "bee"), "it")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.0, float("nan"), 1.0], "has no number in row 1"),
        (["a", "b", "c"], "not numbers"),
    ],
)
def test_values_that_are_none_are_refused(tmp_path: Path, values: list, words: str) -> None:
    table = read_table(save(tmp_path, ".parquet", scores=values), "scores")
    with pytest.raises(ValueError, match=words):
        table.values()


def test_other_files_and_columns_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, ".npz", forgetting=VALUES, labels=[2, 0, 1, 1])
    with pytest.raises(ValueError, match=r"no column 'scores' \(it has forgetting, labels\); set"):
        read_table(path, "scores")
    with pytest.raises(ValueError, match="its arrays have the lengths"):
        read_table(save(tmp_path, ".npz", scores=VALUES, labels=[1]), "scores")
    with pytest.raises(ValueError, match="is not an existing file of one of the kinds"):
        read_table(UPath(tmp_path / "scores.txt"), "scores")
    np.save(tmp_path / "objects.npy", np.array([{}, 1], object), allow_pickle=True)
    for name in ("objects.npy", "cut.parquet", "cut.npz", "empty.csv"):
        file = tmp_path / name
        if not file.exists():
            file.write_bytes(b"" if name == "empty.csv" else b"PK\x03\x04")
        with pytest.raises(ValueError, match=rf"{name} cannot be read: "):
            read_table(UPath(file), "scores")
