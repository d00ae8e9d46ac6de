"""Real data sets: one function opens any of the four kinds.

``digits`` is embedded; ``imagefolder``, ``parquet`` (Hugging Face layout) and ``webdataset`` lie at
a local path or at any fsspec URI (``hf://datasets/...``, ``s3://...``, ``memory://...``).
"""

from collections.abc import Sequence

from raydd.data.sources.archives.source import WebDatasetSource
from raydd.data.sources.base import Row, Shard, Source
from raydd.data.sources.digits import DigitsSource
from raydd.data.sources.files import Root
from raydd.data.sources.folders.listed import ListedFolderSource
from raydd.data.sources.folders.source import ImageFolderSource
from raydd.data.sources.heldout import hold_out_share
from raydd.data.sources.parquet.source import ParquetSource
from raydd.data.sources.subset import ChosenClasses, choose_classes

__all__ = [
    "KINDS",
    "Row",
    "Shard",
    "Source",
    "all_class_names",
    "hold_out_share",
    "lies_without_splits",
    "open_source",
]

KINDS = ("digits", "imagefolder", "parquet", "webdataset")


def open_source(
    kind: str,
    root: str,
    split: str,
    *,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    image_column: str = "image",
    label_column: str = "label",
    classes: Sequence[str] | None = None,
) -> Source:
    """Open one split of a real data set.

    Open the test split with ``class_names=all_class_names(train)``: kinds that find their classes
    in the data might otherwise find others there.

    Args:
        kind: one of ``KINDS``.
        root: local path or fsspec URI; ignored for digits.
        split: the data set's own name for it, e.g. train, test, validation.
        class_names: expected names of the whole set in label order; None takes those of the data.
        num_classes: expected number of classes, of the whole set or of the chosen ones; None
            accepts any.
        image_column: parquet only, struct {bytes, path} or binary.
        label_column: integers or class names, of parquet; or of an image folder's metadata.csv.
        classes: keep these only, in this order: names, or WordNet ids of ImageNet's classes; see
            :func:`raydd.data.sources.subset.pick_classes`. None keeps all.
    Raises:
        ValueError: unknown kind, missing or unreadable root or split, or classes that disagree;
            one sentence that says what to set.
    """
    if kind not in KINDS:
        raise ValueError(f"dataset.kind {kind!r} is unknown; choose one of {', '.join(KINDS)}.")
    if classes is not None and num_classes == len(classes):
        num_classes = None  # picking them checks the number
    if kind == "imagefolder":
        place = _root(kind, root)
        return ImageFolderSource.open(place, split, class_names, num_classes, classes, label_column)
    source: Source
    if kind == "digits":
        source = DigitsSource.open(split, class_names, num_classes)
    elif kind == "webdataset":
        source = WebDatasetSource.open(_root(kind, root), split, class_names, num_classes)
    else:
        source = ParquetSource.open(
            _root(kind, root), split, class_names, num_classes, image_column, label_column
        )
    return source if classes is None else choose_classes(source, classes)


def all_class_names(source: Source) -> tuple[str, ...]:
    """Names of the whole set that ``classes`` were chosen from; ``class_names`` where none were."""
    if isinstance(source, ChosenClasses):
        return source.source.class_names
    return source.all_names if isinstance(source, ImageFolderSource) else source.class_names


def lies_without_splits(source: Source) -> bool:
    """Tell whether the source is an image folder ``root/CLASS/*``: there is no test split."""
    whole = source.source if isinstance(source, ChosenClasses) else source
    return isinstance(whole, ImageFolderSource | ListedFolderSource) and whole.without_splits


def _root(kind: str, root: str) -> Root:
    if not root:
        raise ValueError(f"The {kind} data set needs dataset.root: a folder or an fsspec URI.")
    return Root.open(kind, root)
