"""Real data sets: one function opens any of the four kinds.

``digits`` is embedded; ``imagefolder``, ``parquet`` (Hugging Face layout) and ``webdataset`` lie at
a local path or at any fsspec URI (``hf://datasets/...``, ``s3://...``, ``memory://...``).
"""

from collections.abc import Sequence

from raydd.data.sources.base import Row, Shard, Source
from raydd.data.sources.digits import DigitsSource
from raydd.data.sources.files import Root
from raydd.data.sources.imagefolder import ImageFolderSource
from raydd.data.sources.parquet import ParquetSource
from raydd.data.sources.webdataset import WebDatasetSource

__all__ = ["KINDS", "Row", "Shard", "Source", "open_source"]

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
) -> Source:
    """Open one split of a real data set.

    Open the test split with ``class_names=train.class_names``: kinds that find their classes in
    the data might otherwise find others there.

    Args:
        kind: one of ``KINDS``.
        root: local path or fsspec URI; ignored for digits.
        split: the data set's own name for it, e.g. train, test, validation.
        class_names: expected names in label order; None takes those of the data.
        num_classes: expected number of classes; None accepts any.
        image_column: parquet only, struct {bytes, path} or binary.
        label_column: parquet only, integers or class names.
    Raises:
        ValueError: unknown kind, missing or unreadable root or split, or classes that disagree;
            one sentence that says what to set.
    """
    if kind not in KINDS:
        raise ValueError(f"dataset.kind {kind!r} is unknown; choose one of {', '.join(KINDS)}.")
    if kind == "digits":
        return DigitsSource.open(split, class_names, num_classes)
    if not root:
        raise ValueError(f"The {kind} data set needs dataset.root: a folder or an fsspec URI.")
    place = Root.open(kind, root)
    if kind == "imagefolder":
        return ImageFolderSource.open(place, split, class_names, num_classes)
    if kind == "webdataset":
        return WebDatasetSource.open(place, split, class_names, num_classes)
    return ParquetSource.open(place, split, class_names, num_classes, image_column, label_column)
