"""Trials that need the same stage at the same time wait for the one that makes it.

The locks live in an actor of the sweep, not in files: object stores have none, and whoever holds a
lock may die on another machine. Who waits looks now and then whether the holder is still alive.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

_POLL_SECONDS = 0.5
_ASK_ALIVE_EVERY = 20  # polls


class _Keeper:
    def __init__(self) -> None:
        self.holders: dict[str, tuple[str, Any]] = {}

    def acquire(self, key: str, name: str, holder: Any) -> Any:
        """Give the lock if it is free or already ``name``'s; else return who holds it."""
        held = self.holders.setdefault(key, (name, holder))
        return None if held[0] == name else held

    def release(self, key: str, name: str) -> None:
        """Free the lock if ``name`` holds it."""
        if key in self.holders and self.holders[key][0] == name:
            del self.holders[key]


def make_keeper() -> Any:
    """The actor that keeps the locks of one sweep."""
    return ray.remote(num_cpus=0, max_restarts=-1)(_Keeper).remote()


def stage_guard(keeper: Any, name: str, holder: Any) -> Callable[[str], Any]:
    """A guard for :class:`raydd.store.artifacts.Stages`.

    Args:
        keeper: of the sweep.
        name: of the trial; a trial whose process was started again still holds its locks.
        holder: actor that works for it, with a method ``ping``.
    """

    @contextmanager
    def guard(key: str) -> Iterator[None]:
        polls = 0
        while (held := ray.get(keeper.acquire.remote(key, name, holder))) is not None:
            polls += 1
            if polls % _ASK_ALIVE_EVERY == 0 and not _is_alive(held[1]):
                ray.get(keeper.release.remote(key, held[0]))
            else:
                time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            ray.get(keeper.release.remote(key, name))

    return guard


def _is_alive(holder: Any) -> bool:
    """Whether an actor lives: one at work does not answer in time, a dead one at once."""
    answer = holder.ping.remote()
    try:
        ray.get(answer, timeout=_POLL_SECONDS)
    except GetTimeoutError:
        ray.cancel(answer)
    except RayActorError:
        return False
    return True
