"""Exports for other tools: image folders (``00000/00003.png``) and CCFS's list of real images."""

import json
import math
from typing import Any

from upath import UPath

from raydd.data.distilled import DistilledSet, read_distilled
from raydd.data.image_numbers import image_numbers
from raydd.data.sources import Source

EXPORTED = "class_names.json"  # written last: an export without it was killed
SELECTED = "selected_indices.json"


def export_imagefolder(folder: str | UPath, destination: str | UPath) -> int:
    """Write one PNG per image, five-digit folders by class index, files by slot.

    The stored bytes are copied, not encoded again. ``class_names.json`` keeps the names, which the
    folders do not carry.

    Args:
        folder: a finished distilled set.
        destination: a new folder, or one that a killed export left; local or on an object store.
    Returns:
        Number of images written.
    Raises:
        ValueError: not a finished distilled set, or the destination holds something else.
    """
    distilled, target = read_distilled(folder), UPath(destination)
    if target.exists() and not all(item.name.isdecimal() for item in target.iterdir()):
        raise ValueError(f"{target} is not empty; name a new folder for the export.")
    for class_index in range(len(distilled.info.class_names)):
        (target / f"{class_index:05d}").mkdir(parents=True, exist_ok=True)
    num_images = 0
    for batch in distilled.tables():
        for row in batch.select(["image", "label", "slot"]).to_pylist():
            file = target / f"{row['label']:05d}" / f"{row['slot']:05d}.png"
            file.write_bytes(row["image"]["bytes"])
            num_images += 1
    names = json.dumps(list(distilled.info.class_names), ensure_ascii=False, indent=1)
    (target / EXPORTED).write_text(names + "\n", "utf-8")
    return num_images


def export_selected_indices(
    folder: str | UPath, source: Source, destination: str | UPath
) -> dict[str, Any]:
    """Write ``selected_indices.json`` as the official CCFS code keeps its selection.

    Args:
        folder: a finished distilled set.
        source: the real images that it was made of; see :func:`image_numbers` for the kinds.
        destination: the file.
    Returns:
        What was written: ``ipc`` (images of the largest class), ``alpha`` (the share of them that
        is distilled; ipc * alpha, cut to a whole number, is that many) and ``idx_selected``, the
        numbers of the real images in the order of their selection: by curriculum, class and slot.
    Raises:
        ValueError: the set has no real image, or one of them has no number.
    """
    distilled = read_distilled(folder)
    rows = sorted(
        _rows_of(distilled), key=lambda row: (row["curriculum"], row["label"], row["slot"])
    )
    chosen = [row["source_id"] for row in rows if row["origin"] == "real"]
    if not chosen:
        raise ValueError(f"{folder} holds no real images, so that there are no indices to export.")
    made = [0] * len(distilled.info.class_names)
    for row in rows:
        made[row["label"]] += row["origin"] != "real"
    ipc = max(distilled.info.counts)
    content = {
        "ipc": ipc,
        "alpha": _portion(max(made), ipc),
        "idx_selected": image_numbers(source, chosen),
    }
    UPath(destination).write_text(json.dumps(content) + "\n", "utf-8")
    return content


def _rows_of(distilled: DistilledSet) -> list[dict[str, Any]]:
    columns = ["label", "slot", "curriculum", "origin", "source_id"]
    return [row for batch in distilled.tables() for row in batch.select(columns).to_pylist()]


def _portion(part: int, whole: int) -> float:
    """The share whose product with ``whole``, cut as CCFS cuts it, is ``part`` again."""
    share = part / whole
    while int(whole * share) < part:  # 100 * 0.29 is a little less than 29
        share = math.nextafter(share, 1.0)
    return share
