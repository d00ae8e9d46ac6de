"""A distilled set of anyone, as encoded images with their classes.

Three layouts: ours (``raydd.json``), parquet files as on the Hugging Face Hub (``data/*.parquet``
with an image struct and a label) and the image folder of the older tools: one folder per class,
named by its index (``00000/``) or by the class.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from upath import UPath

from raydd.data.classes import check_class_order, read_class_names
from raydd.data.distilled import MANIFEST, DistilledSet, hash_file, read_distilled
from raydd.data.export import EXPORTED
from raydd.data.sources import Source
from raydd.data.sources.files import Root
from raydd.data.sources.imagefolder import ImageFolderSource
from raydd.data.sources.parquet import ParquetSource
from raydd.data.sources.parquet_classes import stored_names
from raydd.data.sources.parquet_files import files_of_split, open_file

# Where parquet sets keep their images, by the split that a source would call them.
_PARQUET = {
    "train": ("data/train-*.parquet", "train-*.parquet", "train/*.parquet"),
    "data": ("data/*.parquet",),
}


class SetImage(NamedTuple):
    """One image of a distilled set.

    Attributes:
        name: says where it lies, for messages.
        class_index: position in the data set's class names.
        image: the encoded file.
        slot: its number within the class; None where the set does not say.
        source_id: id of the real image it is or started from, if the set says.
        reason: why it cannot be used; None for a good one.
    """

    name: str
    class_index: int
    image: bytes
    slot: int | None = None
    source_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class AnySet:
    """A distilled set of any layout.

    Attributes:
        folder: where it lies.
        layout: "raydd", "parquet" or "imagefolder".
        fingerprint: hex digest that changes when files (names, sizes) or the class order change.
        images: streams the images, in stored order.
        distilled: the set itself where it is one of ours.
    """

    folder: UPath
    layout: str
    fingerprint: str
    images: Callable[[], Iterator[SetImage]] = field(repr=False)
    distilled: DistilledSet | None = None


def open_any_set(
    folder: str, class_names: Sequence[str], image_column: str, label_column: str
) -> AnySet:
    """Find out what a folder holds and whether its classes are those of a data set.

    Args:
        folder: local path or fsspec URI.
        class_names: of the real data set, in label order.
        image_column: of a parquet set that is not ours.
        label_column: of the same; integers or class names.
    Raises:
        ValueError: nothing there, no images, or classes that the data set does not have or has in
            another order; one sentence.
    """
    root = UPath(folder).absolute()
    if not root.exists():
        raise ValueError(f"{folder} does not exist; the first word is the folder of a set.")
    if (root / MANIFEST).exists():
        return _open_ours(root, class_names)
    for split, patterns in _PARQUET.items():
        if any(any(root.glob(pattern)) for pattern in patterns):
            return _open_parquet(root, split, class_names, image_column, label_column)
    return _open_folders(root, class_names)


def _open_ours(folder: UPath, class_names: Sequence[str]) -> AnySet:
    distilled = read_distilled(folder)
    check_class_order(class_names, distilled.info.class_names, str(folder))
    fingerprint = str(hash_file(folder / MANIFEST)["sha256"])
    return AnySet(folder, "raydd", fingerprint, partial(_our_images, distilled), distilled)


def _our_images(distilled: DistilledSet) -> Iterator[SetImage]:
    for batch in distilled.tables():
        for row in batch.select(["image", "label", "slot", "source_id"]).to_pylist():
            name = f"image {row['slot']} of class {row['label']}"
            yield SetImage(name, row["label"], row["image"]["bytes"], row["slot"], row["source_id"])


def _open_parquet(
    folder: UPath, split: str, class_names: Sequence[str], image_column: str, label_column: str
) -> AnySet:
    place = Root.open("parquet", str(folder))
    columns: dict[str, Any] = {"image_column": image_column, "label_column": label_column}
    try:
        with open_file(place, files_of_split(place, split)[0][0]) as first:
            stored = stored_names(first.schema_arrow, label_column)
        # names that are only numbers say no more than the labels do
        indexed = stored is not None and stored != tuple(class_names) and _are_indices(stored)
        names = None if indexed else class_names
        source = ParquetSource.open(place, split, names, None, **columns)
    except ValueError as error:
        raise ValueError(str(error).replace("dataset.", "judge.")) from error
    if len(source.class_names) > len(class_names):
        raise _too_many(folder, len(source.class_names), len(class_names))
    return _of_source(folder, "parquet", source, range(len(class_names)))


def _are_indices(names: Sequence[str]) -> bool:
    return all(name.isdecimal() and int(name) == i for i, name in enumerate(names))


def _open_folders(folder: UPath, class_names: Sequence[str]) -> AnySet:
    if (folder / EXPORTED).exists():
        check_class_order(class_names, read_class_names(folder / EXPORTED), str(folder))
    try:
        source = ImageFolderSource.open(
            Root.open("imagefolder", str(folder)), "train", class_names=None, num_classes=None
        )
    except ValueError as error:
        raise ValueError(
            f"{folder} holds no distilled set: no raydd.json, no parquet files and no folders of "
            "images."
        ) from error
    indices = folder_classes(source.class_names, class_names, str(folder))
    return _of_source(folder, "imagefolder", source, indices)


def folder_classes(
    folders: Sequence[str], class_names: Sequence[str], what: str
) -> tuple[int, ...]:
    """Class index of each class folder: by its name, or by the number that its name is.

    Args:
        folders: names of the folders.
        class_names: of the data set, in label order.
        what: the set in words; begins the message.
    Raises:
        ValueError: a folder of no class, more folders than classes, or two of one class.
    """
    known = {name: index for index, name in enumerate(class_names)}
    unknown = [name for name in folders if name not in known]
    if unknown and not all(name.isdecimal() for name in folders):
        raise ValueError(
            f"{what} has a folder {unknown[0]!r}, which is neither a class of the data set nor, "
            "as all of them would have to be, a number."
        )
    indices = [int(name) for name in folders] if unknown else [known[name] for name in folders]
    if max(indices) >= len(class_names):
        raise _too_many(what, max(indices) + 1, len(class_names))
    for position, index in enumerate(indices):
        if index in indices[:position]:
            twice = folders[indices.index(index)], folders[position]
            raise ValueError(f"{what} has two folders of one class: {' and '.join(twice)}.")
    return tuple(indices)


def _of_source(folder: UPath, layout: str, source: Source, indices: Sequence[int]) -> AnySet:
    """A set that a source of real images can read; ``indices`` maps its classes to the data's."""

    def images() -> Iterator[SetImage]:
        for shard in source.shards():
            for row in source.read(shard):
                label = indices[row.class_index] if row.class_index >= 0 else -1
                yield SetImage(row.id, label, row.image, reason=row.reason)

    return AnySet(folder, layout, source.fingerprint, images)


def _too_many(what: Any, found: int, known: int) -> ValueError:
    return ValueError(f"{what} has {found} classes, the data set has {known}.")
