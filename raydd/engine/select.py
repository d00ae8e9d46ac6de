"""Choose real images per class from score tables, in bounded memory, whatever their partition.

Every row gets a rung (lower is better) and a key that depends on its id and the seed alone; per
class the ``k`` smallest (rung, key, id) are kept. The cut happens part by part, in Ray tasks; one
fold on the driver holds at most a few times ``k * C`` rows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import ray
from upath import UPath

from raydd.engine.errors import Refused
from raydd.engine.stages import Artifact
from raydd.engine.stream import part_files, read_table, write_table

Rung = Callable[[list[dict[str, np.ndarray]]], np.ndarray]
_FOLD_ROWS = 1_000_000
_IN_FLIGHT = 16


def select_per_class(
    folder: UPath,
    tables: Sequence[Artifact],
    rung: Rung,
    ladder: Sequence[str],
    count: int,
    used: Sequence[Artifact],
    seed: int,
    num_classes: int,
) -> dict[str, Any]:
    """Keep ``count`` images per class and write them to ``selection.parquet``.

    Args:
        folder: stage folder; the file has columns class_index, rung, id, in the order of choice.
        tables: score tables of one source, aligned row by row.
        rung: maps one part of every table (dicts of equally long columns) to int8 rungs, one per
            row; a negative rung is never chosen.
        ladder: name of each rung.
        count: images per class, k.
        used: earlier selections; their ids are not chosen again.
        seed: orders the images inside a rung: uniformly, and independently of any partition.
        num_classes: C.
    Returns:
        ``rungs``: per rung name, the number chosen of each class (C ints).
    Raises:
        Refused: a class has fewer than ``count`` images left.
    """
    taken = np.unique(np.concatenate([_ids(a) for a in used])) if used else np.empty(0, object)
    parts = list(zip(*(part_files(table.folder) for table in tables), strict=True))
    cut = ray.remote(num_cpus=1, max_retries=3)(_cut_part)
    taken_ref = ray.put(taken)
    kept: list[pd.DataFrame] = []
    rows = 0
    pending = [cut.remote(p, rung, count, taken_ref, seed) for p in parts[:_IN_FLIGHT]]
    queue = iter(parts[_IN_FLIGHT:])
    while pending:
        (ready, *_), pending = ray.wait(pending, num_returns=1)
        kept.append(ray.get(ready))
        rows += len(kept[-1])
        if rows > _FOLD_ROWS:
            kept = [best_per_class(pd.concat(kept), count)]
            rows = len(kept[0])
        if (part := next(queue, None)) is not None:
            pending.append(cut.remote(part, rung, count, taken_ref, seed))
    chosen = best_per_class(pd.concat(kept), count)
    write_table(folder / "selection.parquet", pa.Table.from_pandas(chosen, preserve_index=False))
    _check_supply(chosen, count, num_classes)
    return {"rungs": _rung_counts(chosen, ladder, num_classes)}


def best_per_class(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The ``count`` smallest (rung, key, id) of each class, by class and then in that order."""
    ordered = rows.sort_values(["class_index", "rung", "key", "id"], kind="stable")
    return ordered[ordered.groupby("class_index").cumcount() < count]


def selected_ids(selection: Artifact, num_classes: int) -> list[list[str]]:
    """Ids of a selection by class, in the order of choice."""
    table = read_table(selection.folder / "selection.parquet")
    ids: list[list[str]] = [[] for _ in range(num_classes)]
    for label, name in zip(table["class_index"].to_pylist(), table["id"].to_pylist(), strict=True):
        ids[label].append(name)
    return ids


def random_keys(ids: np.ndarray, seed: int) -> np.ndarray:
    """uint64 [N], uniform, fixed by id and seed."""
    return pd.util.hash_array(
        ids.astype(object), hash_key=f"{seed % 10**16:016d}", categorize=False
    )


def _cut_part(
    paths: Sequence[UPath], rung: Rung, count: int, taken: np.ndarray, seed: int
) -> pd.DataFrame:
    columns = [_columns(path) for path in paths]
    ids = columns[0]["id"]
    for other in columns[1:]:
        if not np.array_equal(ids, other["id"]):
            raise RuntimeError(f"score tables are not aligned in {paths[0].name}")
    rungs = np.asarray(rung(columns), np.int8)
    free = (rungs >= 0) & ~np.isin(ids, taken)
    rows = pd.DataFrame(
        {
            "class_index": columns[0]["class_index"][free],
            "rung": rungs[free],
            "key": random_keys(ids[free], seed),
            "id": ids[free],
        }
    )
    return best_per_class(rows, count)


def _columns(path: UPath) -> dict[str, np.ndarray]:
    table = read_table(path)
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def _ids(selection: Artifact) -> np.ndarray:
    column = read_table(selection.folder / "selection.parquet", ["id"])["id"]
    return column.to_numpy(zero_copy_only=False)


def _check_supply(chosen: pd.DataFrame, count: int, num_classes: int) -> None:
    found = np.bincount(chosen["class_index"], minlength=num_classes)
    if (found < count).any():
        label = int(found.argmin())
        raise Refused(
            f"class {label} has only {found[label]} unused good images, but {count} are asked for; "
            "lower method.ipc."
        )


def _rung_counts(
    chosen: pd.DataFrame, ladder: Sequence[str], num_classes: int
) -> dict[str, list[int]]:
    return {
        name: np.bincount(
            chosen["class_index"][chosen["rung"] == i], minlength=num_classes
        ).tolist()
        for i, name in enumerate(ladder)
    }
