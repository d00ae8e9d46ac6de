"""Training dynamics: events and margins against a recount, across ranks, epochs and kills."""

from itertools import pairwise

import numpy as np
import torch
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from raydd.engine.passes.dynamics import DynamicsTable, TrainingDynamics, margins
from raydd.store.tables import encode_places

LABEL = 1  # of every image here; it is one of three classes


def recount(visits):
    """Events, by the definition: right at one visit and wrong at the next; None if never right."""
    right = [margin > 0 for margin in visits]
    events = sum(before and not after for before, after in pairwise(right))
    return events if any(right) else None


def logits(values):
    """Logits [B, 3] whose margins for the class are those."""
    made = torch.zeros(len(values), 3)
    made[:, LABEL] = torch.tensor(values, dtype=torch.float32)
    made[:, 0] = -5
    return made


def visit(counter, places, values):
    labels = torch.full((len(values),), LABEL)
    counter.visit(np.asarray(places), logits(values), labels)


def count(counter, epochs):
    for visits in epochs:
        for place, margin in visits.items():
            visit(counter, [place], [margin])
        counter.close_epoch(rank=0, world=1)


MARGIN = st.integers(-4, 4).map(lambda number: number + 0.25)
EPOCHS = st.lists(st.dictionaries(st.integers(0, 5), MARGIN), max_size=7)


@settings(deadline=None)
@given(EPOCHS, st.integers(0, 7))
def test_the_counts_equal_a_recount_also_after_a_restart(epochs, restart):
    counter = TrainingDynamics()
    count(counter, epochs[:restart])
    successor = TrainingDynamics()
    successor.restore(counter.state())
    count(successor, epochs[restart:])
    met = sorted({place for visits in epochs for place in visits})
    assert successor.places.tolist() == met
    found = successor.columns
    for at, place in enumerate(met):
        visits = [visits[place] for visits in epochs if place in visits]
        expected = recount(visits)
        assert found["learned"][at] == (expected is not None)
        assert found["events"][at] == (expected or 0)
        assert found["margin"][at] / found["visits"][at] == np.float32(np.mean(visits))


def test_a_margin_is_the_true_logit_minus_the_largest_other():
    drawn = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.arange(50) % 7
    for row, label, found in zip(drawn.float(), labels, margins(drawn, labels), strict=True):
        others = [float(value) for at, value in enumerate(row) if at != label]
        assert float(found) == float(row[label]) - max(others)


def test_an_image_counts_once_per_epoch():
    counter = TrainingDynamics()
    for margin in (2.0, -3.0, 5.0, -1.0):  # one epoch: the first visit counts
        visit(counter, [3], [margin])
    counter.close_epoch(rank=0, world=1)
    found = {name: values.tolist() for name, values in counter.columns.items()}
    expected = {"events": [0], "right": [True], "learned": [True], "margin": [2.0], "visits": [1]}
    assert found == expected


def test_a_saved_table_ranks_what_was_never_learned_hardest(tmp_path):
    counter = TrainingDynamics()
    places = encode_places(np.array([0, 0, 2]), np.array([4, 7, 0]))
    for margin in ([1.0, -1.0, 2.0], [-3.0, -2.0, 5.0]):
        visit(counter, places, margin)
        counter.close_epoch(rank=0, world=1)
    counter.save(UPath(tmp_path), epochs=9)
    found = DynamicsTable(UPath(tmp_path)).lookup(
        np.array([2, 0, 0, 0, 5]), np.array([0, 7, 4, 5, 0])
    )
    assert found["forgetting"].tolist() == [0, 9, 1, -1, -1]
    np.testing.assert_equal(found["aum"].tolist(), [3.5, -1.5, -1.0, np.nan, np.nan])
    assert (found["forgetting"].dtype, found["aum"].dtype) == (np.int32, np.float32)


def test_what_an_older_version_left_has_events_and_no_margins(tmp_path):
    """In a state that a training goes on from, and in a finished folder."""
    counter = TrainingDynamics()
    visit(counter, [3], [1.0])
    counter.close_epoch(rank=0, world=1)
    state = counter.state()
    old = {name: state[name] for name in ("places", "events", "right", "learned")}
    successor = TrainingDynamics()
    successor.restore(old)
    visit(successor, [3, 4], [-1.0, 1.0])
    successor.close_epoch(rank=0, world=1)
    successor.save(UPath(tmp_path), epochs=2)
    table = DynamicsTable(UPath(tmp_path))
    assert list(table.columns) == ["forgetting"]
    assert table.lookup(np.zeros(2, int), np.array([3, 4]))["forgetting"].tolist() == [1, 0]
    assert not DynamicsTable(UPath(tmp_path / "elsewhere")).columns


def _rank(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    counter = TrainingDynamics()
    for margin in (1.0, -2.0):
        mine = np.arange(rank, 7, 2)
        padding = np.array([0])  # both ranks meet image 0; rank 0 is asked first
        visit(counter, np.concatenate([mine, padding]), [margin + i for i in mine] + [-99 * margin])
        counter.close_epoch(rank, 2)
    if rank == 0:
        counter.save(UPath(folder), epochs=2)
    else:
        assert not len(counter.places)
    torch.distributed.destroy_process_group()


def test_two_ranks_have_one_writer(tmp_path):
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    found = DynamicsTable(UPath(tmp_path)).lookup(np.zeros(7, int), np.arange(7))
    assert found["forgetting"].tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert found["aum"].tolist() == [i - 0.5 for i in range(7)]


def test_an_epoch_without_visits_is_no_error():
    counter = TrainingDynamics()
    counter.close_epoch(rank=0, world=1)
    assert not len(counter.places)
