"""Stage ``herd``: of each class the real images whose mean features stay nearest to the class's.

The selection has the files and the summary of :func:`raydd.engine.selection.select.select`. A unit
is a block of classes whose candidates' features fit in memory; classes know nothing of each other,
so neither the blocks nor the workers change what is picked. A block reads the features of those
parts only that hold images of its classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.cluster.tasks import run_many
from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.engine.passes.embed import DTYPE, read_features
from raydd.engine.selection.ranking import ANY, Ranking
from raydd.engine.selection.select import conclude_selection
from raydd.engine.selection.shortlist import Shortlist
from raydd.ops import herding
from raydd.ops.seeds import derive_seed
from raydd.store.artifacts import Artifact
from raydd.store.tables import part_files, read_table, write_table
from raydd.store.units import Marker

_BLOCKS = Marker("blocks/{}.parquet")
_RANKING = Ranking(("herding",), ANY.rung, columns=())


@dataclass
class HerdingConfig:
    """Which images are candidates.

    Attributes:
        candidates: images of a class that are drawn to choose from, never fewer than are chosen;
            their mean stands for the class's. 0 takes all.
        memory_mb: features that a task holds at once, MiB; a single class may exceed it.
    """

    candidates: int = 0
    memory_mb: float = 500.0

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        if self.candidates < 0 or self.memory_mb <= 0:
            raise ValueError("candidates must be at least 0 and memory_mb above 0")


def herd(
    engine: Engine,
    embedding: Artifact,
    count: int | Sequence[int],
    config: HerdingConfig,
    title: str,
) -> Artifact:
    """Choose images of every class by herding.

    Args:
        engine: of the run; its seed draws the candidates.
        embedding: of :func:`raydd.engine.passes.embed.embed`.
        count: images per class, one number for all or one for each.
        config: candidates and memory.
        title: what the progress line says.
    Returns:
        Artifact as of a selection; the column ``difficulty`` is the distance of the picks' mean to
        the class's after each pick (features have unit length). Images of equal worth are taken by
        id.
    Raises:
        Refused: a class has too few images.
    """
    sizes = np.array(embedding.summary["counts"], np.int64)
    asked = np.broadcast_to(np.asarray(count, np.int64), len(sizes))
    supply = np.minimum(sizes, np.maximum(config.candidates, asked)) if config.candidates else sizes
    width, seed = embedding.summary["width"], derive_seed(engine.seed, "herd")
    features = supply * width * DTYPE.itemsize
    blocks = plan_blocks(features, int(config.memory_mb * 2**20))

    def work(folder: UPath) -> dict[str, Any]:
        (folder / "blocks").mkdir(parents=True, exist_ok=True)
        paths = [_BLOCKS.path(folder, f"{block.start:05d}") for block in blocks]
        jobs = [
            _Job(str(path), str(embedding.folder), width, block, supply, asked, seed)
            for path, block in zip(paths, blocks, strict=True)
            if not path.exists()
        ]
        run_many(_herd_block, jobs, engine.resources, on_cpu=True)
        kept = pa.concat_tables(map(read_table, paths))
        return conclude_selection(folder, kept, _RANKING, asked, sizes)

    return engine.stages.run(
        "herd",
        work,
        inputs=[embedding],
        config={**asdict(config), "count": asked.tolist()},
        seed=engine.seed if config.candidates else 0,
        cost=lambda: Cost(reads=int(features.sum()), memory=config.memory_mb * 2**20),
        expected=lambda: {"chosen": asked.tolist()},
        title=title,
        units=len(blocks),
        done=[_BLOCKS],
    )


def plan_blocks(sizes: np.ndarray, limit: int) -> list[range]:
    """Cut classes into runs whose sizes add up to at most the limit.

    Args:
        sizes: int64 [C], bytes of each class.
        limit: bytes; a class above it is a block of its own.
    """
    blocks, first, total = [], 0, 0
    for label, size in enumerate(sizes.tolist()):
        if label > first and total + size > limit:
            blocks.append(range(first, label))
            first, total = label, 0
        total += size
    return [*blocks, range(first, len(sizes))]


@dataclass(frozen=True)
class _Job:
    """One block of classes; ``path`` is its file, ``supply`` and ``asked`` are int64 [C]."""

    path: str
    embedding: str
    width: int
    classes: range
    supply: np.ndarray
    asked: np.ndarray
    seed: int


def _herd_block(job: _Job) -> dict[str, Any]:
    """Pick the images of a block's classes."""
    path = UPath(job.path)
    paths = part_files(UPath(job.embedding))
    candidates = _candidates(job, paths).sort_by(
        [("class_index", "ascending"), ("id", "ascending")]  # ties go to the first
    )
    features = _features(job, paths, candidates)
    edges = np.searchsorted(
        candidates["class_index"].to_numpy(), range(job.classes.start, job.classes.stop + 1)
    )
    chosen, distances = [np.empty(0, np.int64)], [np.empty(0)]
    for label, first, stop in zip(job.classes, edges[:-1], edges[1:], strict=True):
        picks, distance = herding.herd(features[first:stop], int(job.asked[label]))
        chosen.append(first + picks)
        distances.append(distance)
    table = candidates.take(pa.array(np.concatenate(chosen)))
    key = table.schema.get_field_index("key")
    write_table(path, table.set_column(key, "key", pa.array(np.concatenate(distances))))
    return {}


def _candidates(job: _Job, paths: Sequence[UPath]) -> pa.Table:
    """Places and ids of the block's candidates: all images of its classes, or a draw."""
    supply = np.zeros_like(job.supply)
    supply[job.classes.start : job.classes.stop] = job.supply[job.classes.start : job.classes.stop]
    shortlist = Shortlist(supply, balanced=True, seed=job.seed)
    for part, path in enumerate(paths):
        labels = read_table(path, ["class_index"])["class_index"].to_numpy()
        mine = np.flatnonzero((labels >= job.classes.start) & (labels < job.classes.stop))
        if len(mine):
            rows = read_table(path, ["row", "id"]).take(mine)
            columns = {
                "class_index": labels[mine],
                "row": rows["row"].to_numpy(),
                "rung": np.zeros(len(mine), np.int8),
                "key": np.zeros(len(mine)),
            }
            shortlist.merge(shortlist.hopeful(columns, rows["id"], part))
    return shortlist.table().drop_columns(["tie"])


def _features(job: _Job, paths: Sequence[UPath], candidates: pa.Table) -> np.ndarray:
    """Features of the candidates in their order, float16 [N, D], a part at a time."""
    features = np.empty((candidates.num_rows, job.width), DTYPE)
    parts, rows = candidates["part"].to_numpy(), candidates["row"].to_numpy()
    order = np.argsort(parts, kind="stable")
    for part in np.unique(parts).tolist():
        here = order[slice(*np.searchsorted(parts[order], [part, part + 1]))]
        features[here] = read_features(paths[part], rows[here], job.width)
    return features
