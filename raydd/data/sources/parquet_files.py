"""Which parquet files a split has, and opening one."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydd.data.sources.files import SPLIT_NAMES, Root, is_folder, missing_split, shard_files

BUFFER_BYTES = 8 << 20  # read at once; without it pyarrow loads whole row groups, often 100 MB


class DamagedFile(ValueError):
    """A file that is no parquet file; the message says which."""


def open_file(root: Root, path: str) -> pq.ParquetFile:
    """Open one file by its path below the root.

    Raises:
        DamagedFile: it is no parquet file.
    """
    with root.explained():
        try:
            return pq.ParquetFile(
                f"{root.path}/{path}",
                filesystem=root.fs,
                pre_buffer=False,
                buffer_size=BUFFER_BYTES,
            )
        except pa.ArrowException as error:
            raise DamagedFile(
                f"{root.url}/{path} is not a readable parquet file ({error}); fetch it again."
            ) from error


def files_of_split(root: Root, split: str) -> tuple[tuple[str, int], ...]:
    """(path below the root, bytes) of the split's files, sorted."""
    top = root.listing()
    folders = {entry["name"] for entry in top if is_folder(entry)}
    data = root.listing("data") if "data" in folders else []
    inside = root.listing(split) if split in folders else []
    layouts = (
        [(f"data/{entry['name']}", entry) for entry in data if _is_part(entry, f"{split}-")],
        [(entry["name"], entry) for entry in top if _is_part(entry, f"{split}-")],
        [(f"{split}/{entry['name']}", entry) for entry in inside if _is_part(entry, "")],
    )
    for layout in layouts:
        if layout:
            return shard_files(root, layout)
    names = [entry["name"] for entry in top + data]
    present = sorted({name for name in SPLIT_NAMES for file in names if file.startswith(name)})
    raise missing_split(root, split, present)


def _is_part(entry: dict[str, Any], prefix: str) -> bool:
    name = entry["name"]
    return entry["type"] == "file" and name.startswith(prefix) and name.endswith(".parquet")


def require_columns(root: Root, schema: pa.Schema, image_column: str, label_column: str) -> None:
    """Raise ValueError unless both columns are there and the first holds encoded images."""
    missing = [name for name in (image_column, label_column) if name not in schema.names]
    if missing:
        raise ValueError(
            f"The parquet root {root.url} has no column {missing[0]!r} (it has "
            f"{', '.join(schema.names)}); set dataset.image_column and dataset.label_column."
        )
    kind = schema.field(image_column).type
    if not _holds_bytes(kind):
        raise ValueError(
            f"The column {image_column!r} of the parquet root {root.url} holds {kind}, not encoded "
            "images (binary, or a struct with bytes); set dataset.image_column."
        )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
