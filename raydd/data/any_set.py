"""A distilled set of anyone, as encoded images with their classes.

Four layouts: ours (``raydd.json``), parquet files as on the Hugging Face Hub (an image struct and a
label), image folders of the older tools, one folder per class, named by its index (``00000/``,
SRe2L's ``new000/``) or by the class, and one folder of files that name it (``class000_id000.jpg``).
Tensors are read by :mod:`raydd.store.tensor_set`, for this floor knows no torch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.data.classes import check_class_order, read_class_names
from raydd.data.distilled import MANIFEST, DistilledSet, hash_file, read_distilled
from raydd.data.export import EXPORTED
from raydd.data.set_folders import FlatFiles, folder_classes, misplaced, too_many_classes
from raydd.data.sources import Source
from raydd.data.sources.files import Root, digest
from raydd.data.sources.folders.layout import class_folders, find_split
from raydd.data.sources.folders.source import ImageFolderSource
from raydd.data.sources.parquet.classes import stored_names
from raydd.data.sources.parquet.files import files_of_split, open_file
from raydd.data.sources.parquet.source import ParquetSource

# Where parquet sets keep their images, and the splits that a source would call them.
_PARQUET = ("*.parquet", "data/*.parquet", "train/*.parquet", "data/train/*.parquet")
_SPLITS = ("train", "data")
# What public sets call their columns: taken where the usual name is missing and one of these there.
_IMAGES = ("image", "img", "images", "jpg", "png", "webp")
_LABELS = ("label", "labels", "class_id", "class", "fine_label", "cls")


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
        layout: "raydd", "parquet", "imagefolder", or "tensors" and what was done to them.
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
    folder: str,
    class_names: Sequence[str],
    image_column: str,
    label_column: str,
    all_names: Sequence[str] | None = None,
) -> AnySet:
    """Find out what a folder holds and whether its classes are those of a data set.

    Args:
        folder: local path or fsspec URI.
        class_names: of the real data set, in label order.
        image_column: of a parquet set that is not ours; where there is no "image", another usual
            name is found if exactly one is there.
        label_column: of the same, integers or class names; likewise for "label".
        all_names: of the data set that ``class_names`` were chosen from: of a set of ours that has
            all of them, the images of the chosen classes are taken.
    Raises:
        ValueError: nothing there, no images, or classes that the data set does not have or has in
            another order; one sentence.
    """
    root = UPath(folder).absolute()
    if not root.exists():
        raise ValueError(f"{folder} does not exist; the first word is the folder of a set.")
    if (root / MANIFEST).exists():
        return _open_ours(root, class_names, all_names or class_names)
    if (root / "distilled" / MANIFEST).exists():
        raise ValueError(f"{folder} is a run; its distilled set is {folder.rstrip('/')}/distilled.")
    if any(any(root.glob(pattern)) for pattern in _PARQUET):
        return _open_parquet(root, class_names, image_column, label_column)
    if flat := FlatFiles.find(root):
        return _open_flat(root, flat, class_names)
    return _open_folders(root, class_names)


def _open_ours(folder: UPath, class_names: Sequence[str], all_names: Sequence[str]) -> AnySet:
    distilled = read_distilled(folder)
    found, fingerprint = distilled.info.class_names, str(hash_file(folder / MANIFEST)["sha256"])
    if tuple(class_names) != tuple(all_names) and found == tuple(all_names):
        # its teacher and its labels know all classes: it is a set like any other
        layout = f"raydd, {len(class_names)} of {len(found)} classes"
        images = partial(_our_images, distilled, class_names)
        return AnySet(folder, layout, digest(fingerprint, *class_names), images)
    check_class_order(class_names, found, str(folder))
    images = partial(_our_images, distilled, class_names)
    return AnySet(folder, "raydd", fingerprint, images, distilled)


def _our_images(distilled: DistilledSet, class_names: Sequence[str]) -> Iterator[SetImage]:
    """The images of these classes."""
    index = {name: position for position, name in enumerate(class_names)}
    places = np.array([index.get(name, -1) for name in distilled.info.class_names])
    for batch in distilled.tables():
        wanted = batch.filter(pa.array(places[batch["label"].to_numpy()] >= 0))
        for row in wanted.select(["image", "label", "slot", "source_id"]).to_pylist():
            label, slot = places[row["label"]].item(), row["slot"]
            name = f"image {slot} of class {row['label']}"
            yield SetImage(name, label, row["image"]["bytes"], slot, row["source_id"])


def _open_parquet(
    folder: UPath, class_names: Sequence[str], image_column: str, label_column: str
) -> AnySet:
    place = Root.open("parquet", str(folder))
    try:
        split = _split_of(place)
        with open_file(place, files_of_split(place, split)[0][0]) as first:
            schema = first.schema_arrow
        image_column = _column(schema.names, image_column, _IMAGES)
        label_column = _column(schema.names, label_column, _LABELS)
        columns: dict[str, Any] = {"image_column": image_column, "label_column": label_column}
        stored = stored_names(schema, label_column)
        # names that are only numbers say no more than the labels do
        indexed = stored is not None and stored != tuple(class_names) and _are_indices(stored)
        names = None if indexed else class_names
        source = ParquetSource.open(place, split, names, None, **columns)
    except ValueError as error:
        raise ValueError(str(error).replace("dataset.", "judge.")) from error
    if len(source.class_names) > len(class_names):
        raise too_many_classes(folder, len(source.class_names), len(class_names))
    return _of_source(folder, "parquet", source, range(len(class_names)))


def _split_of(place: Root) -> str:
    """The split that holds the set: a training split, or else whatever lies in ``data``."""
    for split in _SPLITS[:-1]:
        with suppress(ValueError):
            files_of_split(place, split)
            return split
    return _SPLITS[-1]


def _column(present: Sequence[str], asked: str, usual: Sequence[str]) -> str:
    """The asked column; where the default is not there, the only other one with a usual name."""
    found = [name for name in usual if name in present]
    is_default = asked == usual[0]
    return found[0] if is_default and asked not in present and len(found) == 1 else asked


def _are_indices(names: Sequence[str]) -> bool:
    return all(name.isdecimal() and int(name) == i for i, name in enumerate(names))


def _open_folders(folder: UPath, class_names: Sequence[str]) -> AnySet:
    if (folder / EXPORTED).exists():
        check_class_order(class_names, read_class_names(folder / EXPORTED), str(folder))
    root = Root.open("imagefolder", str(folder))
    try:
        # named, for a set may hold some classes only, even a single one
        names = class_folders(root, find_split(root, "train")[0]) or None
        source = ImageFolderSource.open(root, "train", class_names=names, num_classes=None)
    except ValueError as error:
        raise ValueError(
            f"{folder} holds no distilled set: no raydd.json, no parquet files, no tensors "
            "(.pt), no folders of images and no files class000_id000.jpg."
        ) from error
    indices = folder_classes(source.class_names, class_names, str(folder))
    numbered = not set(source.class_names) <= set(class_names)
    return _of_source(folder, "imagefolder", source, indices, numbered)


def _open_flat(folder: UPath, files: FlatFiles, class_names: Sequence[str]) -> AnySet:
    if files.most >= len(class_names):
        raise too_many_classes(folder, files.most + 1, len(class_names))

    def images() -> Iterator[SetImage]:
        for name, label, content in files.read():
            yield SetImage(name, label, content)

    content = digest(files.fingerprint, *class_names)
    return AnySet(folder, "imagefolder", content, images)


def _of_source(
    folder: UPath, layout: str, source: Source, indices: Sequence[int], numbered: bool = False
) -> AnySet:
    """A set that a source of real images can read; ``indices`` maps its classes to the data's."""

    def images() -> Iterator[SetImage]:
        for shard in source.shards():
            for row in source.read(shard):
                label = indices[row.class_index] if row.class_index >= 0 else -1
                reason = row.reason or (misplaced(row.id, label) if numbered else None)
                yield SetImage(row.id, label, row.image, reason=reason)

    return AnySet(folder, layout, source.fingerprint, images)
