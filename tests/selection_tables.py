"""Score tables that tests write by hand."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.store.artifacts import Artifact
from raydd.store.tables import write_table


def score_table(folder, labels, predictions, cuts, **more):
    """Write a score table cut into parts at the given rows."""
    (folder / "parts").mkdir(parents=True)
    ids = np.array([f"image{i:04d}" for i in range(len(labels))])
    edges = [0, *sorted(cuts), len(labels)]
    for i, (low, high) in enumerate(pairwise(edges)):
        part = pa.table(
            {
                "id": ids[low:high].tolist(),
                "class_index": pa.array(labels[low:high], pa.int32()),
                "row": pa.array(range(high - low), pa.int32()),
                "prediction": pa.array(predictions[low:high], pa.int32()),
                **{name: values[low:high] for name, values in more.items()},
            }
        )
        write_table(UPath(folder / "parts" / f"{i:05d}.parquet"), part)
    return Artifact(UPath(folder), f"table {folder.name}", stage="score")
