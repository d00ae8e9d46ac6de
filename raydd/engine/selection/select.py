"""Choose real images per class from score tables, in bounded memory, whatever their partition.

Every row gets a rung (lower is better) and, within a rung, a key. One walk through the parts of the
tables keeps the best rows of each class: a few times the rows that are asked for, however many
there are. Strata need another walk before it, and some bytes for each row. Threads of the driver do
it: reading and sorting leave Python's lock, and starting processes that import all of this would
take longer than ImageNet-21K's 14 million rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.engine.passes.score import ROW_BYTES as SCORE_BYTES
from raydd.engine.selection.chosen import ROW_BYTES, write_selection
from raydd.engine.selection.ranking import ANY, Ranking
from raydd.engine.selection.shortlist import Shortlist, hash_ids
from raydd.engine.selection.strata import Strata, order, plan_strata
from raydd.engine.selection.walk import SIGN, Offer, Walk
from raydd.errors import Refused
from raydd.ops.describe import describe
from raydd.ops.seeds import derive_seed
from raydd.store.artifacts import Artifact

HELD_OUT = "validation"  # the draw of the images that no other selection takes
_SHORTLIST_BYTES, _READ_ROWS = 100, 1_000_000  # columns and an id of a row; rows read ahead
_STRATA_BYTES = 40  # of every candidate: its place, its class, and their order


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
        memory: float = (4 * rows + _READ_ROWS) * _SHORTLIST_BYTES
        if ranking.order == "stratified":
            reads, memory = 2 * reads, memory + engine.num_images * _STRATA_BYTES
        return Cost(reads, rows * ROW_BYTES, memory)

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
    """Walk through the tables once, or twice for strata; ``asked`` is int64 [C]."""
    walk, candidates = Walk(tables, ranking, used), np.zeros(len(asked), int)
    strata = _strata(walk, asked, seed) if ranking.order == "stratified" else None
    shortlist = Shortlist(asked, ranking.balanced, seed, strata)

    def work(offer: Offer) -> tuple[pa.Table, np.ndarray]:
        columns = offer.columns
        labels, rung = columns["class_index"], columns["rung"]
        if strata:
            kept = strata.keeps(labels, _order(offer, seed))
            rung = np.where(kept, rung, -1).astype(np.int8)
        found = np.bincount(labels[rung == 0], minlength=len(asked))
        return shortlist.hopeful(columns | {"rung": rung}, offer.ids, offer.part), found

    for hopeful, found in walk.each(work):
        shortlist.merge(hopeful)
        candidates += found
    kept = shortlist.table().drop_columns(["tie"])
    return conclude_selection(folder, kept, ranking, asked, candidates)


def _strata(walk: Walk, asked: np.ndarray, seed: int) -> Strata:
    """Where the strata of the candidates lie; the difficulties of all of them are held."""
    ranking = walk.ranking

    def work(offer: Offer) -> tuple[np.ndarray, np.ndarray]:
        candidates = np.flatnonzero(offer.columns["rung"] == 0)
        labels = offer.columns["class_index"][candidates if ranking.balanced else slice(0)]
        return _order(offer, seed)[candidates], labels

    order, labels = (np.concatenate(column) for column in zip(*walk.each(work), strict=True))
    return plan_strata(order, labels, asked, ranking.balanced, ranking.strata, ranking.hard_cutoff)


def _order(offer: Offer, seed: int) -> np.ndarray:
    """Places of rows by difficulty; the hash is not that of the draw, which would favour some."""
    ties = hash_ids(offer.ids.combine_chunks(), derive_seed(seed, "cutoff"))
    return order(offer.columns["key"], ties)


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
    difficulty = kept["key"].to_numpy() * SIGN.get(ranking.order, 1.0)
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
    knob = "method.hard_cutoff, method.ipc" if ranking.order == "stratified" else "method.ipc"
    raise Refused(
        f"{who} only {have} images left to choose from, but {want} are asked for; lower "
        f"{knob} or, where the method has it, choose another method.shortfall."
    )
