"""Stage ``core``: the first images of a distilled set that exists, as the start of another one."""

from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.data.classes import check_class_order
from raydd.data.distilled import MANIFEST, DistilledRow, DistilledSet, hash_file, read_distilled
from raydd.data.rows import image_table
from raydd.engine.errors import Refused
from raydd.engine.stages import Artifact, Stages
from raydd.engine.stream import write_table

_PART_ROWS = 1000  # images in memory at once


def adopt_core(
    stages: Stages, path: str, count: int, class_names: tuple[str, ...], resolution: int
) -> Artifact:
    """Take the first ``count`` slots of every class of a distilled set.

    Args:
        stages: where the images go.
        path: folder of the set.
        count: images per class.
        class_names: of the source; another order is refused.
        resolution: side of the images, pixels.
    Returns:
        Artifact with ``parts/*.parquet`` as ``synthesize`` leaves them.
    Raises:
        Refused: the folder is no finished set or does not fit.
    """
    folder = UPath(path).absolute()
    try:
        distilled = read_distilled(folder)
        check_class_order(class_names, distilled.info.class_names, f"method.core={path}")
    except ValueError as error:
        raise Refused(str(error)) from error
    _check(distilled, path, count, resolution)

    def work(target: UPath) -> dict[str, Any]:
        (target / "parts").mkdir(parents=True, exist_ok=True)
        rows = (row for row in distilled.rows() if row.slot < count)
        counts = np.zeros(len(class_names), int)
        part = 0
        while block := list(islice(rows, _PART_ROWS)):
            if any(row.origin == "real" for row in block):
                raise Refused(f"method.core={path} holds real images; name a synthesised set.")
            write_table(target / "parts" / f"{part:05d}.parquet", _table(block))
            counts += np.bincount([row.class_index for row in block], minlength=len(counts))
            part += 1
        if (counts != count).any():
            raise Refused(f"method.core={path} has not {count} images of every class.")
        return {"slots": [0, count], "counts": counts.tolist()}

    return stages.run(
        "core",
        work,
        inputs=[str(hash_file(folder / MANIFEST)["sha256"])],
        config={"count": count},
        seed=0,
        title="distilled",
    )


def _check(distilled: DistilledSet, path: str, count: int, resolution: int) -> None:
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


def _table(rows: list[DistilledRow]) -> pa.Table:
    return image_table(
        np.stack([row.pixels for row in rows]),
        [row.class_index for row in rows],
        [row.slot for row in rows],
        0,
        [row.source_id for row in rows],
        "synthetic",
    )
