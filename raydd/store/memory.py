"""What the allocators keep of freed memory, and what they give back."""

import ctypes
import ctypes.util
from collections.abc import Callable

import pyarrow as pa

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h
_KEPT_BYTES = 128 << 20  # about what a step of a small network frees


def _find(*names: str) -> list[Callable[..., int] | None]:
    library = ctypes.util.find_library("c")
    loaded = ctypes.CDLL(library) if library else None
    return [getattr(loaded, name, None) for name in names]


_malloc_trim, _mallopt = _find("malloc_trim", "mallopt")  # glibc has them


def keep_memory() -> None:
    """Have this process keep up to 128 MiB of what it frees, where the C library can.

    A network on a CPU needs as much in every step. The system would take large tensors back and
    hand them out again page by page, each filled with zeros: up to two fifths of a forward pass
    (``benchmarks/peers.py``). What is kept is returned by :func:`release_memory`.
    """
    if _mallopt:
        _mallopt(_MMAP_MAX, 0)
        _mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def release_memory() -> None:
    """Return freed memory to the system, as far as the C library can.

    Small results that are kept settle in the holes that large tensors left, so that the next large
    tensors do not fit there again: a process that makes many small results of many large tensors
    grows by hundreds of megabytes of holes, though nothing leaks.
    """
    pa.default_memory_pool().release_unused()
    if _malloc_trim:
        _malloc_trim(0)
