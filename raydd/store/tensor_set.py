"""Distilled sets that are tensors (``images_best.pt`` of MTT and DATM, ``res_*.pt`` of DC and DM).

Such a file does not say what its numbers are: pixels in [0, 1], pixels normalised by the data set's
mean and std, or ZCA-whitened ones, which cannot be shown to a network that expects pixels.
:mod:`raydd.store.tensor_pixels` finds out or asks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from upath import UPath

from raydd.data.any_set import AnySet, SetImage, open_any_set
from raydd.data.distilled import MANIFEST, hash_file
from raydd.data.images import encode_png
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources.files import digest
from raydd.store.tensor_pixels import to_bytes
from raydd.store.torch_files import UnreadableFile, read_torch

SUFFIXES = (".pt", ".pth")
_IMAGES, _LABELS = "images", "labels"
_BEST = f"{_IMAGES}_best"  # what MTT, DATM and their kin keep beside the last iterations


def open_given_set(
    folder: str,
    class_names: Sequence[str],
    image_column: str,
    label_column: str,
    preprocessing: Preprocessing,
    pixels: str = "auto",
    all_names: Sequence[str] | None = None,
) -> AnySet:
    """Open a distilled set of any kind: tensors, or else :func:`raydd.data.any_set.open_any_set`.

    Args:
        folder: local path or URI of a folder, or of a ``.pt`` file.
        class_names: of the real data set, in label order.
        image_column: see ``open_any_set``.
        label_column: the same.
        preprocessing: of the data set; its mean and std undo a normalisation.
        pixels: what a tensor's numbers are, see :func:`raydd.store.tensor_pixels.to_bytes`.
        all_names: see ``open_any_set``.
    Raises:
        ValueError: see ``open_any_set``; tensors that are no set of these classes, whitened ones,
            or numbers that could be either; one sentence.
    """
    path = UPath(folder).absolute()
    file = _images_file(path)
    if file is None:
        return open_any_set(folder, class_names, image_column, label_column, all_names)
    files = [part for part in (file, _labels_of(file)) if part is not None]
    found = _read(files)
    labels = _class_indices(found.labels, len(found.images), len(class_names), file)
    images, done = to_bytes(found.images, preprocessing, pixels, str(file))
    said = ", ".join(filter(None, [found.note, *done]))
    hashes = [hash_file(part)["sha256"] for part in files]
    constants = [preprocessing.mean, preprocessing.std]
    content = digest("tensors", pixels, *hashes, *constants, *class_names)
    layout = f"tensors ({said})" if said else "tensors"
    return AnySet(path, layout, content, partial(_encoded, images, labels))


@dataclass(frozen=True)
class _Tensors:
    """Images [N, ...] and labels as they stand in a file, and what was chosen among more."""

    images: Tensor
    labels: Tensor
    note: str = ""


def _images_file(path: UPath) -> UPath | None:
    """The file of images that a path names or a folder holds; None where it is no set of tensors.

    Raises:
        ValueError: a folder of several sets.
    """
    if path.is_file():
        return path if path.suffix in SUFFIXES else None
    if not path.is_dir() or (path / MANIFEST).exists():
        return None
    entries = sorted(path.iterdir(), key=lambda entry: entry.name)
    files = [entry for entry in entries if entry.suffix in SUFFIXES]
    pairs = [file for file in files if _labels_of(file)]
    if not pairs and not any(entry.is_dir() for entry in entries):  # else a teacher beside images
        pairs = [f for f in files if not f.stem.startswith((_IMAGES, _LABELS))]
    best = [file for file in pairs if file.stem == _BEST]
    if len(pairs) > 1 and not best:
        raise ValueError(
            f"{path} holds several sets of tensors ({pairs[0].name}, {pairs[1].name}, ...); give "
            "one of these files as the first word."
        )
    chosen = best or pairs
    return chosen[0] if chosen else None


def _labels_of(images: UPath) -> UPath | None:
    """``labels_5.pt`` of ``images_5.pt`` and of ``images_zca_5.pt``, if it is there."""
    if not images.name.startswith(_IMAGES):
        return None
    labels = images.parent / images.name.replace(_IMAGES, _LABELS, 1).replace("_zca", "", 1)
    return labels if labels.exists() else None


def _read(files: Sequence[UPath]) -> _Tensors:
    contents = []
    for file in files:
        try:
            contents.append(read_torch(file.read_bytes()))
        except UnreadableFile as error:
            raise ValueError(f"{file} is no file of plain tensors: it {error}.") from error
    if len(contents) > 1:
        found = _pair(contents)
        if found is None:
            raise ValueError(f"{files[0]} and {files[1].name} do not hold one tensor each.")
        return found
    found = _pairs_in(contents[0])
    if found is None:
        raise ValueError(
            f"{files[0]} holds no images with labels: neither labels*.pt beside images*.pt, nor "
            "in it {'data': [[images, labels]]} or a pair of tensors."
        )
    return found


def _pairs_in(content: Any) -> _Tensors | None:
    """Images and labels in one file: of DC, DSA and DM, a pair, or under their names."""
    if isinstance(content, Mapping):
        if isinstance(content.get("data"), list) and content["data"]:
            sets = content["data"]
            note = f"the first of {len(sets)} sets in the file" if len(sets) > 1 else ""
            found = _pair(sets[0])
            return found and _Tensors(found.images, found.labels, note)
        return _pair([content.get(_IMAGES), content.get(_LABELS)])
    return _pair(content)


def _pair(content: Any) -> _Tensors | None:
    is_pair = isinstance(content, list | tuple) and len(content) == 2
    if not is_pair or not all(isinstance(part, Tensor) for part in content):
        return None
    return _Tensors(content[0].detach(), content[1].detach())


def _class_indices(labels: Tensor, count: int, num_classes: int, file: UPath) -> np.ndarray:
    """Class index of each image: as stored, or the largest of soft labels [N, C].

    Raises:
        ValueError: another number of labels than of images, or labels that are no classes.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        if labels.shape[1] != num_classes:
            raise ValueError(
                f"{file} has soft labels of {labels.shape[1]} classes, the data set has "
                f"{num_classes}."
            )
        labels = labels.argmax(1)
    if labels.ndim != 1 or len(labels) != count:
        raise ValueError(
            f"{file} holds {count} images but labels of the shape {list(labels.shape)}; take the "
            "labels that were saved with them."
        )
    values = labels.double().numpy()
    wrong = values[(values != np.rint(values)) | (values < 0) | (values >= num_classes)]
    if len(wrong):
        raise ValueError(
            f"{file} has the label {wrong[0]:g}, which is none of the data set's {num_classes} "
            "classes, 0 and up."
        )
    return values.astype(np.int64)


def _encoded(images: np.ndarray, labels: np.ndarray) -> Iterator[SetImage]:
    """Images uint8 [N, R, R, 3] as PNG files."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield SetImage(f"image {number}", int(label), encode_png(image))
