"""One pass of Ray Data over a source, shard by shard, in bounded memory.

The shard is the unit of resume: when every row of a shard has arrived, its part file is written,
sorted by position, so that the files do not depend on workers, block sizes or arrival order.
A pass that is killed continues with the shards that have no part file.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from ray.exceptions import RayError
from upath import UPath

from raydd.cluster.deaths import is_death
from raydd.cluster.pool import WORTH_SECONDS
from raydd.data.sources import Shard, Source
from raydd.engine.passes.encoded import END, Work, map_rows
from raydd.engine.passes.feed import mapped_rows
from raydd.engine.passes.parts import end_pass, make_folders, shard_name, write_part
from raydd.ops.configs import check_at_least_one
from raydd.store.meter import advance
from raydd.store.units import PART

if TYPE_CHECKING:
    import ray.data as rd


@dataclass
class DataConfig:
    """How real images are read; no value here changes which images are chosen."""

    max_rejected: float = 0.01
    """Highest fraction of broken images, in [0, 1]; above it the run stops."""
    max_pixels: int = 50_000_000
    """An image with more pixels is quarantined instead of decoded."""
    memory_limit_mb: int = 1000
    """Sets whose pixels take at most this are decoded once, for every stage that looks at them; a
    training holds them as one tensor. Larger ones are streamed. MiB."""
    score_batch: int = 256
    """Images per forward pass of the score stage."""

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_at_least_one(self, "max_pixels", "score_batch")
        if not 0 <= self.max_rejected <= 1:
            raise ValueError(f"max_rejected must lie in [0, 1], got {self.max_rejected}")


_TRIED_SECONDS = 0.5  # of one process, before others are thought of
_RESTARTS = 8  # a pass that loses more processes and writes no part meanwhile has another problem


Flow = Callable[[Mapping[int, Shard]], "rd.Dataset"]


def run_pass(
    folder: UPath,
    source: Source,
    flow: Flow,
    max_rejected: float,
    split: str = "training",
) -> dict[str, Any]:
    """Let every shard that has no part file yet flow and write its part.

    Args:
        folder: stage folder; gets ``parts/NNNNN.parquet``, one per shard, with the number of each
            ``row`` in its shard; ``rejected/`` beside it and, at the end, ``rejected.parquet``
            (id, reason, images: how many a row stands for).
        source: the real images.
        flow: Dataset of the shards given by number: all columns of :func:`.feed.encoded_rows` but
            ``image``, and what is found out; rows with a reason are there too.
        max_rejected: highest fraction of broken images, [0, 1].
        split: whose images they are, for messages.
    Returns:
        ``rows``, ``rejected`` images, for how many each of the ``reasons`` holds, and what the
        source passed over, ``unused`` files by kind.
    Raises:
        Refused: more than ``max_rejected`` of the images are broken.
    """
    make_folders(folder)
    _pass(folder, source, flow)
    return end_pass(folder, source, max_rejected, split)


def map_pass(
    folder: UPath,
    source: Source,
    work: Work,
    max_rejected: float,
    split: str = "training",
    images: float = math.nan,
) -> dict[str, Any]:
    """A pass whose rows any process may map, some encoded rows at a time; see above.

    Of a known number of ``images`` this process maps what it can before others would be worth their
    start.
    """
    make_folders(folder)
    if not math.isnan(images):
        _map_here(folder, source, work, images)

    def flow(shards: Mapping[int, Shard]) -> rd.Dataset:
        return mapped_rows(source, shards, work)

    _pass(folder, source, flow)
    return end_pass(folder, source, max_rejected, split)


def _map_here(folder: UPath, source: Source, work: Work, images: float) -> None:
    """Write parts until all are there, or all that is left would take too long."""
    started, done = time.monotonic(), 0
    for number, shard in _left(folder, source.shards()).items():
        tables = []
        for table in map_rows(source, shard, number, work):
            tables.append(table)
            done += table.num_rows
            seconds = time.monotonic() - started
            if seconds > _TRIED_SECONDS and (images - done) * seconds / done > WORTH_SECONDS:
                return
        rows = pa.concat_tables(tables)
        advance(rows=rows.num_rows)
        _sort_part(folder, number, rows.filter(pc.not_equal(rows["reason"], END)))
        advance(units=1)


def _pass(folder: UPath, source: Source, flow: Flow) -> None:
    """Write the missing parts; a dead process or node costs the shards in flight, not the pass."""
    shards = source.shards()
    losses, left = 0, len(shards)
    while todo := _left(folder, shards):
        losses, left = (losses if len(todo) == left else 0), len(todo)
        try:
            _collect(flow(todo), folder)
            break
        except RayError as error:
            losses += 1
            # an actor that could not load its network would fail again
            is_hopeless = losses > _RESTARTS or getattr(error, "actor_init_failed", False)
            if is_hopeless or not is_death(error):
                raise


def _left(folder: UPath, shards: Sequence[Shard]) -> dict[int, Shard]:
    """Shards without a part file, by number."""
    return {i: shards[i] for i in PART.left(folder, range(len(shards)), shard_name)}


def _collect(dataset: rd.Dataset, folder: UPath) -> None:
    """Write each shard's part when all its rows have arrived."""
    pending: dict[int, list[pa.Table]] = defaultdict(list)
    arrived: dict[int, int] = defaultdict(int)
    length: dict[int, int] = {}
    table: pa.Table  # Ray declares every batch format at once
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        advance(rows=table.num_rows)
        for shard in pc.unique(table.column("shard")).to_pylist():
            rows = table.filter(pc.equal(table.column("shard"), shard))
            ends = pc.equal(rows.column("reason"), END)
            for end in rows.filter(ends).column("row").to_pylist():
                length[shard] = end
            rows = rows.filter(pc.invert(ends))
            pending[shard].append(rows)
            arrived[shard] += rows.num_rows
            if length.get(shard) == arrived[shard]:
                _sort_part(folder, shard, pa.concat_tables(pending.pop(shard)))
                advance(units=1)


def _sort_part(folder: UPath, shard: int, table: pa.Table) -> None:
    table = table.sort_by("row")
    good = pc.equal(table.column("reason"), "")
    rejected = table.filter(pc.invert(good)).select(["id", "reason", "images"])
    write_part(
        folder, shard, table.filter(good).drop_columns(["reason", "images", "shard"]), rejected
    )
