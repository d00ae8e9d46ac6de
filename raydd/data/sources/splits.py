"""No file may be in two splits: what would be judged on was then trained on."""

import os
from typing import Any

from raydd.data.sources.base import Source


def shared_files(train: Source, test: Source) -> list[str]:
    """Name what two splits share.

    Args:
        train: one split, of any kind.
        test: another, of the same data set or not.
    Returns:
        Absolute addresses of the files that both have, sorted; of image folders that of the inner
        one, where it lies within the other split's. Local links count as what they lead to. Empty
        where nothing is shared, and for sources without files. (The two sides of a held-out set
        do share their files, and no image: there is nothing to ask.)
    """
    ours, theirs = _places(train), _places(test)
    shared = {place for place in theirs if _is_within(place, ours)}
    return sorted(shared | {place for place in ours if _is_within(place, theirs)})


def _places(source: Any) -> set[str]:
    """Absolute addresses of a source's files, else of its list of files, else of its folder."""
    while hasattr(source, "source"):  # a view of some of its images
        source = source.source
    if not hasattr(source, "root"):
        return set()
    fs, below = source.root.fs, [getattr(source, "folder", "")]
    if hasattr(source, "files"):
        below = [path for path, *_ in source.files]
    elif hasattr(source, "labels"):  # lists of two splits may share a folder, but no image
        below = [source.labels.path]
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    paths = [f"{source.root.path}/{path}".rstrip("/") for path in below]
    if protocol in ("file", "local"):
        paths = [os.path.realpath(path) for path in paths]
    return {f"{protocol}://{path}" for path in paths}


def _is_within(place: str, places: set[str]) -> bool:
    """Tell whether a place, or a folder above it, is one of the places."""
    parts = place.split("/")
    return any("/".join(parts[:length]) in places for length in range(len(parts), 0, -1))
