"""The files of an image folder: which are images, how they are read and what their ids are.

A name never makes an image and never unmakes one, but for the suffixes below: whatever lies in a
class folder and is not hidden is read, and its first bytes decide (:mod:`raydd.data.images`). So an
image of any suffix, or of none, is used, and what is no image turns up among the rejected.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from raydd.data.sources.base import MAX_IMAGE_BYTES, Row, broken
from raydd.data.sources.files import Root, is_folder, is_text

# What people keep beside images. It is not read, only counted.
NOT_IMAGES = {
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".htm",
    ".pdf", ".log", ".ini", ".db", ".url", ".py", ".ipynb", ".sh", ".mat", ".npy", ".npz", ".pkl",
    ".pt", ".pth", ".h5", ".parquet", ".arrow", ".md5", ".sha256", ".zip", ".tar", ".gz", ".tgz",
    ".7z", ".rar", ".mp4", ".avi", ".mov", ".svg",
}  # fmt: skip
HIDDEN = "hidden"
READ_AHEAD = 32  # files per request: object stores serve them side by side
READ_AHEAD_BYTES = 16 << 20  # and no more of them than this, unless one file alone is larger


@dataclass(frozen=True, slots=True)
class FolderFile:
    """A file that is taken for an image until its bytes say otherwise.

    Attributes:
        path: below the split folder.
        size: bytes.
        stamp: of its content; see :mod:`raydd.data.sources.identity`.
        refusal: why it cannot be an image; None for a good one.
    """

    path: str
    size: int
    stamp: str = ""
    refusal: str | None = None


def list_files(root: Root, base: str, relative: str, unused: Counter[str]) -> Iterator[FolderFile]:
    """List what may be an image below a folder, depth first, sorted by name.

    Args:
        root: the data set's folder.
        base: split folder below it; paths are spelled from there.
        relative: folder below ``base``; "" lists all of it.
        unused: counts, by kind, what is passed over.
    """
    for entry in root.listing("/".join(filter(None, (base, relative)))):
        path = f"{relative}/{entry['name']}" if relative else entry["name"]
        kind = kind_of_no_image(entry)
        if kind is not None:
            unused[kind] += 1
        elif is_folder(entry) and entry["islink"]:
            # It may lead to a folder above: the same images again and again.
            yield FolderFile(path, 0, refusal="a link to a folder is not followed")
        elif is_folder(entry):
            yield from list_files(root, base, path, unused)
        else:
            yield folder_file(path, entry)


def kind_of_no_image(entry: dict[str, Any]) -> str | None:
    """The kind under which an entry of ``Root.listing`` is passed over; None for images, folders.

    Hidden are also ``._*`` and ``__MACOSX``, which archives made on a Mac carry.
    """
    if is_hidden(entry["name"]):
        return HIDDEN
    suffix = suffix_of(entry["name"])
    return suffix if suffix in NOT_IMAGES and not is_folder(entry) else None


def suffix_of(name: str) -> str:
    """The ending of a file name, in small letters with its dot; "" where there is none."""
    return os.path.splitext(name)[1].lower()


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is none of the data set's."""
    return name.startswith(".") or name == "__MACOSX"


def folder_file(path: str, entry: dict[str, Any]) -> FolderFile:
    """Return the file at ``path``, refused where an entry of a listing says that it is no image."""
    if entry["type"] != "file":  # opening a pipe would wait for ever
        return FolderFile(path, 0, refusal="not a plain file, or a link that leads nowhere")
    size = int(entry["size"])
    if size > MAX_IMAGE_BYTES:
        return FolderFile(path, 0, refusal=f"{size} bytes is too large for an image")
    return FolderFile(path, size, entry["stamp"])


def read_rows(root: Root, base: str, files: Iterable[tuple[FolderFile, int]]) -> Iterator[Row]:
    """Read files, given with their class indices, a few at a time."""
    block: list[tuple[FolderFile, int]] = []
    pending = 0
    for file, class_index in files:
        if len(block) == READ_AHEAD or (block and pending + file.size > READ_AHEAD_BYTES):
            yield from _block_rows(root, base, block)
            block, pending = [], 0
        block.append((file, class_index))
        pending += file.size
    yield from _block_rows(root, base, block)


def _block_rows(root: Root, base: str, block: Sequence[tuple[FolderFile, int]]) -> Iterator[Row]:
    wanted = [file for file, _ in block if file.refusal is None]
    # No more than was listed: what is no common file may have no end.
    read = _contents(root, base, [file.path for file in wanted], [file.size for file in wanted])
    contents = {file.path: content for file, content in zip(wanted, read, strict=True)}
    for file, class_index in block:
        content = contents.get(file.path)
        if isinstance(content, bytes):
            yield Row(id_of_path(file.path), class_index, content)
        else:
            # Only the error's name: its text would hold the root's path.
            reason = file.refusal or f"the file cannot be read: {type(content).__name__}"
            yield broken(id_of_path(file.path), reason, class_index)


def fetch_files(root: Root, base: str, ids: Sequence[str]) -> dict[str, bytes]:
    """Read files by id.

    Raises:
        ValueError: an id that names no file below ``base``.
    """
    found: dict[str, bytes] = {}
    for begin in range(0, len(ids), READ_AHEAD):
        block = list(ids[begin : begin + READ_AHEAD])
        paths = [_path_of_id(root, row_id) for row_id in block]
        contents = _contents(root, base, paths, [None] * len(block))
        for row_id, content in zip(block, contents, strict=True):
            if isinstance(content, Exception):
                raise _absent(root, row_id) from content
            found[row_id] = content
    return found


def _contents(
    root: Root, base: str, paths: Sequence[str], sizes: Sequence[int | None]
) -> list[Any]:
    """First bytes of each file, all where the size is None, or the exception of reading it."""
    folder = f"{root.path}/{base}" if base else root.path
    # Not fs.cat(): that would take [ and * in file names for patterns.
    return list(
        root.fs.cat_ranges(
            [f"{folder}/{path}" for path in paths], [None] * len(paths), list(sizes),
            on_error="return",
        )
    )  # fmt: skip


def id_of_path(path: str) -> str:
    """Spell a path as text; no path begins with a slash, so the two spellings never meet."""
    if is_text(path):
        return path
    return "/" + quote_from_bytes(path.encode("utf-8", errors="surrogateescape"))


def _path_of_id(root: Root, row_id: str) -> str:
    """Inverse of :func:`id_of_path`; a path that leaves the split folder is refused."""
    path = row_id
    if row_id.startswith("/"):
        path = unquote_to_bytes(row_id[1:]).decode("utf-8", errors="surrogateescape")
    if {"", ".", ".."} & set(path.split("/")):
        raise _absent(root, row_id)
    return path


def _absent(root: Root, row_id: str) -> ValueError:
    return ValueError(f"The imagefolder root {root.url} holds no image {row_id!r}.")
