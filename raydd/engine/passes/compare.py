"""Which images are in both splits: accuracies on such a test split say less than they seem to."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.store.artifacts import Artifact
from raydd.store.tables import part_files, read_table


def compare_splits(engine: Engine, train: Artifact, test: Artifact) -> Artifact:
    """Stage ``compare``: how many images of the test split are also training images.

    Args:
        engine: of the run.
        train: a table of the real images: scores, features or a list.
        test: the decoded test split.
    Returns:
        Artifact whose summary has ``equal``: test images whose pixels are those of a training
        image; None where one of the tables was made by a version that kept no ``content``.
    """
    return engine.stages.run(
        "compare",
        lambda _: {"equal": _count_equal(train, test)},
        inputs=[train, test],
        config=None,
        seed=0,
        cost=Cost,  # one column of the tables
        expected=dict,
        title="training, test",
    )


def _count_equal(train: Artifact, test: Artifact) -> int | None:
    tests = [read_table(path, ["content"]) for path in part_files(test.folder)]
    if any("content" not in table.column_names for table in tests):
        return None
    wanted = np.concatenate([np.empty(0, np.int64), *(table["content"] for table in tests)])
    sought, met = pa.array(wanted), [np.empty(0, np.int64)]
    for path in part_files(train.folder):
        table = read_table(path, ["content"])
        if "content" not in table.column_names:
            return None
        content = table["content"]  # of which few are met: wanted ones are looked up by their hash
        met.append(content.filter(pc.is_in(content, sought)).unique().to_numpy())
    return int(np.isin(wanted, np.concatenate(met)).sum())
