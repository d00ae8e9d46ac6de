"""Stage ``core``: the first images of a distilled set that exists, as the start of another one."""

from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.data.classes import check_class_order
from raydd.data.distilled import MANIFEST, DistilledRow, DistilledSet, hash_file, read_distilled
from raydd.data.rows import image_table
from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.errors import Refused
from raydd.store.artifacts import Artifact
from raydd.store.tables import write_table
from raydd.store.units import PART

_PART_ROWS = 1000  # images in memory at once


def open_core(path: str, count: int, class_names: tuple[str, ...], resolution: int) -> DistilledSet:
    """Open a distilled set and see, before any work, whether it can be a core.

    Args:
        path: folder of the set.
        count: images per class that are asked for.
        class_names: of the source.
        resolution: side of the images, pixels.
    Raises:
        Refused: no finished set, other classes, another resolution or too few images.
    """
    try:
        distilled = read_distilled(UPath(path).absolute())
        check_class_order(class_names, distilled.info.class_names, f"method.core={path}")
    except ValueError as error:
        raise Refused(str(error)) from error
    side = distilled.info.preprocessing.resolution
    if side != resolution:
        raise Refused(
            f"method.core={path} has images of {side} px, the data set has {resolution} px."
        )
    fewest = min(distilled.info.counts)
    if fewest < count:
        raise Refused(
            f"method.core={path} has only {fewest} images of some class, but alpha asks for "
            f"{count}; lower method.alpha or name a larger set."
        )
    return distilled


def adopt_core(engine: Engine, path: str, count: int) -> Artifact:
    """Stage ``core``: the first ``count`` slots of every class of a distilled set that exists.

    Args:
        engine: of the run.
        path: folder of the set.
        count: images per class.
    Returns:
        Artifact with ``parts/*.parquet`` as ``synthesize`` leaves them.
    Raises:
        Refused: see :func:`open_core`; or the set holds real images, which could be chosen again,
            or its slots have gaps.
    """
    distilled = open_core(path, count, engine.class_names, engine.preprocessing.resolution)
    size = count * engine.num_classes * engine.pixel_bytes
    return engine.stages.run(
        "core",
        lambda folder: _copy(distilled, folder, count),
        inputs=[str(hash_file(distilled.folder / MANIFEST)["sha256"])],
        config={"count": count},
        seed=0,
        cost=lambda: Cost(size, size, size),
        expected=lambda: {"slots": [0, count], "counts": [count] * engine.num_classes},
        title="distilled",
    )


def _copy(distilled: DistilledSet, folder: UPath, count: int) -> dict[str, Any]:
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    rows = (row for row in distilled.rows() if row.slot < count)
    counts = np.zeros(len(distilled.info.class_names), int)
    part = 0
    while block := list(islice(rows, _PART_ROWS)):
        if any(row.origin == "real" for row in block):
            raise Refused(
                f"method.core={distilled.folder} holds real images; name a synthesised set."
            )
        write_table(PART.path(folder, f"{part:05d}"), _table(block))
        counts += np.bincount([row.class_index for row in block], minlength=len(counts))
        part += 1
    if (counts != count).any():
        raise Refused(f"method.core={distilled.folder} has not {count} images of every class.")
    return {"slots": [0, count], "counts": counts.tolist()}


def _table(rows: list[DistilledRow]) -> pa.Table:
    return image_table(
        np.stack([row.pixels for row in rows]),
        [row.class_index for row in rows],
        [row.slot for row in rows],
        0,
        [row.source_id for row in rows],
        "synthetic",
    )
