"""Selection per class: exact counts, no repeats, the same for any partition of the table."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from raydd.data.sources.counted import CountedSource
from raydd.engine.selection.chosen import SelectedIds
from raydd.engine.selection.difficulty import DifficultyConfig
from raydd.engine.selection.ranking import Ranking
from raydd.engine.selection.select import check_supply, select
from raydd.engine.selection.shortlist import Shortlist, hash_ids
from raydd.errors import Refused
from raydd.methods.ccfs import CcfsConfig, ranking
from raydd.store.artifacts import Artifact
from raydd.store.tables import read_table
from selection_tables import score_table
from small_engine import make_engine


def wrong_first(tables):
    return np.where(tables[0]["prediction"] == tables[0]["class_index"], 1, 0)


def only_wrong(tables):
    return np.where(tables[0]["prediction"] == tables[0]["class_index"], -1, 0)


WRONG_FIRST = Ranking(("wrong", "right"), wrong_first)
EASY = Ranking(
    ("any",),
    lambda tables: np.zeros(len(tables[0]["row"]), np.int8),
    ("difficulty",),
    lambda tables: tables[0]["difficulty"],
    "simple",
)


def choose(tmp_path, name, table, count=3, used=(), seed=0, ranking=WRONG_FIRST):
    engine = replace(make_engine(tmp_path / name, source=CountedSource(4, 200)), seed=seed)
    chosen = select(engine, [table], ranking, count, used)
    return chosen, chosen.summary


def ids_of(selection):
    chosen = SelectedIds(selection.folder, 4)
    return [chosen[label] for label in range(4)]


@pytest.fixture
def rows():
    draw = np.random.default_rng(0)
    return draw.integers(4, size=200), draw.integers(4, size=200)


def test_selection_is_independent_of_the_partition(tmp_path, rows):
    whole, _ = choose(tmp_path, "a", score_table(tmp_path / "one", *rows, []))
    parts, _ = choose(tmp_path, "b", score_table(tmp_path / "many", *rows, [1, 50, 51, 120]))
    assert ids_of(whole) == ids_of(parts)


def test_every_class_gets_its_count_lowest_rung_first(tmp_path, rows):
    labels, predictions = rows
    predictions = np.where(np.arange(200) < 196, labels, (labels + 1) % 4)  # four wrong rows
    chosen, summary = choose(tmp_path, "a", score_table(tmp_path / "t", labels, predictions, [77]))
    wrong = np.bincount(labels[196:], minlength=4).clip(max=3)
    assert summary["rungs"] == {"wrong": wrong.tolist(), "right": (3 - wrong).tolist()}
    assert [len(set(ids)) for ids in ids_of(chosen)] == [3, 3, 3, 3]


def test_used_images_are_never_chosen_again(tmp_path, rows):
    table = score_table(tmp_path / "t", *rows, [100])
    first, _ = choose(tmp_path, "a", table)
    second, _ = choose(tmp_path, "b", table, used=[first])
    ids = [set(chain.from_iterable(ids_of(item))) for item in (first, second)]
    assert not ids[0] & ids[1]


def test_a_class_that_is_too_small_is_named(tmp_path, rows):
    with pytest.raises(
        Refused, match=r"class \d has only \d+ images left to choose from, but 70 are asked for"
    ):
        choose(tmp_path, "a", score_table(tmp_path / "t", *rows, []), count=70)


def test_misaligned_tables_are_an_error(tmp_path, rows):
    labels, predictions = rows
    one = score_table(tmp_path / "one", labels, predictions, [])
    other = score_table(tmp_path / "other", labels[:-1], predictions[:-1], [])
    engine = make_engine(tmp_path, source=CountedSource(4, 200))
    with pytest.raises(RuntimeError, match="not aligned"):
        select(engine, [one, other], WRONG_FIRST, 1)


def test_another_seed_chooses_others(tmp_path, rows):
    table = score_table(tmp_path / "t", *rows, [])
    chosen = [ids_of(choose(tmp_path, str(seed), table, seed=seed)[0]) for seed in (0, 1)]
    assert chosen[0] != chosen[1]


def test_the_easiest_come_first_and_equals_are_drawn_by_id_and_seed(tmp_path, rows):
    difficulty = np.random.default_rng(1).integers(3, size=200).astype(float)
    tables = [
        score_table(tmp_path / str(i), *rows, cuts, difficulty=difficulty)
        for i, cuts in enumerate(([], [3, 90, 91]))
    ]
    (one, summary), (other, _) = (
        choose(tmp_path, f"s{i}", table, ranking=EASY) for i, table in enumerate(tables)
    )
    assert ids_of(one) == ids_of(other)
    for label, ids in enumerate(ids_of(one)):
        taken = [int(name.removeprefix("image")) for name in ids]
        left = np.setdiff1d(np.flatnonzero(rows[0] == label), taken)
        assert difficulty[taken].tolist() == sorted(difficulty[taken])
        assert difficulty[taken].max() <= difficulty[left].min()
    assert summary["difficulty"]["max"] == 0.0
    assert sum(summary["difficulty"]["histogram"]["counts"]) == 12
    reseeded, _ = choose(tmp_path, "reseeded", tables[0], ranking=EASY, seed=1)
    assert ids_of(one) != ids_of(reseeded)
    hard, _ = choose(tmp_path, "hard", tables[0], ranking=replace(EASY, order="hard"))
    assert (read_table(hard.folder / "selection.parquet")["difficulty"].to_numpy() == 2).all()


def test_a_shortfall_that_rolls_over_takes_what_there_is(tmp_path, rows):
    labels, _ = rows
    predictions = np.where(np.arange(200) < 196, labels, (labels + 1) % 4)
    table = score_table(tmp_path / "t", labels, predictions, [77])
    ranking = Ranking(("wrong",), only_wrong, shortfall="rollover")
    _, summary = choose(tmp_path, "a", table, ranking=ranking)
    there = np.bincount(labels[196:], minlength=4)
    assert summary["candidates"] == there.tolist()
    assert summary["chosen"] == there.clip(max=3).tolist()
    assert summary["asked"] == 12


def test_the_easiest_go_on_to_images_that_the_teacher_gets_wrong(tmp_path):
    labels = np.repeat(np.arange(4), 10)
    predictions = labels.copy()
    predictions[2:10] = 3  # the teacher is right about two images of class 0
    ranks, logits = (predictions != labels).astype(int), np.arange(40.0)
    table = score_table(tmp_path / "t", labels, predictions, [], true_rank=ranks, true_logit=logits)
    config = CcfsConfig(
        ipc=6, alpha=0.0, curricula=1, coarse="off", shortfall="easiest",
        difficulty=DifficultyConfig(by="logit"),
    )  # fmt: skip
    chosen, summary = choose(tmp_path, "s", table, count=6, ranking=ranking(config, 1))
    assert summary["chosen"] == [6, 6, 6, 6]
    # the two it is right about, then the easiest of the others: those of the highest logit
    assert ids_of(chosen)[0] == [f"image{i:04d}" for i in (1, 0, 9, 8, 7, 6)]
    assert summary["rungs"]["teacher wrong"] == [4, 0, 0, 0]
    _, all_of_them = choose(tmp_path, "a", table, count=12, ranking=ranking(config, 1))
    assert all_of_them["chosen"] == [10, 10, 10, 10]


def test_what_a_score_table_shows_to_be_short_is_refused_before_anything_is_made(tmp_path):
    engine = make_engine(tmp_path, source=CountedSource(4, 200))
    scores = Artifact(UPath(tmp_path), "s", {"right": [9, 2, 9, 9]})
    check_supply(engine, scores, 2)
    with pytest.raises(Refused, match=r"right about 2 images of class 'class 1', but 5 .*=easiest"):
        check_supply(engine, scores, 5)


def test_every_class_may_ask_for_another_number(tmp_path, rows):
    _, summary = choose(tmp_path, "a", score_table(tmp_path / "t", *rows, [9]), count=[0, 1, 5, 2])
    assert summary["chosen"] == [0, 1, 5, 2]


def test_unbalanced_takes_the_best_over_all_classes(tmp_path, rows):
    difficulty = rows[0].astype(float)  # class 0 is the easiest
    table = score_table(tmp_path / "t", *rows, [60], difficulty=difficulty)
    ranking = replace(EASY, balanced=False)
    chosen, summary = choose(tmp_path, "a", table, count=2, ranking=ranking)
    assert summary["chosen"] == [8, 0, 0, 0]
    assert read_table(chosen.folder / "selection.parquet").num_rows == 8


ROW = st.tuples(st.integers(0, 3), st.integers(-1, 1), st.integers(0, 2))


@settings(deadline=None, max_examples=60)
@given(st.lists(ROW, min_size=1, max_size=60), st.integers(0, 5), st.integers(0, 60), st.booleans())
def test_a_shortlist_keeps_the_same_rows_however_they_come(rows, count, cut, folds):
    labels, rungs, keys = (np.array(column) for column in zip(*rows, strict=True))
    names = pa.array([f"image{i}" for i in range(len(rows))])

    def offer(shortlist, part):
        columns = {"class_index": labels, "row": np.arange(len(rows)), "rung": rungs, "key": keys}
        few = {name: values[part].astype(np.float64) for name, values in columns.items()}
        few = {n: v if n == "key" else v.astype(np.int32) for n, v in few.items()}
        few["rung"] = rungs[part].astype(np.int8)
        shortlist.merge(shortlist.hopeful(few, pa.chunked_array([names])[part], 0))

    whole, pieces = (Shortlist(np.full(4, count), True, 7) for _ in range(2))
    offer(whole, slice(None))
    offer(pieces, slice(cut, None))
    if folds:  # raises the bar for what follows
        pieces.table()
    offer(pieces, slice(None, cut))
    order = sorted(zip(labels, rungs, keys, hash_ids(names, 7), names.to_pylist(), strict=True))
    best = [
        row[4]
        for label in range(4)
        for row in [row for row in order if row[0] == label and row[1] >= 0][:count]
    ]
    assert whole.table()["id"].to_pylist() == best
    assert pieces.table()["id"].to_pylist() == best


def test_hashes_depend_on_id_and_seed_alone():
    ids = pa.array(["a", "b", "c"])
    assert (hash_ids(ids, 5)[::-1] == hash_ids(ids[::-1], 5)).all()
    assert (hash_ids(ids, 5) != hash_ids(ids, 6)).all()


def test_selection_file_lists_class_rung_and_id(tmp_path, rows):
    chosen, _ = choose(tmp_path, "a", score_table(tmp_path / "t", *rows, []))
    table = read_table(chosen.folder / "selection.parquet")
    assert {"class_index", "rung", "id"} <= set(table.column_names)
    assert table["class_index"].to_pylist() == sorted(table["class_index"].to_pylist())
