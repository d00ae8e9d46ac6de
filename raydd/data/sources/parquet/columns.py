"""The two columns of a parquet source: what they may hold, and which leaves are read for them."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from raydd.data.sources.parquet.files import Table

SHOWN = 30  # columns that a message lists
NUMBER, TEXT, NONE = "numbers", "text", ""  # kinds of label columns; the last has only nulls


class Problem(NamedTuple):
    """What is wrong with a file, as parts of a sentence that begins with the file.

    Attributes:
        what: begins with a verb.
        cure: what to do where all files are like that.
        cure_of_one: what to do where others are not.
    """

    what: str
    cure: str
    cure_of_one: str


def column_problem(schema: pa.Schema, image_column: str, label_column: str) -> Problem | None:
    """What is wrong with a file's columns, if anything."""
    for name, option in ((image_column, "image_column"), (label_column, "label_column")):
        if name not in schema.names:
            return Problem(
                f"has no column {name!r} (it has {_shown(schema.names)})",
                f"set dataset.{option}",
                "rename its column, or move it out of the data set",
            )
    kind = schema.field(image_column).type
    if not _holds_images(kind):
        return Problem(
            f"has a column {image_column!r} that holds {kind}, not encoded images (binary, or a "
            "struct with bytes) or paths of image files",
            "set dataset.image_column",
            "store them as the other files do, or move it out of the data set",
        )
    return _label_problem(schema.field(label_column).type, label_column)


def label_kind(schema: pa.Schema, label_column: str) -> str:
    """Return NUMBER, TEXT or NONE for a column without a problem."""
    kind = _value_type(schema.field(label_column).type)
    if pa.types.is_null(kind):
        return NONE
    return TEXT if _is_text(kind) else NUMBER


def image_leaves(table: Table, group: int, image_column: str) -> list[str]:
    """Dotted paths of the leaves to read for the images of a group: bytes, paths, or both."""
    kind = table.schema_arrow.field(image_column).type
    if not pa.types.is_struct(kind):
        return [image_column]
    leaves = [f"{image_column}.{name}" for name in ("bytes", "path") if _has(kind, name)]
    # The path says where the image came from: it is needed only where the bytes are null.
    if len(leaves) == 2 and table.num_nulls(group, leaves[0]) == 0:
        return leaves[:1]
    return leaves


def bytes_leaf(schema: pa.Schema, image_column: str) -> str:
    """Dotted path of the leaf that holds encoded images, where there is one."""
    is_struct = pa.types.is_struct(schema.field(image_column).type)
    return f"{image_column}.bytes" if is_struct else image_column


def images_lie_elsewhere(table: Table, image_column: str) -> bool:
    """Tell whether the file holds paths of images and not one image."""
    kind = table.schema_arrow.field(image_column).type
    if _is_text(kind) or (pa.types.is_struct(kind) and not _has(kind, "bytes")):
        return True
    leaf = bytes_leaf(table.schema_arrow, image_column)
    nulls = (table.num_nulls(group, leaf) for group in range(len(table.group_rows)))
    return any(table.group_rows) and list(nulls) == table.group_rows


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _label_problem(kind: pa.DataType, label_column: str) -> Problem | None:
    value = _value_type(kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return Problem(
            f"has several labels per image (its column {label_column!r} holds {kind}), but an "
            "image has one class here",
            "write one class per image into a column of its own and name it in "
            "dataset.label_column",
            "store one label per image, as the other files do, or move it out of the data set",
        )
    is_number = (
        pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_boolean(value)
    )
    if is_number or _is_text(value) or pa.types.is_null(value):
        return None
    return Problem(
        f"has a column {label_column!r} that holds {kind}, neither class numbers nor class names",
        "write the class into a column of its own and name it in dataset.label_column",
        "store the labels as the other files do, or move it out of the data set",
    )


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _has(kind: pa.StructType, name: str) -> bool:
    return bool(kind.get_field_index(name) >= 0)


def _holds_images(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return _is_binary(kind) or _is_text(kind)
    of_bytes = not _has(kind, "bytes") or _is_binary(kind.field("bytes").type)
    # Only nulls: what becomes of a column of bytes of which there are none.
    no_bytes = _has(kind, "bytes") and pa.types.is_null(kind.field("bytes").type)
    of_paths = _has(kind, "path") and _is_text(kind.field("path").type)
    return bool(of_paths if no_bytes or not _has(kind, "bytes") else of_bytes)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
