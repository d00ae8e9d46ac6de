"""Strata: the budget, the cutoff and the draw of coverage-centric selection, by brute force."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raydd.data.sources.counted import CountedSource
from raydd.engine.selection.chosen import SelectedIds
from raydd.engine.selection.ranking import Ranking
from raydd.engine.selection.select import select
from raydd.engine.selection.shortlist import hash_ids
from raydd.engine.selection.strata import difficulty_at, order, plan_strata, share_out
from raydd.errors import Refused
from raydd.ops.seeds import derive_seed
from raydd.store.tables import read_table
from selection_tables import score_table
from small_engine import make_engine

SINGLE = st.floats(-1e6, 1e6, width=32)


@given(st.lists(SINGLE | st.just(np.inf), min_size=1), st.integers(0, 2**32))
def test_places_sort_as_difficulties_and_tell_them(values, seed):
    values = np.array(values, np.float32)
    ties = np.random.default_rng(seed).integers(2**64, size=len(values), dtype=np.uint64)
    places = order(values, ties)
    assert (difficulty_at(places) == values).all()
    by_both = sorted(zip(values.tolist(), (ties >> np.uint64(32)).tolist(), strict=True))
    placed = sorted(places.tolist())
    expected = [order(np.array([v]), np.array([t << 32], np.uint64))[0] for v, t in by_both]
    assert placed == expected


def by_the_book(sizes, budget):
    """The loop of the paper's algorithm: repeatedly the stratum with the fewest images."""
    left, given = dict(enumerate(sizes)), [0] * len(sizes)
    while left:
        fewest = min(left, key=lambda at: left[at])
        given[fewest] = min(left[fewest], budget // len(left))
        budget -= given[fewest]
        del left[fewest]
    return given


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(0, 500))
def test_the_budget_is_shared_out_and_spent(sizes, budget):
    given = share_out(np.array(sizes), budget)
    assert given.tolist() == by_the_book(sizes, budget)
    assert given.sum() == min(budget, sum(sizes))
    assert (given <= sizes).all()
    full = given < sizes  # these give alike, to within the remainder
    assert not full.any() or given[full].max() - given[full].min() <= 1


def strata_by_hand(difficulty, count):
    """Strata of equal width of some difficulties; the last one holds its upper end."""
    low, high = float(min(difficulty)), float(max(difficulty))
    if low == high:
        return [0] * len(difficulty)
    return [min(int((float(d) - low) / (high - low) * count), count - 1) for d in difficulty]


def coverage_by_hand(ids, difficulty, budget, count, cutoff_percent, seed):
    """The images that the paper's algorithm takes, with our rule for ties."""
    cut, draw = (hash_ids(pa.array(ids), s) for s in (derive_seed(seed, "cutoff"), seed))
    by_ease = sorted(range(len(ids)), key=lambda at: (difficulty[at], cut[at]))
    kept = by_ease[: len(ids) - len(ids) * cutoff_percent // 100]
    kept = [at for at in kept if np.isfinite(difficulty[at])]
    if not kept:
        return set()
    stratum = strata_by_hand([difficulty[at] for at in kept], count)
    members = [[at for at, s in zip(kept, stratum, strict=True) if s == i] for i in range(count)]
    given = by_the_book([len(rows) for rows in members], budget)
    chosen = [
        sorted(rows, key=lambda at: draw[at])[:n] for rows, n in zip(members, given, strict=True)
    ]
    return {ids[at] for at in chain.from_iterable(chosen)}


COVERED = Ranking(
    ("any",),
    lambda tables: np.zeros(len(tables[0]["row"]), np.int8),
    ("difficulty",),
    lambda tables: tables[0]["difficulty"],
    "stratified",
    balanced=False,
    shortfall="rollover",
    strata=5,
    hard_cutoff=0.3,
)
ROWS = 120
SEED = derive_seed(0, "select", "start", 0)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).integers(4, size=ROWS)


def scores(kind, labels):
    draw = np.random.default_rng(1)
    made = {
        "smooth": draw.normal(size=ROWS),
        "long tail": draw.pareto(1, size=ROWS),
        "ties": draw.integers(4, size=ROWS),
        "equal": np.ones(ROWS),
        "some never met": np.where(draw.random(ROWS) < 0.5, np.inf, draw.normal(size=ROWS)),
        "classes": labels,
    }[kind]
    return made.astype(np.float64)


def choose(folder, labels, difficulty, cuts, ranking, count, used=()):
    table = score_table(folder / "table", labels, labels, cuts, difficulty=difficulty)
    engine = make_engine(folder / "run", source=CountedSource(4, ROWS))
    chosen = select(engine, [table], ranking, count, used)
    return chosen, [set(SelectedIds(chosen.folder, 4)[label]) for label in range(4)]


@pytest.mark.parametrize(
    "kind", ["smooth", "long tail", "ties", "equal", "some never met", "classes"]
)
def test_a_selection_is_that_of_the_paper_for_any_partition(tmp_path, labels, kind):
    difficulty = scores(kind, labels)
    ids = [f"image{i:04d}" for i in range(ROWS)]
    for name, cuts in (("one", []), ("many", [1, 50, 51, 90])):
        _, found = choose(tmp_path / name, labels, difficulty, cuts, COVERED, count=8)
        expected = coverage_by_hand(ids, difficulty.astype(np.float32), 32, 5, 30, SEED)
        assert set().union(*found) == expected
        assert len(expected) == 32


def test_every_class_may_have_strata_of_its_own(tmp_path, labels):
    difficulty = scores("smooth", labels) + 10 * labels
    ranking = replace(COVERED, balanced=True)
    chosen, found = choose(tmp_path, labels, difficulty, [33], ranking, count=[8, 3, 0, 5])
    for label, budget in enumerate((8, 3, 0, 5)):
        mine = np.flatnonzero(labels == label)
        ids = [f"image{i:04d}" for i in mine]
        values = difficulty[mine].astype(np.float32)
        assert found[label] == coverage_by_hand(ids, values, budget, 5, 30, SEED)
    assert chosen.summary["chosen"] == [8, 3, 0, 5]
    left = np.bincount(labels, minlength=4)
    assert chosen.summary["candidates"] == (left - left * 3 // 10).tolist()


def test_no_image_beyond_the_cutoff_is_taken_and_the_file_tells_the_difficulty(tmp_path, labels):
    difficulty = scores("long tail", labels)
    chosen, _ = choose(tmp_path, labels, difficulty, [], COVERED, count=21)  # all that are left
    table = read_table(chosen.folder / "selection.parquet").to_pydict()
    rows = [int(name.removeprefix("image")) for name in table["id"]]
    assert table["difficulty"] == difficulty[rows].tolist()
    assert sorted(table["difficulty"]) == sorted(difficulty)[: ROWS * 7 // 10]
    assert chosen.summary["difficulty"]["max"] == sorted(difficulty)[ROWS * 7 // 10 - 1]
    assert table["class_index"] == sorted(table["class_index"])


def test_used_images_belong_to_no_stratum(tmp_path, labels):
    difficulty = scores("ties", labels)
    first, taken = choose(tmp_path / "a", labels, difficulty, [], COVERED, count=5)
    _, then = choose(tmp_path / "b", labels, difficulty, [60], COVERED, count=5, used=[])
    assert taken == then
    table = score_table(tmp_path / "c", labels, labels, [], difficulty=difficulty)
    engine = make_engine(tmp_path / "run", source=CountedSource(4, ROWS))
    second = select(engine, [table], COVERED, 5, [first])
    again = {name for label in range(4) for name in SelectedIds(second.folder, 4)[label]}
    assert not again & set().union(*taken)
    left = [i for i in range(ROWS) if f"image{i:04d}" not in set().union(*taken)]
    ids = [f"image{i:04d}" for i in left]
    assert again == coverage_by_hand(ids, difficulty[left].astype(np.float32), 20, 5, 30, SEED)


def test_too_few_images_below_the_cutoff_are_refused_and_the_cutoff_is_named(tmp_path, labels):
    strict = replace(COVERED, shortfall="error")
    with pytest.raises(Refused, match=r"only 84 images left .* 88 are asked .*hard_cutoff"):
        choose(tmp_path, labels, scores("smooth", labels), [], strict, count=22)


def test_strata_are_part_of_the_key_of_a_selection_that_draws_from_them():
    assert COVERED.key() != replace(COVERED, strata=6).key()
    assert COVERED.key() != replace(COVERED, hard_cutoff=0.2).key()
    easy = replace(COVERED, order="simple")
    assert easy.key() == replace(easy, strata=6).key()


@settings(deadline=None)
@given(st.lists(SINGLE, min_size=1, max_size=80), st.integers(0, 99), st.integers(1, 9))
def test_what_is_planned_is_what_is_there(values, percent, count):
    """The sizes of the first walk are those that the second one finds."""
    difficulty = np.array(values, np.float32)
    assume(np.isfinite(np.ptp(difficulty.astype(np.float64))))
    ties = np.random.default_rng(0).integers(2**64, size=len(values), dtype=np.uint64)
    labels, places = np.zeros(len(values), np.int32), order(difficulty, ties)
    everything = np.array([len(values)])
    plan = plan_strata(places.copy(), labels, everything, True, count, percent / 100)
    kept = plan.keeps(labels, places)
    assert kept.sum() == len(values) - len(values) * percent // 100
    found = np.bincount(plan.of(labels, difficulty)[kept], minlength=count)
    assert plan.quotas.tolist() == found.tolist()
