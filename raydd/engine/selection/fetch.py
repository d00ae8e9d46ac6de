"""Stage ``fetch``: chosen real images, read again by id without another pass over the data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import ray
from upath import UPath

from raydd.cluster.connect import Resources
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import fetch_pixels, image_table
from raydd.data.sources import Source
from raydd.engine.passes.stream import DataConfig
from raydd.store.artifacts import Artifact, Stages
from raydd.store.tables import count_parts, read_table, write_table

PART_ROWS = 1000  # images in one task's memory at once


@dataclass(frozen=True)
class _Reader:
    """What every task needs; sent once."""

    folder: UPath
    source: Source
    preprocessing: Preprocessing
    max_pixels: int
    curriculum: int


def fetch_images(
    stages: Stages,
    source: Source,
    selection: Artifact,
    first_slots: Sequence[int],
    curriculum: int,
    preprocessing: Preprocessing,
    config: DataConfig,
    resources: Resources,
    title: str,
) -> Artifact:
    """Decode the images of a selection, in Ray tasks of a thousand.

    Args:
        stages: where the images go.
        source: the real images.
        selection: which of them; slots count up within each class in the order of choice.
        first_slots: slot of the first image of each class, C ints.
        curriculum: number of the curriculum.
        preprocessing: of the images.
        config: pixel cap of the decoder.
        resources: how many tasks run at once.
        title: what the progress line says.
    Returns:
        Artifact with ``parts/*.parquet``, in the order in which the images lie in their source:
        neighbours share files, and a file is opened by few tasks.
    """
    rows = sum(selection.summary["chosen"])

    def work(folder: UPath) -> dict[str, Any]:
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        reader = _Reader(folder, source, preprocessing, config.max_pixels, curriculum)
        _fetch_parts(reader, _by_place(selection, first_slots), resources)
        first = int(np.max(first_slots))
        counts = selection.summary["chosen"]
        return {"slots": [first, first + max(counts)], "counts": counts}

    return stages.run(
        "fetch",
        work,
        inputs=[selection, source.fingerprint],
        config={
            "size": [preprocessing.resolution, preprocessing.resize],
            "curriculum": curriculum,
            "first_slots": list(first_slots),
        },
        seed=0,
        title=title,
        units=-(-rows // PART_ROWS),
        count_done=count_parts,
    )


def _by_place(selection: Artifact, first_slots: Sequence[int]) -> pd.DataFrame:
    """The chosen images (id, class_index, slot) in the order of their places."""
    chosen = read_table(selection.folder / "selection.parquet").to_pandas()
    first = np.asarray(first_slots)[chosen["class_index"]]
    chosen["slot"] = first + chosen.groupby("class_index").cumcount()
    return chosen.sort_values(["part", "row"])[["id", "class_index", "slot"]]


def _fetch_parts(reader: _Reader, chosen: pd.DataFrame, resources: Resources) -> None:
    task = ray.remote(num_cpus=1, max_retries=resources.max_failures)(_fetch_part)
    shared = ray.put(reader)
    pending: list[ray.ObjectRef] = []
    for part, begin in enumerate(range(0, len(chosen), PART_ROWS)):
        path = _path(reader.folder, part)
        if path.exists():
            continue
        if len(pending) >= 2 * resources.count_parallel():
            (ready, *_), pending = ray.wait(pending, num_returns=1)
            ray.get(ready)
        pending.append(task.remote(shared, part, chosen[begin : begin + PART_ROWS]))
    ray.get(pending)


def _fetch_part(reader: _Reader, part: int, rows: pd.DataFrame) -> None:
    ids = rows["id"].tolist()
    pixels = fetch_pixels(reader.source, ids, reader.preprocessing, reader.max_pixels)
    labels, slots = rows["class_index"].tolist(), rows["slot"].tolist()
    table = image_table(pixels, labels, slots, reader.curriculum, ids, "real")
    write_table(_path(reader.folder, part), table)


def _path(folder: UPath, part: int) -> UPath:
    return folder / "parts" / f"{part:05d}.parquet"
