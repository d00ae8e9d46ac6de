"""Whether the GPUs that Ray knows can be computed on; asked before any work."""

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError

from raydd.errors import Refused

_BUSY_SECONDS = 60.0  # all of them may belong to others: the run will wait for its turn
_JOIN_SECONDS = 900.0  # a machine with GPUs boots within minutes


def local_gpus() -> int:
    """GPUs of this machine."""
    import torch  # processes that only decode do not import it

    return torch.cuda.device_count()


def check_gpus(seconds: float = _BUSY_SECONDS, ask: Callable[[], str] | None = None) -> bool:
    """Refuse GPUs that Ray hands out, but torch cannot compute on: its driver may be too old.

    Args:
        seconds: how long to wait for a free one.
        ask: what is asked there; returns what is wrong, or nothing.
    Returns:
        Whether one has answered; a task that waits also tells an autoscaler that a GPU is wanted.
    Raises:
        Refused: torch cannot use it.
    """
    task: Any = ray.remote(num_cpus=0, num_gpus=1)(ask or _what_is_wrong)
    answer = task.remote()
    try:
        trouble = ray.get(answer, timeout=seconds)
    except GetTimeoutError:
        ray.cancel(answer, force=True)
        return False
    if trouble:
        raise Refused(
            f"Ray hands out GPUs here, but torch cannot compute on them: {trouble}; install a "
            "driver and a torch that fit each other, or use cluster.use_gpu=false."
        )
    return True


def wait_for_gpus(say: Callable[[str], None]) -> None:
    """Wait until the cluster that was joined has a GPU, with a line, some minutes at most."""
    if ray.cluster_resources().get("GPU", 0) < 1:
        say(f"this cluster has no GPU yet: waits for one, {_JOIN_SECONDS / 60:.0f} minutes at most")
        check_gpus(_JOIN_SECONDS)


def _what_is_wrong() -> str:
    import warnings

    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return ""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built for CPUs only"
    reasons = [str(warning.message).partition("(Triggered")[0].strip() for warning in said]
    return reasons[0].rstrip(".") if reasons else f"torch {torch.__version__} sees none"
