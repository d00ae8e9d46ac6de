"""Stage ``leak``: does a distilled set hold copies of real training images?

For each distilled image (or a draw of them) the nearest real training image of its class is found,
in one pass over the real set, which is decoded once for all stages where it fits in memory; each
batch keeps the nearest of its own, the parts of the pass are folded at the end. The same is
measured for real test images: as near as they come to training images, two real images of a class
are anyhow. A set of real images is one of copies.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from upath import UPath

from raydd.data.images import shrink
from raydd.data.rows import pixel_array
from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.engine.passes.decode import decode_test, stored_images
from raydd.engine.passes.stored import StoredJob, ask_stored
from raydd.engine.passes.stream import map_pass
from raydd.judge.leak_pass import Comparison, comparing
from raydd.ops.configs import check_at_least_one
from raydd.ops.describe import describe
from raydd.store.artifacts import Artifact
from raydd.store.images import draw_rows
from raydd.store.tables import part_files, read_table
from raydd.store.units import PART

_STORED_ROWS = 1024  # that are compared at once: all queries become floating-point numbers for them
_NAMES = ("class_index", "slot", "curriculum", "id")


@dataclass
class LeakConfig:
    """How copies of real images are looked for.

    Attributes:
        images: distilled images that are drawn, and test images to compare them with.
        threshold: a nearer real image makes an image a copy; root mean square of the differences
            of all values, pixels in [0, 1].
        side: larger images are compared at this side, pixels: what is finer makes no difference.
        listed: how many of the nearest pairs are named.
    """

    images: int = 2000
    threshold: float = 1 / 255
    side: int = 32
    listed: int = 10

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_at_least_one(self, "images", "side", "listed")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], got {self.threshold}")


def check_leaks(
    engine: Engine, images: Sequence[Artifact], config: LeakConfig, title: str
) -> Artifact:
    """Find the nearest real training image of each distilled image.

    Args:
        engine: of the run; its seed draws the images.
        images: image artifacts, at its resolution.
        config: how many are compared, and how.
        title: what the progress line says.
    Returns:
        Artifact with the summary::

            {"images": distilled images looked at, "copies": of them, "distances": see
             :func:`raydd.ops.describe.describe`,
             "test": the same three of real test images,
             "nearest": [{"class_index", "slot", "curriculum", "id" (of the real image it started
                          from or is), "nearest_id", "distance"}]}  # nearest pairs first

        Distances are root mean squares, pixels in [0, 1]; images whose class has no real training
        image have none.
    """
    test, preprocessing, data = decode_test(engine), engine.preprocessing, engine.data
    side, stored = min(config.side, preprocessing.resolution), stored_images(engine, preprocessing)

    def work(folder: UPath) -> dict[str, Any]:
        size = preprocessing.resolution, side
        drawn, names = _draw([i.folder for i in images], *size, config, engine.seed)
        tests, test_names = _draw([test.folder], *size, config, engine.seed)
        queries = np.concatenate([drawn, tests])
        labels = np.concatenate([names["class_index"], test_names["class_index"]])
        comparison = Comparison(queries, labels, preprocessing, data.max_pixels, side)
        _pass(engine, folder, stored, comparison)
        near, ids = _fold(folder, len(labels), queries.shape[1])
        ours, theirs = near[: len(drawn)], near[len(drawn) :]
        nearest = _pairs(names, ours, ids[: len(drawn)], config.listed)
        figures = _figures(ours, config.threshold)
        return {**figures, "test": _figures(theirs, config.threshold), "nearest": nearest}

    def cost() -> Cost:
        count = engine.num_images
        reads = count * engine.pixel_bytes if stored else engine.encoded_bytes(count)
        return Cost(reads=reads, decodes=0 if stored else count, divides="tasks")

    return engine.stages.run(
        "leak",
        work,
        inputs=[*images, test, engine.train_source.fingerprint],
        config={
            **asdict(config),
            "size": [preprocessing.resolution, preprocessing.resize],
            "max_pixels": data.max_pixels,
        },
        seed=engine.seed,
        cost=cost,
        expected=dict,
        title=title,
        units=len(engine.train_source.shards()),
        done=[PART],
    )


def _pass(engine: Engine, folder: UPath, stored: Artifact | None, comparison: Comparison) -> None:
    """Leave for every real image the queries that it is nearest to in its batch."""
    source, data = engine.train_source, engine.data
    if stored:
        names = str(folder), str(stored.folder)
        job = StoredJob(*names, comparing, (comparison,), _STORED_ROWS, on_cpu=True)
        ask_stored(engine, job, data.max_rejected)
    else:
        work = comparison.compare
        map_pass(folder, source, work, data.max_rejected, images=engine.num_images)


def _draw(
    folders: Sequence[UPath], resolution: int, side: int, config: LeakConfig, seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Reduced pixels uint8 [M, P] of drawn images, and what their rows say about them."""
    pixels = [np.empty((0, side * side * 3), np.uint8)]
    names: list[dict[str, np.ndarray]] = []
    for _, table in draw_rows(folders, config.images, seed, "leak"):
        small = shrink(pixel_array(table["pixels"], resolution), side)
        pixels.append(small.reshape(len(small), -1))
        present = [name for name in _NAMES if name in table.column_names]  # a test has no slots
        names.append({n: table[n].to_numpy() for n in present})
    joined = {name: np.concatenate([part[name] for part in names]) for name in names[0]}
    return np.concatenate(pixels), joined


def _fold(folder: UPath, count: int, values: int) -> tuple[np.ndarray, np.ndarray]:
    """Distance [M] to the nearest real image, inf where there is none, and its id [M]."""
    best = np.full(count, np.iinfo(np.int64).max)
    ids = np.full(count, "", object)
    for path in part_files(folder):
        table = read_table(path, ["id", "queries", "squares"])
        table = table.filter(pc.greater(pc.list_value_length(table["queries"]), 0))
        lengths = pc.list_value_length(table["queries"]).to_numpy()
        names = np.repeat(table["id"].to_numpy().astype(object), lengths)
        queries = pc.list_flatten(table["queries"]).to_numpy()
        squares = pc.list_flatten(table["squares"]).to_numpy()
        order = np.lexsort((names.astype(str), squares, queries))
        queries, first = np.unique(queries[order], return_index=True)
        squares, names = squares[order][first], names[order][first]
        nearer = squares < best[queries]
        nearer |= (squares == best[queries]) & (names < ids[queries])
        best[queries[nearer]], ids[queries[nearer]] = squares[nearer], names[nearer]
    known = best < np.iinfo(np.int64).max
    return np.where(known, np.sqrt(best / values) / 255, np.inf), ids


def _figures(distances: np.ndarray, threshold: float) -> dict[str, Any]:
    return {
        "images": len(distances),
        "copies": int((distances < threshold).sum()),
        "distances": describe(distances),
    }


def _pairs(
    names: dict[str, np.ndarray], distances: np.ndarray, ids: np.ndarray, listed: int
) -> list[dict[str, Any]]:
    """The nearest pairs, nearest first."""
    order = np.argsort(distances, kind="stable")[:listed]
    return [
        {
            **{name: names[name][i : i + 1].tolist()[0] for name in _NAMES},
            "nearest_id": ids[i],
            "distance": float(distances[i]),
        }
        for i in order[np.isfinite(distances[order])]
    ]
