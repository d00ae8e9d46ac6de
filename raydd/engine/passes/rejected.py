"""What a pass could not use: counted image by image, and refused where it is too much."""

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from raydd.errors import Refused
from raydd.store.tables import count_rows, read_table, write_table
from raydd.store.units import PART, Marker

REJECTED = Marker("rejected/{}.parquet")
_LISTED_REASONS = 100


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
        Refused: more are broken.
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
    if lost > max_rejected * (rows + lost):
        reason, often = reasons.most_common(1)[0]
        example = rejected["id"][rejected["reason"].to_pylist().index(reason)].as_py()
        raise Refused(
            f"{lost:,} of {rows + lost:,} {split} images are broken, more than "
            f"data.max_rejected={max_rejected:g} allows; {often:,} of them: {reason} (for example "
            f"{example}). Ids and reasons are in {folder / 'rejected.parquet'}."
        )
    listed = dict(reasons.most_common(_LISTED_REASONS))
    if more := len(reasons) - len(listed):  # hostile files have a reason each
        listed[f"{more} other reasons"] = lost - sum(listed.values())
    return {"rows": rows, "rejected": lost, "reasons": listed}


def _with_images(rejected: pa.Table) -> pa.Table:
    """Rejected rows of a pass that an earlier version began stand for an image each."""
    if "images" in rejected.column_names:
        return rejected
    return rejected.append_column("images", pa.array([1] * rejected.num_rows, pa.int64()))
