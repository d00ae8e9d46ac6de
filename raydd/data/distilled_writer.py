"""Write a distilled set: shards, then whatever belongs beside them, then ``raydd.json``.

Three steps, so that a large set is never in memory at once: ``write_images`` streams the shards;
the card, labels and teacher are put beside them; ``seal`` hashes every file and writes
``raydd.json`` last. Same rows, same library versions: same bytes.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from raydd.data.distilled import MANIFEST, DistilledInfo, DistilledRow, hash_file, product_files
from raydd.data.images import encode_png
from raydd.data.local_paths import without_local_paths

ORIGINS = ("synthetic", "real")
SHARD_PIXEL_BYTES = 1 << 28  # raw pixels per shard; PNG makes it smaller
ROW_GROUP = 100  # rows; what the Hub's own writer uses for images, cheap to seek in

# PNG does not compress further, and a dictionary of distinct images only costs time.
_ENCODING: dict[str, Any] = {
    "compression": "snappy",
    "use_dictionary": ["origin"],
    "write_statistics": ["label", "slot", "curriculum"],
}


def write_images(
    folder: str | UPath,
    rows: Iterable[DistilledRow],
    *,
    num_rows: int,
    class_names: Sequence[str],
    resolution: int,
) -> tuple[int, ...]:
    """Stream rows into ``data/train-*-of-*.parquet``.

    Args:
        folder: local or on an object store; must not hold a finished set or other shards.
        rows: in the order they shall have; consumed once, about a hundred in memory.
        num_rows: how many there are (shard names carry the number of shards).
        class_names: stored in each shard's metadata.
        resolution: side of every image, pixels.
    Returns:
        Images per class, in label order.
    Raises:
        ValueError: a row that does not fit (shape, class, origin, a slot taken twice), another
            number of rows, or a folder that already holds something.
    """
    folder = UPath(folder)
    per_shard = max(1, SHARD_PIXEL_BYTES // (3 * resolution * resolution))
    num_shards = max(1, -(-num_rows // per_shard))
    names = [f"train-{index:05d}-of-{num_shards:05d}.parquet" for index in range(num_shards)]
    data = folder / "data"
    _refuse_occupied(folder, names)
    data.mkdir(parents=True, exist_ok=True)
    schema = schema_of(class_names)
    counts = [0] * len(class_names)
    checked = _checked(rows, counts, resolution)
    for index, name in enumerate(names):
        size = min(per_shard, num_rows - index * per_shard)
        with (
            (data / name).open("wb") as file,
            pq.ParquetWriter(file, schema, **_ENCODING) as writer,
        ):
            for begin in range(0, size, ROW_GROUP):
                block = list(islice(checked, min(ROW_GROUP, size - begin)))
                writer.write_table(_table(block, schema), row_group_size=ROW_GROUP)
    if sum(counts) != num_rows or next(checked, None) is not None:
        raise ValueError(f"The distilled set was announced with {num_rows} rows, not so many came.")
    return tuple(counts)


def seal(folder: str | UPath, info: DistilledInfo) -> DistilledInfo:
    """Hash every file of the folder and write ``raydd.json`` last.

    Args:
        folder: holds the shards and all that belongs to the product.
        info: with any ``files``; those found are put in their place. Its configuration is written
            without the places on this machine that it names.
    Returns:
        The info as written.
    """
    folder = UPath(folder)
    hashes = {path: hash_file(folder / path) for path in product_files(folder)}
    sealed = replace(info, files=hashes, config=without_local_paths(info.config))
    content = json.dumps(sealed.to_json(), indent=1, ensure_ascii=False) + "\n"
    if folder.protocol in ("", "file"):
        partial = folder / f"{MANIFEST}.partial"
        partial.write_text(content, "utf-8")
        partial.rename(folder / MANIFEST)
    else:  # an object is seen only when it is whole; a store renames by copying and deleting
        (folder / MANIFEST).write_text(content, "utf-8")
    return sealed


def schema_of(class_names: Sequence[str]) -> pa.Schema:
    """Arrow schema of a shard, with the ``huggingface`` metadata that makes images PIL images."""
    features: dict[str, dict[str, Any]] = {
        "image": {"_type": "Image"},
        "label": {"names": list(class_names), "_type": "ClassLabel"},
    }
    for name, dtype in (("slot", "int32"), ("curriculum", "int32")):
        features[name] = {"dtype": dtype, "_type": "Value"}
    for name in ("origin", "source_id"):
        features[name] = {"dtype": "string", "_type": "Value"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}}, ensure_ascii=False)}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.schema(
        [
            ("image", image),
            ("label", pa.int64()),
            ("slot", pa.int32()),
            ("curriculum", pa.int32()),
            ("origin", pa.string()),
            ("source_id", pa.string()),
        ],
        metadata=metadata,
    )


def _checked(
    rows: Iterable[DistilledRow], counts: list[int], resolution: int
) -> Iterator[DistilledRow]:
    """Pass the rows on, counting them per class; refuse one that does not fit."""
    taken: set[tuple[int, int]] = set()
    for position, row in enumerate(rows):
        problem = None
        if row.pixels.dtype != np.uint8 or row.pixels.shape != (resolution, resolution, 3):
            problem = (
                f"is {row.pixels.dtype} {list(row.pixels.shape)}, "
                f"not uint8 [{resolution}, {resolution}, 3]"
            )
        elif not 0 <= row.class_index < len(counts):
            problem = f"has class_index {row.class_index}, not one of 0..{len(counts) - 1}"
        elif row.origin not in ORIGINS:
            problem = f"has origin {row.origin!r}, not one of {', '.join(ORIGINS)}"
        elif (row.class_index, row.slot) in taken:
            problem = f"takes slot {row.slot} of class {row.class_index} a second time"
        if problem is not None:
            raise ValueError(f"Row {position} of the distilled set {problem}.")
        taken.add((int(row.class_index), int(row.slot)))
        counts[row.class_index] += 1
        yield row


def _table(rows: Sequence[DistilledRow], schema: pa.Schema) -> pa.Table:
    columns = {
        "image": [
            {"bytes": encode_png(row.pixels), "path": f"{row.class_index:05d}_{row.slot:05d}.png"}
            for row in rows
        ],
        "label": [int(row.class_index) for row in rows],
        "slot": [int(row.slot) for row in rows],
        "curriculum": [int(row.curriculum) for row in rows],
        "origin": [row.origin for row in rows],
        "source_id": [row.source_id for row in rows],
    }
    return pa.Table.from_pydict(columns, schema=schema)


def _refuse_occupied(folder: UPath, names: Sequence[str]) -> None:
    if (folder / MANIFEST).exists():
        raise ValueError(f"{folder} already holds a finished distilled set; name another folder.")
    data = folder / "data"
    present = [file.name for file in data.iterdir()] if data.exists() else []
    others = sorted(set(present) - set(names))
    if others:
        raise ValueError(f"{data} already holds {others[0]}; name an empty folder.")
