"""Small generated data sets in every layout, with the pixels they were made from."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydd.data.images import encode_png
from raydd.data.sources import Row, Source

CLASSES = ("ant", "bee", "cat")


def picture(seed: int, height: int = 12, width: int = 12) -> np.ndarray:
    """Noise, uint8 [height, width, 3]; another one for every seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(seed: int) -> bytes:
    return encode_png(picture(seed))


def write_imagefolder(root: Path, per_class: int = 3, split: str = "train") -> None:
    for class_index, name in enumerate(CLASSES):
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(per_class):
            (folder / f"{number:02d}.png").write_bytes(png(100 * class_index + number))


def write_parquet(
    path: Path,
    labels: Iterable[Any],
    images: Iterable[bytes | None] | None = None,
    *,
    columns: tuple[str, str] = ("image", "label"),
    names: Iterable[str] | None = None,
    row_group: int = 4,
) -> None:
    labels = list(labels)
    images = [png(seed) for seed in range(len(labels))] if images is None else list(images)
    structs = [None if image is None else {"bytes": image, "path": None} for image in images]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({columns[0]: pa.array(structs, struct), columns[1]: labels})
    if names is not None:
        features = {
            columns[0]: {"_type": "Image"},
            columns[1]: {"names": list(names), "_type": "ClassLabel"},
        }
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group)


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def all_rows(source: Source) -> list[Row]:
    return [row for shard in source.shards() for row in source.read(shard)]
