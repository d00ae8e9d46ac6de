"""Give memory back that the allocators keep."""

import ctypes
import ctypes.util
from collections.abc import Callable

import pyarrow as pa


def _find_trim() -> Callable[[int], int] | None:
    library = ctypes.util.find_library("c")
    return getattr(ctypes.CDLL(library), "malloc_trim", None) if library else None


_malloc_trim = _find_trim()  # glibc has it


def release_memory() -> None:
    """Return freed memory to the system, as far as the C library can.

    Small results that are kept settle in the holes that large tensors left, so that the next large
    tensors do not fit there again: a process that makes many small results of many large tensors
    grows by hundreds of megabytes of holes, though nothing leaks.
    """
    pa.default_memory_pool().release_unused()
    if _malloc_trim:
        _malloc_trim(0)
