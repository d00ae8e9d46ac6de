"""CPU work that is done ahead of a device: by tasks of the cluster, or by threads beside it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from raydd.cluster.threads import map_ahead

_THREADS = 8
_AHEAD = 2  # items in work or waiting for each task or thread
_RETRIES = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_beside(
    work: Callable[[Item], Result], items: Iterable[Item], tasks: int
) -> Iterator[Result]:
    """Results in the order of the items, made on CPUs while the caller computes.

    Args:
        work: a function of the item alone; sent to each task once.
        items: picklable where there are tasks; taken one by one, by the caller's thread.
        tasks: of the cluster that work at once, a CPU each; 0 has threads of this process do it.
    Raises:
        Exception: what ``work`` raised; a task whose process or node dies is run again.
    """
    if not tasks:
        yield from map_ahead(work, items, _THREADS, _AHEAD * _THREADS)
        return
    shared, pending = ray.put(work), deque[Any]()
    try:
        for item in items:
            if len(pending) == _AHEAD * tasks:
                yield _receive(pending.popleft())
            pending.append(_remote().remote(shared, item))
        while pending:
            yield _receive(pending.popleft())
    finally:
        for answer in pending:  # the caller has failed, or wants no more
            ray.cancel(answer)


def _receive(answer: Any) -> Any:
    try:
        return ray.get(answer)
    except RayTaskError as error:
        raise error.cause from error


@cache
def _remote() -> Any:
    return ray.remote(max_retries=_RETRIES, num_cpus=1)(apply)


def apply(work: Callable[[Item], Result], item: Item) -> Result:
    """What a task does."""
    return work(item)
