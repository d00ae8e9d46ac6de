"""Choose real images per class from score tables, in bounded memory, whatever their partition.

Every row gets a rung (lower is better) and, within a rung, a key. One walk through the parts of the
tables keeps the best rows of each class: a few times the rows that are asked for, however many
there are. Threads of the driver do it: reading and sorting leave Python's lock, and starting
processes that import all of this would take longer than ImageNet-21K's 14 million rows.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.cluster.threads import map_ahead
from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.engine.passes.score import ROW_BYTES as SCORE_BYTES
from raydd.engine.selection.chosen import ROW_BYTES, places, write_selection
from raydd.engine.selection.ranking import ANY, Ranking
from raydd.engine.selection.shortlist import Shortlist
from raydd.errors import Refused
from raydd.ops.describe import describe
from raydd.ops.scores import Columns
from raydd.ops.seeds import derive_seed
from raydd.store.artifacts import Artifact
from raydd.store.tables import encode_places, part_files, read_table

HELD_OUT = "validation"  # the draw of the images that no other selection takes
_SHORTLIST_BYTES, _READ_ROWS = 100, 1_000_000  # columns and an id of a row; rows read ahead
_THREADS = min(8, os.cpu_count() or 1)
_SIGN = {"simple": 1.0, "hard": -1.0}
_KEYS = ("class_index", "row")  # columns that every score table has


def select(
    engine: Engine,
    tables: Sequence[Artifact],
    ranking: Ranking,
    count: int | Sequence[int],
    used: Sequence[Artifact] = (),
    curriculum: int = 0,
    draw: str = "start",
) -> Artifact:
    """Choose the best real images of every class.

    Args:
        engine: of the run.
        tables: score tables of one source, aligned row by row.
        ranking: what best means.
        count: images per class, one number for all or one for each.
        used: earlier selections; no image is chosen twice.
        curriculum: number of the curriculum.
        draw: what the images are chosen for; names the random order of images of equal rung and
            difficulty.
    Returns:
        Artifact with the file of :mod:`.chosen`. Its summary: ``rungs``: per rung, the number
        chosen of each class; ``asked`` in all; ``chosen`` and ``candidates`` (unused images on the
        first rung) of each class; ``difficulty`` of the chosen images: quartiles and a histogram,
        None where the order is random.
    Raises:
        Refused: a class has too few images, and ``ranking.shortfall`` does not allow for it.
    """
    if engine.validation and draw != HELD_OUT:
        used = [*used, hold_out(engine, tables[0])]
    seed = derive_seed(engine.seed, "select", draw, curriculum)
    asked = np.broadcast_to(np.asarray(count, np.int64), engine.num_classes)

    def cost() -> Cost:
        rows = int(asked.sum())
        reads = len(tables) * engine.num_images * SCORE_BYTES
        return Cost(reads, rows * ROW_BYTES, (4 * rows + _READ_ROWS) * _SHORTLIST_BYTES)

    return engine.stages.run(
        "select",
        lambda folder: _choose(folder, tables, ranking, asked, used, seed),
        inputs=[*tables, *used],
        config={
            **ranking.key(),
            "count": np.asarray(count).tolist(),
            "draw": draw,
            "curriculum": curriculum,
        },
        seed=engine.seed,
        cost=cost,
        expected=lambda: {"chosen": asked.tolist()},  # every class is taken to have enough
        title=f"{draw} {curriculum}",
    )


def hold_out(engine: Engine, scores: Artifact) -> Artifact:
    """Selection of the real images that no other selection takes."""
    return select(engine, [scores], ANY, engine.validation, draw=HELD_OUT)


def _choose(
    folder: UPath,
    tables: Sequence[Artifact],
    ranking: Ranking,
    asked: np.ndarray,
    used: Sequence[Artifact],
    seed: int,
) -> dict[str, Any]:
    """Walk through the tables once; ``asked`` is int64 [C]."""
    parts = list(enumerate(zip(*(part_files(table.folder) for table in tables), strict=True)))
    shortlist, candidates = Shortlist(asked, ranking.balanced, seed), np.zeros(len(asked), int)
    taken = np.sort(np.concatenate([np.empty(0, np.int64), *(places(u.folder) for u in used)]))

    def walk(part: tuple[int, Sequence[UPath]]) -> tuple[pa.Table, np.ndarray]:
        return _walk_part(*part, ranking, shortlist, taken)

    for hopeful, found in map_ahead(walk, parts, _THREADS, 2 * _THREADS):
        shortlist.merge(hopeful)
        candidates += found
    kept = shortlist.table().drop_columns(["tie"])
    return conclude_selection(folder, kept, ranking, asked, candidates)


def _walk_part(
    number: int,
    paths: Sequence[UPath],
    ranking: Ranking,
    shortlist: Shortlist,
    taken: np.ndarray,
) -> tuple[pa.Table, np.ndarray]:
    """Rows of a part that may be chosen, and how many candidates of each class it holds."""
    tables = [read_table(path, [*_KEYS, "id", *ranking.columns]) for path in paths]
    columns = [_numbers(table) for table in tables]
    labels, rows = columns[0]["class_index"], columns[0]["row"]
    for other in columns[1:]:
        if not all(np.array_equal(columns[0][name], other[name]) for name in _KEYS):
            raise RuntimeError(f"score tables are not aligned in {paths[0].name}")
    rung = np.where(_is_in(number, rows, taken), -1, ranking.rung(columns)).astype(np.int8)
    candidates = np.bincount(labels[rung == 0], minlength=shortlist.num_classes)
    offered = {"class_index": labels, "row": rows, "rung": rung, "key": _key(ranking, columns)}
    return shortlist.hopeful(offered, tables[0]["id"], number), candidates


def _is_in(part: int, rows: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Whether rows of a part are among the taken places, which are sorted; bool [N]."""
    here = slice(*np.searchsorted(taken, encode_places(np.array([part, part + 1]), np.zeros(2))))
    return np.isin(encode_places(np.full(len(rows), part), rows), taken[here])


def _numbers(table: pa.Table) -> Columns:
    return {name: table[name].to_numpy() for name in table.column_names if name != "id"}


def _key(ranking: Ranking, columns: list[Columns]) -> np.ndarray:
    """Lower is chosen first: the difficulty, its negative, or nothing."""
    if ranking.difficulty is None or not ranking.is_ordered:
        return np.zeros(len(columns[0]["row"]))
    return _SIGN[ranking.order] * ranking.difficulty(columns).astype(np.float64)


def conclude_selection(
    folder: UPath, kept: pa.Table, ranking: Ranking, asked: np.ndarray, candidates: np.ndarray
) -> dict[str, Any]:
    """Write what was chosen.

    Args:
        folder: stage folder.
        kept: the chosen rows, by class and within a class in the order of choice: class_index,
            rung, key, part, row, id.
        ranking: names the rungs, and what happens to a class with too few images.
        asked: int64 [C], images of each class.
        candidates: int64 [C], how many there were to choose from.
    Returns:
        The summary of :func:`select`; refuses as it does.
    """
    labels, rungs = kept["class_index"].to_numpy(), kept["rung"].to_numpy()
    difficulty = kept["key"].to_numpy() * _SIGN.get(ranking.order, 1.0)
    table = kept.drop_columns(["key"]).append_column("difficulty", pa.array(difficulty))
    write_selection(folder, table)
    chosen = np.bincount(labels, minlength=len(asked))
    _check_supply(ranking, asked, chosen)
    ladder = ranking.ladder
    if ranking.spare and (rungs == len(ladder)).any():
        ladder = (*ladder, ranking.spare)
    counted = [np.bincount(labels[rungs == i], minlength=len(asked)) for i in range(len(ladder))]
    return {
        "rungs": {name: c.tolist() for name, c in zip(ladder, counted, strict=True)},
        "asked": int(asked.sum()),
        "chosen": chosen.tolist(),
        "candidates": candidates.tolist(),
        "difficulty": describe(difficulty) if ranking.is_ordered else None,
    }


def check_supply(engine: Engine, scores: Artifact, asked: int) -> None:
    """Refuse, before anything is made, what the teacher's score table shows to be short.

    Args:
        engine: of the run.
        scores: the teacher's table.
        asked: images of every class that the teacher must be right about.
    Raises:
        Refused: it is right about fewer of a class.
    """
    right = scores.summary.get("right")
    if right is None or min(right) >= asked:  # None: a plan, or a table of an earlier version
        return
    label = int(np.argmin(right))
    raise Refused(
        f"the teacher is right about {right[label]} images of class {engine.class_names[label]!r}, "
        f"but {asked} of them are asked for: lower method.ipc, set method.shortfall=easiest, or "
        "train the teacher longer."
    )


def _check_supply(ranking: Ranking, asked: np.ndarray, chosen: np.ndarray) -> None:
    short = asked - chosen if ranking.balanced else np.array([asked.sum() - chosen.sum()])
    if ranking.shortfall != "error" or not (short > 0).any():
        return
    label = int(short.argmax())
    who = f"class {label} has" if ranking.balanced else "all classes have"
    have = int(chosen[label] if ranking.balanced else chosen.sum())
    want = int(asked[label] if ranking.balanced else asked.sum())
    raise Refused(
        f"{who} only {have} images left to choose from, but {want} are asked for; lower "
        "method.ipc or, where the method has it, choose another method.shortfall."
    )
