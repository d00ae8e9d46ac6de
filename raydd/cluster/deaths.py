"""What Ray says when a process or a machine is gone: the one rule of what is worth another try."""

from ray.exceptions import RayError, RayTaskError


def is_death(error: BaseException) -> bool:
    """Whether Ray tells of a lost process, node or object, rather than of what a task raised.

    Ray names a loss by what it knows at that moment: an actor on a node that has just been killed
    is unavailable first, later dead, and a block that lay there is lost.
    """
    return isinstance(error, RayError) and not isinstance(error, RayTaskError)
