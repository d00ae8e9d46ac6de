"""One pass of Ray Data over a source, shard by shard, in bounded memory.

The shard is the unit of resume: when every row of a shard has arrived, its part file is written,
sorted by position, so that the files do not depend on workers, block sizes or arrival order.
A pass that is killed continues with the shards that have no part file.
"""

import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data as rd
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, WorkerCrashedError
from ray.util.annotations import RayDeprecationWarning
from upath import UPath

from raydd.cluster.resources import Resources
from raydd.data.sources import Shard, Source
from raydd.engine.passes.rejected import REJECTED, conclude
from raydd.store.tables import write_table
from raydd.store.units import PART


@dataclass
class DataConfig:
    """How real images are read; no value here changes which images are chosen."""

    max_rejected: float = 0.01
    """Highest fraction of broken images, in [0, 1]; above it the run stops."""
    max_pixels: int = 50_000_000
    """An image with more pixels is quarantined instead of decoded."""
    memory_limit_mb: int = 1000
    """Decoded sets up to this size are kept as one tensor; larger ones are streamed. MiB."""
    score_batch: int = 256
    """Images per forward pass of the score stage."""


_BATCH_ROWS = 256  # of what has no batch size of its own
_CHUNK_ROWS = 256  # rows a reader hands on at once; bounds its memory
_BLOCK_BYTES = 16 << 20
_RESTARTS = 8  # a pass that loses more processes and writes no part meanwhile has another problem
_END = "end of shard"  # reason of the marker row that closes a shard and carries its length
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


def run_pass(
    folder: UPath,
    source: Source,
    transform: Callable[[rd.Dataset], rd.Dataset],
    max_rejected: float,
    split: str = "training",
) -> dict[str, Any]:
    """Stream every shard that has no part file yet through ``transform`` and write its part.

    Args:
        folder: stage folder; gets ``parts/NNNNN.parquet``, one per shard, with the number of each
            ``row`` in its shard; ``rejected/`` beside it and, at the end, ``rejected.parquet``
            (id, reason, images: how many a row stands for).
        source: the real images.
        transform: maps a Dataset of encoded rows (id, class_index, image, reason, shard, row) to
            one that keeps all columns but ``image``; rows with a reason pass through untouched.
        max_rejected: highest fraction of broken images, [0, 1].
        split: whose images they are, for messages.
    Returns:
        ``rows``, ``rejected`` images, for how many each of the ``reasons`` holds, and what the
        source passed over, ``unused`` files by kind.
    Raises:
        Refused: more than ``max_rejected`` of the images are broken.
    """
    for name in ("parts", "rejected"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _pass(folder, source, transform)
    names = [_name(shard) for shard in range(len(source.shards()))]
    return conclude(folder, names, max_rejected, split) | {"unused": dict(source.unused)}


def map_pass(
    folder: UPath,
    source: Source,
    work: Callable[[pa.Table], pa.Table],
    max_rejected: float,
    split: str = "training",
) -> dict[str, Any]:
    """A pass whose rows any process may map, a batch of encoded rows at a time; see above."""

    def transform(rows: rd.Dataset) -> rd.Dataset:
        return rows.map_batches(work, batch_size=_BATCH_ROWS, batch_format="pyarrow")

    return run_pass(folder, source, transform, max_rejected, split)


def encoded_rows(source: Source, shards: Mapping[int, Shard]) -> rd.Dataset:
    """Dataset of the shards' encoded images, one read task per shard."""

    def read(batch: dict[str, np.ndarray]) -> Iterator[pa.Table]:
        index = int(batch["index"][0])
        yield from _read_shard(source, shards[index], index)

    _configure()
    indices = rd.from_items([{"index": i} for i in shards], override_num_blocks=len(shards))
    return indices.map_batches(read, batch_size=1)


def map_actors(
    rows: rd.Dataset, actor: type, arguments: tuple[Any, ...], batch_size: int, resources: Resources
) -> rd.Dataset:
    """Map batches through one ``actor(*arguments)`` per device; see `_pass` for dead ones."""
    with warnings.catch_warnings():
        # Ray would restart a dying process for ever; 2.60 has no other way to say how often.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return rows.map_batches(
            actor,
            fn_constructor_args=arguments,
            batch_size=batch_size,
            batch_format="pyarrow",
            compute=rd.ActorPoolStrategy(size=resources.count_parallel()),
            max_restarts=0,
            max_task_retries=0,
            num_cpus=0 if resources.use_gpu else 1,
            num_gpus=1 if resources.use_gpu else None,
        )


def _pass(folder: UPath, source: Source, transform: Callable[[rd.Dataset], rd.Dataset]) -> None:
    """Write the missing parts; a dead process or node costs the shards in flight, not the pass."""
    shards = source.shards()
    losses, left = 0, len(shards)
    while todo := _left(folder, shards):
        losses, left = (losses if len(todo) == left else 0), len(todo)
        try:
            _collect(transform(encoded_rows(source, todo)), folder)
            break
        except (ActorDiedError, WorkerCrashedError, NodeDiedError, OutOfMemoryError):
            losses += 1
            if losses > _RESTARTS:
                raise


def _left(folder: UPath, shards: Sequence[Shard]) -> dict[int, Shard]:
    """Shards without a part file, by number."""
    return {i: shards[i] for i in PART.left(folder, range(len(shards)), _name)}


def _configure() -> None:
    context = rd.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK_BYTES
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # a source of few shards hands on many blocks of each: Ray counts the shards
    warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")


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
        if len(rows) == _CHUNK_ROWS or size >= _BLOCK_BYTES:
            yield pa.Table.from_pylist(rows, schema=_ENCODED)
            rows, size = [], 0
    end = {"id": "", "class_index": -1, "image": b"", "reason": _END, "images": 0}
    rows.append({**end, "shard": index, "row": count})
    yield pa.Table.from_pylist(rows, schema=_ENCODED)


def _collect(dataset: rd.Dataset, folder: UPath) -> None:
    """Write each shard's part when all its rows have arrived."""
    pending: dict[int, list[pa.Table]] = defaultdict(list)
    arrived: dict[int, int] = defaultdict(int)
    length: dict[int, int] = {}
    table: pa.Table  # Ray declares every batch format at once
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        for shard in pc.unique(table.column("shard")).to_pylist():
            rows = table.filter(pc.equal(table.column("shard"), shard))
            ends = pc.equal(rows.column("reason"), _END)
            for end in rows.filter(ends).column("row").to_pylist():
                length[shard] = end
            rows = rows.filter(pc.invert(ends))
            pending[shard].append(rows)
            arrived[shard] += rows.num_rows
            if length.get(shard) == arrived[shard]:
                _write_part(folder, shard, pa.concat_tables(pending.pop(shard)))


def _write_part(folder: UPath, shard: int, table: pa.Table) -> None:
    table = table.sort_by("row")
    good = pc.equal(table.column("reason"), "")
    rejected = table.filter(pc.invert(good)).select(["id", "reason", "images"])
    write_table(REJECTED.path(folder, _name(shard)), rejected)
    write_table(
        PART.path(folder, _name(shard)),
        table.filter(good).drop_columns(["reason", "images", "shard"]),
    )


def _name(shard: int) -> str:
    return f"{shard:05d}"
