"""Stage ``fetch``: chosen real images, read again by id without another pass over the data."""

from typing import Any

from upath import UPath

from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import fetch_pixels, image_table
from raydd.data.sources import Source
from raydd.engine.pixels import DataConfig
from raydd.engine.stages import Artifact, Stages
from raydd.engine.stream import read_table, write_table

_PART_ROWS = 1000  # images in memory at once


def fetch_images(
    stages: Stages,
    source: Source,
    selection: Artifact,
    preprocessing: Preprocessing,
    config: DataConfig,
    title: str,
) -> Artifact:
    """Decode the images of a selection; slots count up within each class in the order of choice."""

    def work(folder: UPath) -> dict[str, Any]:
        chosen = read_table(selection.folder / "selection.parquet")
        ids, labels = chosen["id"].to_pylist(), chosen["class_index"].to_pylist()
        slots = chosen.to_pandas().groupby("class_index").cumcount().tolist()
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        for part, begin in enumerate(range(0, len(ids), _PART_ROWS)):
            rows = slice(begin, begin + _PART_ROWS)
            pixels = fetch_pixels(source, ids[rows], preprocessing, config.max_pixels)
            table = image_table(pixels, labels[rows], slots[rows], 0, ids[rows])
            write_table(folder / "parts" / f"{part:05d}.parquet", table)
        return {"images": len(ids)}

    return stages.run(
        "fetch",
        work,
        inputs=[selection, source.fingerprint],
        config={"size": [preprocessing.resolution, preprocessing.resize]},
        seed=0,
        title=title,
    )
