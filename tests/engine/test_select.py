"""Selection per class: exact counts, no repeats, the same for any partition of the table."""

from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from raydd.engine.errors import Refused
from raydd.engine.select import best_per_class, random_keys, select_per_class, selected_ids
from raydd.engine.stages import Artifact
from raydd.engine.stream import read_table, write_table


def score_table(folder, labels, predictions, cuts):
    """Write a score table cut into parts at the given rows."""
    (folder / "parts").mkdir(parents=True)
    ids = np.array([f"image{i:04d}" for i in range(len(labels))])
    edges = [0, *sorted(cuts), len(labels)]
    for i, (low, high) in enumerate(pairwise(edges)):
        part = pa.table(
            {
                "id": ids[low:high].tolist(),
                "class_index": pa.array(labels[low:high], pa.int32()),
                "prediction": pa.array(predictions[low:high], pa.int32()),
            }
        )
        write_table(UPath(folder / "parts" / f"{i:05d}.parquet"), part)
    return Artifact(UPath(folder), f"table{cuts}")


def wrong_first(tables):
    return np.where(tables[0]["prediction"] == tables[0]["class_index"], 1, 0)


def choose(tmp_path, name, table, count=3, used=(), seed=0):
    folder = tmp_path / name
    folder.mkdir()
    summary = select_per_class(
        UPath(folder), [table], wrong_first, ("wrong", "right"), count, used, seed, num_classes=4
    )
    return Artifact(UPath(folder), name), summary


@pytest.fixture
def rows():
    draw = np.random.default_rng(0)
    return draw.integers(4, size=200), draw.integers(4, size=200)


def test_selection_is_independent_of_the_partition(ray4, tmp_path, rows):
    whole, _ = choose(tmp_path, "a", score_table(tmp_path / "one", *rows, []))
    parts, _ = choose(tmp_path, "b", score_table(tmp_path / "many", *rows, [1, 50, 51, 120]))
    assert selected_ids(whole, 4) == selected_ids(parts, 4)


def test_every_class_gets_its_count_lowest_rung_first(ray4, tmp_path, rows):
    labels, predictions = rows
    predictions = np.where(np.arange(200) < 196, labels, (labels + 1) % 4)  # four wrong rows
    chosen, summary = choose(tmp_path, "a", score_table(tmp_path / "t", labels, predictions, [77]))
    wrong = np.bincount(labels[196:], minlength=4).clip(max=3)
    assert summary["rungs"] == {"wrong": wrong.tolist(), "right": (3 - wrong).tolist()}
    assert [len(set(ids)) for ids in selected_ids(chosen, 4)] == [3, 3, 3, 3]


def test_used_images_are_never_chosen_again(ray4, tmp_path, rows):
    table = score_table(tmp_path / "t", *rows, [100])
    first, _ = choose(tmp_path, "a", table)
    second, _ = choose(tmp_path, "b", table, used=[first])
    ids = [set(chain.from_iterable(selected_ids(item, 4))) for item in (first, second)]
    assert not ids[0] & ids[1]


def test_a_class_that_is_too_small_is_named(ray4, tmp_path, rows):
    with pytest.raises(
        Refused, match=r"class \d has only \d+ unused good images, but 70 are asked for"
    ):
        choose(tmp_path, "a", score_table(tmp_path / "t", *rows, []), count=70)


def test_misaligned_tables_are_an_error(ray4, tmp_path, rows):
    labels, predictions = rows
    one = score_table(tmp_path / "one", labels, predictions, [])
    other = score_table(tmp_path / "other", labels[:-1], predictions[:-1], [])
    with pytest.raises(RuntimeError, match="not aligned"):
        select_per_class(
            UPath(tmp_path), [one, other], wrong_first, ("wrong", "right"), 1, (), 0, 4
        )


def test_another_seed_chooses_others(ray4, tmp_path, rows):
    table = score_table(tmp_path / "t", *rows, [])
    chosen = [selected_ids(choose(tmp_path, str(seed), table, seed=seed)[0], 4) for seed in (0, 1)]
    assert chosen[0] != chosen[1]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=60
    ),
    st.integers(1, 5),
    st.data(),
)
def test_cutting_parts_first_never_changes_the_fold(rows, count, data):
    import pandas as pd

    table = pd.DataFrame(rows, columns=["class_index", "rung", "key"])
    table["id"] = [f"{i}" for i in range(len(table))]
    cut = data.draw(st.integers(0, len(table)))
    parts = pd.concat([best_per_class(table[:cut], count), best_per_class(table[cut:], count)])
    whole = best_per_class(table, count)
    assert best_per_class(parts, count)["id"].tolist() == whole["id"].tolist()
    assert (whole.groupby("class_index").size() <= count).all()


def test_random_keys_depend_on_id_and_seed_alone():
    ids = np.array(["a", "b", "c"])
    assert (random_keys(ids, 5)[::-1] == random_keys(ids[::-1], 5)).all()
    assert (random_keys(ids, 5) != random_keys(ids, 6)).all()


def test_selection_file_lists_class_rung_and_id(ray4, tmp_path, rows):
    chosen, _ = choose(tmp_path, "a", score_table(tmp_path / "t", *rows, []))
    table = read_table(chosen.folder / "selection.parquet")
    assert {"class_index", "rung", "id"} <= set(table.column_names)
    assert table["class_index"].to_pylist() == sorted(table["class_index"].to_pylist())
