"""Stage ``fetch``: chosen real images, read again by id without another pass over the data."""

from typing import Any

import numpy as np
from upath import UPath

from raydd.data.images import decode
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import image_table
from raydd.data.sources import Source
from raydd.engine.pixels import DataConfig
from raydd.engine.stages import Artifact, Stages
from raydd.engine.stream import read_table, write_table


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
        encoded = source.fetch(ids)
        pixels = np.stack([decode(encoded[name], preprocessing, config.max_pixels) for name in ids])
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        slots = chosen.to_pandas().groupby("class_index").cumcount().tolist()
        write_table(folder / "parts" / "00000.parquet", image_table(pixels, labels, slots, 0, ids))
        return {"images": len(ids)}

    return stages.run(
        "fetch",
        work,
        inputs=[selection, source.fingerprint],
        config={"size": [preprocessing.resolution, preprocessing.resize]},
        seed=0,
        title=title,
    )
