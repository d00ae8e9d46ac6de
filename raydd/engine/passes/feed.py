"""What flows into a pass: the rows of shards, encoded, or decoded on the CPUs beside the devices.

A task reads a shard; where devices compute, it decodes it as well. Two operators, one that reads
and one that decodes, would share Ray Data's budget: then one task decodes, however many cores
there are. For the same reason blocks of pixels are small: a task may hold two of them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from ray.util.annotations import RayDeprecationWarning

from raydd.cluster.resources import Resources
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import answered_rows, decode_rows, pixel_column
from raydd.data.sources import Shard, Source
from raydd.engine.passes.encoded import BLOCK_BYTES, CHUNK_ROWS, Work, map_rows

if TYPE_CHECKING:
    import ray.data as rd  # a second: a run that is found finished does without it

_PIXEL_BYTES = 12 << 20  # of a table of decoded rows
_WHOLE = 0.75  # of a table: a block is closed by the table that passes that size, and not cut again


def encoded_rows(source: Source, shards: Mapping[int, Shard]) -> rd.Dataset:
    """Dataset of the shards' encoded images, one read task per shard."""
    return _flow(source, shards, None, CHUNK_ROWS)


def mapped_rows(
    source: Source, shards: Mapping[int, Shard], work: Work, step: int | None = None
) -> rd.Dataset:
    """Dataset of what ``work`` makes of the shards' encoded images, one task per shard.

    A ``map_batches`` of its own would be run by one task for as many shards as its batch has rows.

    Args:
        source: the real images.
        shards: of it, by number.
        work: maps a table of rows of :func:`encoded_rows` to another of as many rows.
        step: rows of a table, at most; None is as many as a reader hands on.
    """
    return _flow(source, shards, work, step or CHUNK_ROWS)


def decoded_rows(
    source: Source, shards: Mapping[int, Shard], preprocessing: Preprocessing, max_pixels: int
) -> rd.Dataset:
    """Dataset of the shards' decoded images, one task per shard.

    Args:
        source: the real images.
        shards: of it, by number.
        preprocessing: resolution R and resizing.
        max_pixels: cap of the decoder.
    Returns:
        The columns of :func:`encoded_rows` with ``pixels``, R * R * 3 bytes, in place of ``image``,
        and what :func:`raydd.data.rows.answered_rows` adds.
    """
    step = max(1, _PIXEL_BYTES // (3 * preprocessing.resolution**2))
    decode = decoding(preprocessing, max_pixels, kept=True)
    return mapped_rows(source, shards, decode, min(step, CHUNK_ROWS))


def decoding(preprocessing: Preprocessing, max_pixels: int, kept: bool) -> Work:
    """Encoded rows become rows of pixels, or rows without any that were tried all the same."""

    def decode(encoded: pa.Table) -> pa.Table:
        pixels, reasons = decode_rows(encoded, preprocessing, max_pixels)
        rows = answered_rows(encoded, reasons, pixels)
        return rows.append_column("pixels", pixel_column(pixels)) if kept else rows

    return decode


def map_actors(
    rows: rd.Dataset, actor: type, arguments: tuple[Any, ...], batch_size: int, resources: Resources
) -> rd.Dataset:
    """Map batches through one ``actor(*arguments)`` per device; see `.stream._pass` for dead ones.

    An actor with a GPU asks for no CPU: those that there are belong to the tasks that feed it.
    """
    import ray.data as rd

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


def _flow(source: Source, shards: Mapping[int, Shard], work: Work | None, step: int) -> rd.Dataset:
    import ray.data as rd

    def read(batch: dict[str, np.ndarray]) -> Iterator[pa.Table]:
        index = int(batch["index"][0])
        return map_rows(source, shards[index], index, work, step)

    _configure(BLOCK_BYTES if work is None else int(_WHOLE * _PIXEL_BYTES))
    indices = rd.from_items([{"index": i} for i in shards], override_num_blocks=len(shards))
    return indices.map_batches(read, batch_size=1)


def _configure(block_bytes: int) -> None:
    import ray.data as rd

    context = rd.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = block_bytes
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # an error is raised, too
    # a source of few shards hands on many blocks of each: Ray counts the shards
    warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
