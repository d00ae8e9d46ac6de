"""Arrays on disk that are read a few rows at a time, local or on an object store."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from upath import UPath

from raydd.store.files import is_local

_PARSER = threading.Lock()  # numpy asks ast, which in Python 3.11 fails when two threads do at once


@contextmanager
def new_array(path: UPath, shape: tuple[int, ...], dtype: str) -> Iterator[np.ndarray]:
    """A memory-mapped array of zeros that appears at ``path`` (.npy) when the block ends.

    Its pages go to the local disk when memory is short; a block that fails leaves nothing.
    """
    with tempfile.TemporaryDirectory(dir=_scratch(path)) as folder:
        file = Path(folder) / "array.npy"
        array = np.lib.format.open_memmap(file, "w+", np.dtype(dtype), shape)
        yield array
        array.flush()
        del array
        if is_local(path):
            os.replace(file, path.path)
        else:
            with file.open("rb") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 24)


def read_rows(path: UPath, first: int, stop: int) -> np.ndarray:
    """Rows [first, stop) of a .npy array of two or more dimensions; no other byte is read."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{path} is a .npy file of version {version}, not 1.0")
        with _PARSER:
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if fortran:
            raise ValueError(f"{path} is stored by columns, not by rows")
        row = dtype.itemsize * int(np.prod(shape[1:]))
        file.seek(file.tell() + first * row)
        content = file.read((stop - first) * row)
    return np.frombuffer(content, dtype).reshape(stop - first, *shape[1:])


def open_array(path: UPath) -> np.ndarray:
    """A whole array: mapped into memory where it lies on a disk, else read."""
    if is_local(path):
        return np.load(path.path, mmap_mode="r")
    with path.open("rb") as file:
        return np.load(file)


def _scratch(path: UPath) -> str | None:
    """A local path's own disk, so that the file can be renamed into place."""
    return str(Path(path.path).parent) if is_local(path) else None
