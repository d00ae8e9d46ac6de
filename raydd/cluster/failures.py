"""Which failures of a training are worth another try: deaths, not errors.

Ray Train starts a group again after any exception of its loop. One that the loop raised itself
would be raised again by every group that starts, each after half a minute.
"""

from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
from ray.train import UserCallback
from ray.train.v2._internal.exceptions import RayTrainError

from raydd.cluster.deaths import is_death
from raydd.errors import chain

_NEIGHBOURS = ("gloo", "NCCL", "c10d")  # in what a worker raises whose neighbour has died


class LoopError(Exception):
    """An exception that a loop raised, on its way to the driver.

    Attributes:
        error: the exception.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class StopOnError(UserCallback):
    """Ends a Ray Train run, whose controller calls this, at the first error of its loop."""

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Raise the error unless a worker died: what a callback raises ends the run."""
        errors = [worker_exceptions[rank] for rank in sorted(worker_exceptions)]
        if not any(follows_death(error) for error in errors):
            raise LoopError(errors[0])


def follows_death(error: BaseException) -> bool:
    """Whether a worker, or one that it waited for, has died, rather than raised an error."""
    return any(
        is_death(found)
        or isinstance(found, (RayTrainError, dist.DistError))
        or (type(found) is RuntimeError and any(name in str(found) for name in _NEIGHBOURS))
        for found in chain(error)
    )
