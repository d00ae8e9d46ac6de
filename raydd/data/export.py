"""Export to the image folder that the older distillation tools read: ``00000/00003.png``."""

import json

from upath import UPath

from raydd.data.distilled import read_distilled

EXPORTED = "class_names.json"  # written last: an export without it was killed


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
