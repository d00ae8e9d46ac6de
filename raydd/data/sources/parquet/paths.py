"""Images that a parquet file only names: they lie in files of their own, below the root."""

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby, islice

from raydd.data.sources.base import MAX_IMAGE_BYTES
from raydd.data.sources.files import Root
from raydd.data.sources.identity import stamp
from raydd.data.sources.parquet.rows import Cell

READ_AHEAD = 16  # images in memory, read at once: mostly waiting


def with_images(root: Root, table_path: str, cells: Iterable[Cell]) -> Iterator[Cell]:
    """Read the images of cells that have a path in their stead; the others pass as they are.

    Args:
        root: the data set's folder.
        table_path: of the file that names the images, below the root.
        cells: any number, a block of them in memory.
    """
    read = partial(_with_image, root, posixpath.dirname(table_path))
    for lie_elsewhere, run in groupby(cells, _lies_elsewhere):
        if not lie_elsewhere:
            yield from run
            continue
        with ThreadPoolExecutor(READ_AHEAD) as pool:
            while block := list(islice(run, READ_AHEAD)):
                yield from pool.map(read, block)


def image_stamps(root: Root, table_path: str, paths: Sequence[str | None]) -> list[str]:
    """Path, size and stamp of each image file; those that are not there are left out."""
    look = partial(_stamp, root, posixpath.dirname(table_path))
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        return [found for found in pool.map(look, [path for path in paths if path]) if found]


def _lies_elsewhere(cell: Cell) -> bool:
    return cell.image is None and bool(cell.path) and cell.damage is None


def _stamp(root: Root, folder: str, path: str) -> str | None:
    for place in _places(root, folder, path):
        try:
            entry = root.fs.info(place)
        except OSError:
            continue
        return f"{path} {entry.get('size')} {stamp(entry)}"
    return None


def _with_image(root: Root, folder: str, cell: Cell) -> Cell:
    for place in _places(root, folder, cell.path or ""):
        try:
            entry = root.fs.info(place)
            if entry["type"] != "file":  # opening a pipe would wait for ever
                return replace(cell, damage=f"{cell.path!r} is not a plain file")
            if int(entry["size"]) > MAX_IMAGE_BYTES:
                reason = f"{cell.path!r}, {entry['size']} bytes, is too large for an image"
                return replace(cell, damage=reason)
            return replace(cell, image=bytes(root.fs.cat_file(place)))
        except FileNotFoundError:
            continue
        except OSError as error:
            # Only the error's name: its text would hold the root's path.
            reason = f"{cell.path!r} cannot be read: {type(error).__name__}"
            return replace(cell, damage=reason)
    return replace(cell, damage=f"there is no image file {cell.path!r} below the root")


def _places(root: Root, folder: str, path: str) -> Iterator[str]:
    """Where a path may lead: from the root, or from the folder of the file that names it."""
    for prefix in (f"{root.url}/", f"{root.path}/"):
        path = path.removeprefix(prefix)
    for base in dict.fromkeys(("", folder)):
        joined = posixpath.normpath(posixpath.join(base, path))
        if "\0" not in path and "://" not in path and not joined.startswith(("/", "..")):
            yield f"{root.path}/{joined}"
