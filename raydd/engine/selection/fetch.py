"""Stage ``fetch``: chosen real images, read again by id without another pass over the data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.cluster.tasks import run_many
from raydd.data.rows import Reader, image_table
from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.engine.passes.decode import decode_test
from raydd.engine.selection.chosen import by_place
from raydd.engine.selection.ranking import ANY
from raydd.engine.selection.select import HELD_OUT, hold_out, select
from raydd.errors import Refused
from raydd.store.artifacts import Artifact
from raydd.store.meter import advance
from raydd.store.tables import write_table
from raydd.store.units import PART

PART_ROWS = 1000  # images in one task's memory at once
_FEW = 2000  # images: this process reads them before others would have started


def fetch(
    engine: Engine, selection: Artifact, after: Sequence[Artifact], curriculum: int, title: str
) -> Artifact:
    """Decode the images of a selection, many of them in Ray tasks of a thousand.

    Args:
        engine: of the run.
        selection: which of them; slots count up within each class in the order of choice.
        after: images whose slots come before these.
        curriculum: number of the curriculum.
        title: what the progress line says.
    Returns:
        Artifact with ``parts/*.parquet``, in the order in which the images lie in their source:
        neighbours share files, and a file is opened by few tasks.
    """
    nothing = [0] * engine.num_classes
    first_slots = np.sum([nothing, *(i.summary["counts"] for i in after)], axis=0).tolist()
    chosen, first = selection.summary["chosen"], max(first_slots)
    count = sum(chosen)
    units = -(-count // PART_ROWS)
    summary = {"slots": [first, first + max(chosen)], "counts": chosen}

    def work(folder: UPath) -> dict[str, Any]:
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        reader = Reader(engine.train_source, engine.preprocessing, engine.data.max_pixels)
        table = by_place(selection.folder, first_slots)
        todo = PART.left(folder, range(units), _name)
        fetch_part = partial(_fetch_part, folder, reader, curriculum)
        if count <= _FEW:
            for part in _cut(table, todo):
                fetch_part(part)
                advance(units=1)
        else:
            run_many(fetch_part, _cut(table, todo), engine.resources, on_cpu=True)
        return summary

    return engine.stages.run(
        "fetch",
        work,
        inputs=[selection, engine.train_source.fingerprint],
        config={
            "size": [engine.preprocessing.resolution, engine.preprocessing.resize],
            "curriculum": curriculum,
            "first_slots": first_slots,
        },
        seed=0,
        cost=lambda: Cost(
            reads=engine.encoded_bytes(count),
            writes=count * engine.pixel_bytes,
            memory=2 * PART_ROWS * engine.pixel_bytes,
            decodes=count,
            divides="tasks",
        ),
        expected=lambda: summary,
        title=title,
        units=units,
        done=[PART],
    )


def random_images(engine: Engine, scores: Artifact, counts: Sequence[int], draw: int) -> Artifact:
    """Random real images, ``counts`` of each class, another draw for every number.

    A class that has fewer gives all of them.
    """
    try:
        chosen = select(engine, [scores], ANY, counts, curriculum=draw, draw="random")
    except Refused:
        fewer = replace(ANY, shortfall="rollover")
        chosen = select(engine, [scores], fewer, counts, curriculum=draw, draw="random")
    return fetch(engine, chosen, [], 0, f"random {draw}")


def judging_images(engine: Engine, scores: Artifact) -> Artifact:
    """Images that fresh networks are judged on: the test split, or those held out."""
    if not engine.validation:
        return decode_test(engine)
    return fetch(engine, hold_out(engine, scores), [], 0, HELD_OUT)


@dataclass(frozen=True)
class _Part:
    """One task: the number of a part and its rows of :func:`.chosen.by_place`."""

    number: int
    rows: pa.Table


def _cut(table: pa.Table, numbers: Sequence[int]) -> Iterator[_Part]:
    for number in numbers:
        # a slice would be sent with all that it was cut from
        rows = table.slice(number * PART_ROWS, PART_ROWS)
        yield _Part(number, rows.take(np.arange(rows.num_rows)))


def _fetch_part(folder: UPath, reader: Reader, curriculum: int, part: _Part) -> None:
    ids, labels, slots = (part.rows[name].to_pylist() for name in ("id", "class_index", "slot"))
    table = image_table(reader.fetch(ids), labels, slots, curriculum, ids, "real")
    write_table(PART.path(folder, _name(part.number)), table)


def _name(part: int) -> str:
    return f"{part:05d}"
