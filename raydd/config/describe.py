"""What a run says about its data before it works on them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from upath import UPath

from raydd.config.dataset import DatasetConfig
from raydd.data.images import BrokenImage, image_size
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source
from raydd.data.sources.heldout import HeldOut
from raydd.store.files import claim_folder, write_atomic
from raydd.store.progress import Progress

_LOOKED_AT = 16  # images, until one of them is not broken
_DATA = "data.json"  # in a run's folder: the fingerprints of both splits


def describe_splits(train: Source, test: Source) -> str:
    """One line about the images of both splits, as far as they are known before work begins."""
    words = []
    for name, source in (("training", train), ("test", test)):
        counts = source.class_counts()
        known = "not counted yet," if counts is None else f"{int(counts.sum()):,}"
        unused = ", ".join(f"{count:,} {kind}" for kind, count in source.unused.items())
        words.append(f"{known} {name} images" + (f" (not used: {unused})" if unused else ""))
    return f"{len(train.class_names):,} classes; {'; '.join(words)}"


def describe_sizes(source: Source, preprocessing: Preprocessing) -> str | None:
    """A sentence about images that are enlarged to more than twice their size, by the first one.

    Nothing else would say that: such images are made and trained on at the cost of large ones.
    """
    rows = (row for shard in source.shards()[:1] for row in source.read(shard))
    for row in islice(rows, _LOOKED_AT):
        with suppress(BrokenImage):
            width, height = image_size(row.image)
            side = min(width, height)
            if 2 * side >= preprocessing.resize:
                return None
            return (
                f"the first image has {width} x {height} pixels and is enlarged to "
                f"{preprocessing.resize}: dataset.resolution={side} dataset.resize={side} keeps "
                "its size"
            )
    return None


def judged_on(data: DatasetConfig, test: Source) -> str:
    """Which images networks are judged on, for people; ``test`` is the source of them."""
    if isinstance(test, HeldOut):
        return f"{test.share:.0%} of the images, held out by seed {test.seed}"
    if data.split_test == data.split_train:
        return f"the training images themselves (split {data.split_train!r})"
    return f"the test images (split {data.split_test!r})"


def enter_folder(
    folder: UPath, what: Mapping[str, Any], sources: Sequence[Source], progress: Progress
) -> UPath:
    """Claim a run's folder and follow its journal; say so where its data are no longer the same.

    Args:
        folder: of the run.
        what: everything that decides what the run makes, as json values.
        sources: of both splits.
        progress: says what is being done.
    Raises:
        Refused: see :func:`raydd.store.files.claim_folder`.
    """
    folder = claim_folder(folder, what)
    progress.follow(folder)
    if change := remember_data(folder, sources):
        progress.note(change)
    return folder


def remember_data(folder: UPath, sources: Sequence[Source]) -> str | None:
    """Note which data a run is made of; a sentence where it began with others, else None.

    Nothing else would say why its stages are made anew.

    Args:
        folder: of the run.
        sources: of both splits.
    """
    path, now = folder / _DATA, [source.fingerprint for source in sources]
    before = json.loads(path.read_text()) if path.exists() else now
    write_atomic(path, json.dumps(now).encode())
    if before == now:
        return None
    return (
        "the images are not those that this run began with, or a copy whose files have other "
        "times: what was made of them is made anew; one dataset.version from the start makes "
        "copies the same data"
    )
