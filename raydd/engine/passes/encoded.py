"""The encoded rows of a shard as tables, and what is made of them; needs neither torch nor ray."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from raydd.data.sources import Shard, Source

END = "end of shard"  # reason of the marker row that closes a shard and carries its length
CHUNK_ROWS = 256  # rows a reader hands on at once; bounds its memory
BLOCK_BYTES = 16 << 20
Work = Callable[[pa.Table], pa.Table]
_ENCODED = pa.schema(
    [
        ("id", pa.string()),
        ("class_index", pa.int32()),
        ("image", pa.large_binary()),  # a block of hostile files may pass 2 GiB
        ("reason", pa.string()),
        ("images", pa.int64()),  # that a broken row stands for
        ("shard", pa.int32()),
        ("row", pa.int32()),
    ]
)


def map_rows(
    source: Source, shard: Shard, number: int, work: Work | None, step: int = CHUNK_ROWS
) -> Iterator[pa.Table]:
    """What ``work`` makes of a shard's encoded rows, in their order, and a last row that ends it.

    Args:
        source: the real images.
        shard: of it.
        number: of the shard.
        work: maps a table of rows to another of as many; None leaves them as they are.
        step: rows of a table that it is given, at most.
    """
    for table in _read_shard(source, shard, number):
        if work is None:
            yield table
        else:
            yield from (work(table.slice(at, step)) for at in range(0, table.num_rows, step))


def _read_shard(source: Source, shard: Shard, index: int) -> Iterator[pa.Table]:
    rows: list[dict[str, Any]] = []
    count = size = 0
    for row in source.read(shard):
        rows.append(
            {
                "id": row.id,
                "class_index": row.class_index,
                "image": row.image,
                "reason": row.reason or "",
                "images": row.images,
                "shard": index,
                "row": count,
            }
        )
        count += 1
        size += len(row.image)
        if len(rows) == CHUNK_ROWS or size >= BLOCK_BYTES:
            yield pa.Table.from_pylist(rows, schema=_ENCODED)
            rows, size = [], 0
    end = {"id": "", "class_index": -1, "image": b"", "reason": END, "images": 0}
    rows.append({**end, "shard": index, "row": count})
    yield pa.Table.from_pylist(rows, schema=_ENCODED)
