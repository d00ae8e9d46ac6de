"""What a pass leaves: a part of every shard, and beside it what could not be used.

The latter is counted image by image, and refused where it is too much.
"""

import math
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from raydd.data.sources import Source
from raydd.errors import Refused
from raydd.store.tables import count_rows, read_table, write_table
from raydd.store.units import PART, Marker

REJECTED = Marker("rejected/{}.parquet")
_LISTED_REASONS = 100


def shard_name(shard: int) -> str:
    """Names the part of a shard."""
    return f"{shard:05d}"


def make_folders(folder: UPath) -> None:
    """Make the folders of a pass."""
    for name in ("parts", "rejected"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def end_pass(folder: UPath, source: Source, max_rejected: float, split: str) -> dict[str, Any]:
    """Count what a pass with all its parts has used; see :func:`.stream.run_pass`."""
    names = [shard_name(shard) for shard in range(len(source.shards()))]
    return conclude(folder, names, max_rejected, split) | {"unused": dict(source.unused)}


def write_part(folder: UPath, shard: int, good: pa.Table, rejected: pa.Table) -> None:
    """Write what a pass has made of a shard; its part comes last."""
    write_table(REJECTED.path(folder, shard_name(shard)), rejected)
    write_table(PART.path(folder, shard_name(shard)), good)


def conclude(folder: UPath, names: list[str], max_rejected: float, split: str) -> dict[str, Any]:
    """Count what a finished pass used and rejected, and write ``rejected.parquet``.

    Args:
        folder: of the stage.
        names: of its parts.
        max_rejected: highest fraction of broken images, [0, 1].
        split: whose images they are, for the message.
    Returns:
        ``rows``, ``rejected`` images and for how many each of the ``reasons`` holds.
    Raises:
        Refused: more are broken, or all.
    """
    found = [_with_images(read_table(REJECTED.path(folder, name))) for name in names]
    rejected = pa.concat_tables(found)
    rows = sum(count_rows(PART.path(folder, name)) for name in names)
    write_table(folder / "rejected.parquet", rejected)
    lost = pc.sum(rejected["images"]).as_py() or 0
    reasons: Counter[str] = Counter()
    for reason, images in zip(
        *(rejected[n].to_pylist() for n in ("reason", "images")), strict=True
    ):
        reasons[reason] += images
    if not rows + lost:
        raise Refused(f"there are no {split} images.")
    if lost > max_rejected * (rows + lost) or not rows:
        reason, often = reasons.most_common(1)[0]
        example = rejected["id"][rejected["reason"].to_pylist().index(reason)].as_py()
        allowed = f", more than data.max_rejected={max_rejected:g} allows" if rows else ""
        further = f" To go on: data.max_rejected={_allowing(lost, rows)}." if rows else ""
        raise Refused(
            f"{lost:,} of {rows + lost:,} {split} images are broken{allowed}; {often:,} of them: "
            f"{reason} (for example {example}). Ids and reasons are in "
            f"{folder / 'rejected.parquet'}.{further}"
        )
    listed = dict(reasons.most_common(_LISTED_REASONS))
    if more := len(reasons) - len(listed):  # hostile files have a reason each
        listed[f"{more} other reasons"] = lost - sum(listed.values())
    return {"rows": rows, "rejected": lost, "reasons": listed}


def _allowing(lost: int, rows: int) -> str:
    """The least share, in hundredths, that allows so many broken images beside the good rows."""
    return f"{math.ceil(100 * lost / (rows + lost)) / 100:g}"


def _with_images(rejected: pa.Table) -> pa.Table:
    """Rejected rows of a pass that an earlier version began stand for an image each."""
    if "images" in rejected.column_names:
        return rejected
    return rejected.append_column("images", pa.array([1] * rejected.num_rows, pa.int64()))
