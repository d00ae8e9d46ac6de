"""Work that threads do ahead of whoever takes its results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from raydd.store.memory import keep_memory

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Iterator[Result]:
    """Results in the order of the items, which are asked for as they are needed.

    Args:
        work: called by the threads.
        items: taken one by one, by the caller's thread.
        threads: how many work at once.
        ahead: how many items are in work or wait to be taken, at most.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            if len(pending) == ahead:
                yield pending.popleft().result()
            pending.append(pool.submit(work, item))
        while pending:
            yield pending.popleft().result()


def set_threads(count: int) -> None:
    """Have this process compute with ``count`` CPU threads, and keep memory for the next step."""
    import torch  # processes that only decode do without it

    torch.set_num_threads(count)
    keep_memory()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute with ``count`` CPU threads inside, and with as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    set_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
