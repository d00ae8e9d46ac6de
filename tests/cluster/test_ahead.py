"""CPU work ahead of a device, by threads and by tasks of a cluster."""

import os

import pytest

from raydd.cluster.ahead import map_beside


def _double(number: int) -> tuple[int, int]:
    return 2 * number, os.getpid()


def _refuse(number: int) -> int:
    if number == 3:
        raise KeyError("number three")
    return number


@pytest.mark.parametrize("tasks", [0, 2])
def test_results_come_in_the_order_of_the_items(ray4, by_value, tasks):
    found = list(map_beside(_double, iter(range(40)), tasks))
    assert [result for result, _ in found] == list(range(0, 80, 2))
    assert (os.getpid() in {process for _, process in found}) == (tasks == 0)


@pytest.mark.parametrize("tasks", [0, 2])
def test_no_more_items_are_taken_than_wait(ray4, by_value, tasks):
    taken = []
    items = (taken.append(number) or number for number in range(1000))
    results = map_beside(_double, items, tasks)
    assert next(results)[0] == 0
    assert len(taken) <= 17
    results.close()


@pytest.mark.parametrize("tasks", [0, 2])
def test_an_error_is_that_of_the_work(ray4, by_value, tasks):
    with pytest.raises(KeyError, match="number three"):
        list(map_beside(_refuse, range(5), tasks))
