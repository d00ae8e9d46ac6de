"""Forgetting events: the counter against a brute-force recount, across ranks, epochs and kills."""

from itertools import pairwise

import numpy as np
import torch
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from raydd.engine.passes.forgetting import ForgettingCounter, ForgettingTable
from raydd.store.tables import encode_places


def recount(visits):
    """Events, by the definition: right at one visit and wrong at the next; None if never right."""
    events = sum(before and not after for before, after in pairwise(visits))
    return events if any(visits) else None


def count(counter, epochs):
    for visits in epochs:
        for place, right in visits.items():
            counter.visit(np.array([place]), torch.tensor([right]))
        counter.close_epoch(rank=0, world=1)


EPOCHS = st.lists(st.dictionaries(st.integers(0, 5), st.booleans()), max_size=7)


@settings(deadline=None)
@given(EPOCHS, st.integers(0, 7))
def test_the_counter_equals_a_recount_also_after_a_restart(epochs, restart):
    counter = ForgettingCounter()
    count(counter, epochs[:restart])
    successor = ForgettingCounter()
    successor.restore(counter.state())
    count(successor, epochs[restart:])
    met = sorted({place for visits in epochs for place in visits})
    assert successor.places.tolist() == met
    for at, place in enumerate(met):
        expected = recount([visits[place] for visits in epochs if place in visits])
        assert successor.learned[at] == (expected is not None)
        assert successor.events[at] == (expected or 0)


def test_an_image_counts_once_per_epoch():
    counter = ForgettingCounter()
    for right in (True, False, True, False):  # one epoch: the first visit counts
        counter.visit(np.array([3]), torch.tensor([right]))
    counter.close_epoch(rank=0, world=1)
    assert (counter.right.tolist(), counter.events.tolist()) == ([True], [0])


def test_a_saved_table_ranks_what_was_never_learned_hardest(tmp_path):
    counter = ForgettingCounter()
    places = encode_places(np.array([0, 0, 2]), np.array([4, 7, 0]))
    for right in ([True, False, True], [False, False, True]):
        counter.visit(places, torch.tensor(right))
        counter.close_epoch(rank=0, world=1)
    counter.save(UPath(tmp_path), epochs=9)
    found = ForgettingTable(UPath(tmp_path)).lookup(
        np.array([2, 0, 0, 0, 5]), np.array([0, 7, 4, 5, 0])
    )
    assert found.tolist() == [0, 9, 1, -1, -1]


def _rank(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    counter = ForgettingCounter()
    for right in (True, False):
        mine = np.arange(rank, 7, 2)
        padding = np.array([0])  # both ranks meet image 0; rank 0 is asked first
        counter.visit(
            np.concatenate([mine, padding]), torch.tensor([right] * len(mine) + [not right])
        )
        counter.close_epoch(rank, 2)
    if rank == 0:
        counter.save(UPath(folder), epochs=2)
    else:
        assert not len(counter.places)
    torch.distributed.destroy_process_group()


def test_two_ranks_have_one_writer(tmp_path):
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    found = ForgettingTable(UPath(tmp_path)).lookup(np.zeros(7, int), np.arange(7))
    assert found.tolist() == [1] * 7


def test_an_epoch_without_visits_is_no_error():
    counter = ForgettingCounter()
    counter.close_epoch(rank=0, world=1)
    assert not len(counter.places)
