"""How many images each class has."""

from typing import Any

import numpy as np
from upath import UPath

from raydd.data.sources import Source
from raydd.engine.stages import Stages
from raydd.engine.stream import run_pass
from raydd.engine.tables import part_files, read_table


def count_classes(stages: Stages, source: Source) -> np.ndarray:
    """Stage ``count``: images of each class, int64 [C], where only a pass can tell."""

    def work(folder: UPath) -> dict[str, Any]:
        run_pass(folder, source, lambda rows: rows.drop_columns(["image"]), max_rejected=1.0)
        return {"counts": count_labels(folder, len(source.class_names)).tolist()}

    artifact = stages.run(
        "count", work, inputs=[source.fingerprint], config=None, seed=0, title="classes"
    )
    return np.array(artifact.summary["counts"], np.int64)


def count_labels(folder: UPath, num_classes: int) -> np.ndarray:
    """Rows of each class in the parts of a finished pass, int64 [C]."""
    counts = np.zeros(num_classes, np.int64)
    for path in part_files(folder):
        labels = read_table(path, ["class_index"])["class_index"].to_numpy()
        counts += np.bincount(labels, minlength=num_classes)
    return counts
