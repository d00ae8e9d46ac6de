"""A real data set: where it lies, how networks see it, and how it is opened."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from omegaconf import MISSING

from raydd.data.classes import read_class_names
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import (
    Source,
    all_class_names,
    hold_out_share,
    lies_without_splits,
    open_source,
)
from raydd.data.sources.files import digest
from raydd.data.sources.heldout import HeldOut, labelled_ids
from raydd.data.sources.splits import shared_files
from raydd.errors import Refused
from raydd.ops.configs import later


@dataclass
class DatasetConfig:
    """A real data set: where it lies and how networks see it.

    Attributes:
        name: in run names and reports.
        kind: "digits", "imagefolder", "parquet" or "webdataset".
        root: local folder or any fsspec URI.
        split_train: name of the training split.
        split_test: name of the split that judges; null holds out a share of the training images,
            and so does an image folder without any splits.
        holdout: share of the images that is held out, within (0, 1).
        holdout_seed: which images these are; the run's seed does not move them.
        num_classes: C; null reads it from the data.
        classes_file: all classes in label order: one name per line, or one of the json and text
            files that :func:`raydd.data.classes.read_class_names` knows; null reads the names from
            the data.
        classes: keep these classes only, in this order: a list of names, or of WordNet ids of
            ImageNet's classes, or a file of either; null keeps all.
        image_column: of a parquet source.
        label_column: of a parquet source.
        resolution: side of a network's input, pixels.
        resize: shorter side before the centre crop, pixels.
        mean: per channel, of pixels in [0, 1].
        std: per channel, of pixels in [0, 1].
        flip: probability of a mirrored view; 0 where mirror images mean something else.
        licence: of the images; the distilled set inherits it.
        gated: whether the public copy asks for an accepted licence.
        train_images: of the public training split: ``plan=true`` counts with it where the data are
            not at hand; null needs the data.
        test_images: the same of the test split.
        version: a name of your own for these images. Copies with as many of every class that are
            read under it are the same data to the storage, whatever the times of their files;
            change it when an image or a label changes. Null goes by the files, see
            :mod:`raydd.data.sources.identity`.
    """

    name: str = MISSING
    kind: str = MISSING
    root: str = MISSING
    split_train: str = "train"
    split_test: str | None = "test"
    holdout: float = 0.1
    holdout_seed: int = 0
    num_classes: int | None = None
    classes_file: str | None = None
    classes: Any = None
    image_column: str = "image"
    label_column: str = "label"
    resolution: int = MISSING
    resize: int = MISSING
    mean: tuple[float, float, float] = MISSING
    std: tuple[float, float, float] = MISSING
    flip: float = 0.5
    licence: str = "unknown"
    gated: bool = False
    train_images: int | None = None
    test_images: int | None = None
    version: str | None = later(None)


def open_sources(data: DatasetConfig, judged: bool = True) -> tuple[Source, Source]:
    """Open the training and the test split of a real data set.

    Args:
        data: where it lies.
        judged: whether anything is judged on the test split: it may be missing otherwise, and a
            share of the training images takes its place.
    Raises:
        Refused: a split, a root or a class list that is not as the configuration says; or a file
            that is in both splits.
    """
    read = partial(_read, data)
    try:
        names = read_class_names(data.classes_file) if data.classes_file else None
        chosen = _chosen_classes(data.classes)
        train = read(
            data.split_train, class_names=names, num_classes=data.num_classes, classes=chosen
        )
        is_all = lies_without_splits(train) and data.split_test != data.split_train
        if data.split_test is None or is_all:
            return _hold_out(train, data)
        test = _open_test(read, data, train, chosen, judged)
    except ValueError as error:
        gated = " (this data set is gated: accept its licence on the Hub and log in)"
        raise Refused(f"{error}{gated if data.gated else ''}") from error
    shared = [] if isinstance(test, HeldOut) else shared_files(train, test)
    if shared and data.split_test != data.split_train:
        more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
        raise Refused(
            f"{shared[0]}{more} is in both splits, {data.split_train!r} and {data.split_test!r}: "
            "what is judged on must not be trained on; set dataset.split_train and "
            "dataset.split_test."
        )
    return train, test


def _read(data: DatasetConfig, split: str, **expected: Any) -> Source:
    """One split, called by its files or by the user's own name for them."""
    columns: dict[str, Any] = {
        "image_column": data.image_column,
        "label_column": data.label_column,
    }
    source = open_source(data.kind, data.root, split, **columns, **expected)
    if data.version is None:
        return source
    # copies are one where ids and shards point to the same, and as many images as far as is known
    layout = [(shard.name, shard.begin, shard.end) for shard in source.shards()]
    counts = None if (known := source.class_counts()) is None else known.tolist()
    named = (data.name, data.kind, data.version, split, columns, source.class_names, layout, counts)
    return replace(source, fingerprint=digest("version", *named))  # type: ignore[type-var]


def _open_test(
    read: Callable[..., Source],
    data: DatasetConfig,
    train: Source,
    chosen: list[str] | None,
    judged: bool,
) -> Source:
    try:
        return read(data.split_test, class_names=all_class_names(train), classes=chosen)
    except ValueError:
        if judged:
            raise
        return hold_out_share(train, data.holdout, data.holdout_seed)[1]


def _hold_out(whole: Source, data: DatasetConfig) -> tuple[Source, Source]:
    """Both sides; ValueError where the draw left the test side, as far as is known, empty."""
    train, test = hold_out_share(whole, data.holdout, data.holdout_seed)
    known = labelled_ids(test)
    if known is not None and next(known, None) is None:
        raise ValueError(
            f"dataset.holdout={data.holdout:g}, a chance of each image by itself, holds none of "
            "them out for a test: raise it, or give a split of test images (dataset.split_test)."
        )
    return train, test


def _chosen_classes(classes: Any) -> list[str] | None:
    """The names in ``dataset.classes``, or in the file that it names.

    Raises:
        ValueError: neither a list nor a file.
    """
    if isinstance(classes, str):
        return list(read_class_names(classes))
    if classes is not None and not isinstance(classes, Sequence):
        raise ValueError(f"dataset.classes is a list of names or a file, not {classes!r}.")
    return None if classes is None else [str(name) for name in classes]


def preprocessing_of(data: DatasetConfig) -> Preprocessing:
    """The data set's own preprocessing; ValueError where its numbers make none."""
    return Preprocessing(data.resolution, data.resize, data.mean, data.std)
