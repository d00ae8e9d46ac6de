"""A pass over pixels that are on disk already: nothing is decoded or streamed.

Real sets that fit in memory are decoded once, by whichever stage comes first; see
:func:`raydd.engine.passes.decode.stored_images`. A network's tables are those of a streamed pass,
to the byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.cluster.pool import run_units
from raydd.engine.engine import Engine
from raydd.engine.passes.parts import (
    REJECTED,
    end_pass,
    make_folders,
    shard_name,
    write_part,
)
from raydd.store.meter import advance
from raydd.store.tables import read_table
from raydd.store.units import PART


@dataclass(frozen=True)
class StoredJob:
    """Everything a worker needs; picklable.

    Attributes:
        folder: stage folder.
        stored: folder of the decoded images.
        actor: makes what answers a batch of rows, with ``pixels`` and without reasons.
        arguments: it is made with.
        batch: rows that it is given at once.
        on_cpu: whether it has no use for a GPU.
    """

    folder: str
    stored: str
    actor: Callable[..., Callable[[pa.Table], pa.Table]]
    arguments: tuple[Any, ...]
    batch: int
    on_cpu: bool = False


def ask_stored(engine: Engine, job: StoredJob, max_rejected: float) -> dict[str, Any]:
    """Pass over decoded images, a shard at a time; returns what `.stream.run_pass` does."""
    folder, source = UPath(job.folder), engine.train_source
    make_folders(folder)
    todo = PART.left(folder, range(len(source.shards())), shard_name)
    resources = engine.resources
    if job.on_cpu and resources.use_gpu:
        resources = replace(resources, use_gpu=False, unit_workers=None)
    run_units(_Walker, job, todo, resources)
    return end_pass(folder, source, max_rejected, "training")


class _Walker:
    """Answers the stored rows of a shard."""

    def __init__(self, job: StoredJob) -> None:
        self.job, self.answer = job, job.actor(*job.arguments)

    def __call__(self, shard: int) -> None:
        """See :func:`raydd.cluster.pool.run_units`."""
        job, name = self.job, shard_name(shard)
        rows = read_table(PART.path(job.stored, name))
        rows = rows.append_column("shard", pa.array(np.full(rows.num_rows, shard, np.int32)))
        answers = []
        for at in range(0, max(1, rows.num_rows), job.batch):
            answers.append(self.answer(rows.slice(at, job.batch)))
            advance(rows=answers[-1].num_rows)
        rejected = read_table(REJECTED.path(job.stored, name))
        good = pa.concat_tables(answers).drop_columns(["shard"])
        write_part(UPath(job.folder), shard, good, rejected)
