"""Where a parquet data set's class names come from: stored metadata, the user, or the labels."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from raydd.data.classes import check_class_order, unique_names
from raydd.data.sources.files import Root


def class_names_of(
    root: Root,
    schema: pa.Schema,
    label_column: str,
    class_names: Sequence[str] | None,
    num_classes: int | None,
    label_counts: Callable[[], Counter[Any]],
) -> tuple[str, ...]:
    """Return the names in label order.

    Args:
        root: for messages.
        schema: of one of the files; its ``huggingface`` metadata is asked first.
        label_column: its name.
        class_names: expected names; must agree with the metadata where there is any.
        num_classes: expected number of classes; without any names the classes are "0", "1", ...
        label_counts: rows per distinct label; a pass over the label columns, asked last.
    Raises:
        ValueError: the metadata disagrees with what was expected, or the labels are no classes.
    """
    what = f"the parquet root {root.url}"
    names = stored_names(schema, label_column)
    if names is not None and class_names is not None:
        check_class_order(class_names, names, what)
    if names is None and class_names is not None:
        names = unique_names(class_names, f"The class list for {what}")
    labels_are_text = pa.types.is_string(
        schema.field(label_column).type
    ) or pa.types.is_large_string(schema.field(label_column).type)
    if names is None and num_classes is not None and not labels_are_text:
        names = tuple(str(index) for index in range(num_classes))
    if names is None:
        names = _names_of_labels(set(label_counts()), what)
    if num_classes is not None and num_classes != len(names):
        raise ValueError(
            f"{what.capitalize()} has {len(names)} classes, dataset.num_classes says "
            f"{num_classes}; correct one of them."
        )
    return names


def stored_names(schema: pa.Schema, label_column: str) -> tuple[str, ...] | None:
    """Names of the ClassLabel feature in the ``huggingface`` schema metadata, if it is there."""
    try:
        metadata = json.loads((schema.metadata or {})[b"huggingface"])
        names = metadata["info"]["features"][label_column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names)) if names else None


def _names_of_labels(labels: set[Any], what: str) -> tuple[str, ...]:
    texts = sorted(label for label in labels if isinstance(label, str))
    if texts:
        return tuple(texts)
    # Negative labels are the Hub's mark for "unknown"; those rows are broken ones.
    indices = sorted(label for label in labels if isinstance(label, int) and label >= 0)
    if not indices or indices != list(range(len(indices))):
        raise ValueError(
            f"The labels of {what} are not 0..C-1, so its classes are unknown; set "
            "dataset.num_classes or dataset.classes_file."
        )
    return tuple(map(str, indices))
