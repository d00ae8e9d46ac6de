"""Stage ``crop``: images tiled from the crops of real images that an observer is surest of.

RDED (arXiv 2312.03526), without its training: crops of a pool of images of every class are scored
with the observer's cross-entropy, the best crop of each image competes, and f x f of the winners
make an image. Differs from the paper: crops are cut from the centre crop of the image at f times
the resolution, and pixels are rounded instead of truncated.

A unit is a block of classes. Every class is drawn, scored and tiled by itself, so that its images
depend neither on the worker nor on the classes beside it; a finished unit is a file and is never
redone. ``cells/`` names, for every cell, the real image and the box that it was cut from.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from upath import UPath

from raydd.cluster.pool import run_units
from raydd.data.classes import check_class_order
from raydd.data.rows import Reader
from raydd.engine.cost import Cost, asking_memory, asking_work, models_of
from raydd.engine.engine import Engine
from raydd.engine.selection.chosen import SelectedIds
from raydd.engine.synthesis.tiles import Block, CropConfig, CropJob, Observer, crop_class
from raydd.errors import Refused
from raydd.models.registry import create_meta_model
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import CheckpointCard
from raydd.store.journal import Journal
from raydd.store.tables import read_table, write_table
from raydd.store.units import PART


def crop(
    engine: Engine, selection: Artifact, observer: Artifact, config: CropConfig, ipc: int
) -> Artifact:
    """Make images of crops of real ones; the same bytes for any number of workers.

    Args:
        engine: of the run.
        selection: the pool of every class, in random order or any other.
        observer: checkpoint of a network for the classes of the source; it scores the crops.
        config: how crops are drawn, scored and tiled.
        ipc: images per class.
    Returns:
        Artifact with ``parts/*.parquet`` as ``synthesize`` leaves them, ids of a tiled image joined
        by "|", and ``cells/*.parquet`` of the same names: class_index, slot, cell, id, box (top,
        left, height, width as fractions of the image decoded at f times the size) and loss. Class c
        lies in the file of class c - c % ``block``.
    Raises:
        Refused: a class has too few images, or the observer does not fit.
    """
    job = CropJob(
        folder="",
        pool=str(selection.folder),
        observer=str(observer.folder),
        config=config,
        ipc=ipc,
        reader=Reader(engine.train_source, engine.preprocessing, engine.data.max_pixels),
        seed=engine.seed,
        journal=engine.journal,
        device=engine.resources.device,
    )
    _check_observer(job, engine.card(observer))
    _check_pool(job, selection.summary["chosen"])
    summary = {"slots": [0, ipc], "counts": [ipc] * engine.num_classes, "block": config.block}

    def work(folder: UPath) -> dict[str, Any]:
        for name in ("parts", "cells"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        own = replace(job, folder=str(folder), decoders=engine.resources.count_decoders_each())
        run_units(Cropper, own, PART.left(folder, job.units), engine.resources)
        return {"curriculum": 0, **summary, "loss": _mean_loss(folder, job.units)}

    size = [engine.preprocessing.resolution, engine.preprocessing.resize]
    return engine.stages.run(
        "crop",
        work,
        inputs=[selection, observer],
        config={"crop": config, "ipc": ipc, "size": size},
        seed=engine.seed,
        cost=lambda: _cost(engine, selection, observer, job),
        expected=lambda: summary,
        title=f"{config.tiles} x {config.tiles} tiles",
        units=len(job.units),
        done=[PART],
    )


def _cost(engine: Engine, selection: Artifact, observer: Artifact, job: CropJob) -> Cost:
    config, chosen, models = job.config, selection.summary["chosen"], models_of(engine, observer)
    pool = sum(chosen)
    memory = asking_memory(engine, observer, config.batch)
    return Cost(
        reads=engine.encoded_bytes(pool),
        writes=engine.num_classes * job.ipc * engine.pixel_bytes,
        memory=memory + max(chosen) * config.tiles**2 * engine.pixel_bytes,
        work=asking_work(engine, models, pool * config.crops, config.batch, "float32"),
        decodes=pool,
        fetches=pool,
        divides="units",
    )


class Cropper:
    """The observer and the pool of a worker; makes the images of a unit's classes."""

    def __init__(self, job: CropJob) -> None:
        self.job, self.journal, self.observer = job, Journal(job.journal), Observer(job)
        self.pool = SelectedIds(UPath(job.pool), len(job.class_names))

    def __call__(self, unit: Block) -> None:
        """See :func:`raydd.cluster.pool.run_units`."""
        job = self.job
        made = [crop_class(job, self.observer, c, self.pool[c]) for c in unit.classes]
        cells = pa.concat_tables(table for _, table in made)
        # cells first: a part file says that the unit is finished
        write_table(UPath(job.folder) / "cells" / f"{unit.name}.parquet", cells)
        write_table(PART.path(job.folder, unit.name), pa.concat_tables(table for table, _ in made))
        self.journal.log("crop", unit=unit.name, loss=pc.mean(cells["loss"]).as_py())


def _check_pool(job: CropJob, chosen: Sequence[int]) -> None:
    label = int(np.argmin(chosen))
    if chosen[label] < job.num_crops:
        f = job.config.tiles
        raise Refused(
            f"Class {label} ({job.class_names[label]}) has a pool of {chosen[label]} images,"
            f" but ipc={job.ipc} with {f} x {f} tiles needs {job.num_crops}, one per crop; lower "
            "ipc or tiles, or raise pool where the class has more images."
        )


def _check_observer(job: CropJob, card: CheckpointCard) -> None:
    """The observer knows these classes and takes images of the side that it will see."""
    side, f = job.reader.preprocessing.resolution, job.config.tiles
    if side % f:
        raise Refused(f"{f} x {f} tiles do not divide {side} pixels evenly; change tiles.")
    try:
        check_class_order(job.class_names, card.class_names, "the observer")
    except ValueError as error:
        raise Refused(str(error)) from error
    seen = job.cell_side if job.config.score_view == "native" else side
    built = card.preprocessing.resolution
    for model in (card.model, *card.others):
        network = create_meta_model(model, len(card.class_names), built).eval()
        try:
            network(torch.empty(1, 3, seen, seen, device="meta"))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise Refused(
                f"{model.name} was built for {built} pixels and cannot be shown {seen}; choose "
                "score_view=padded or upsampled, or another observer."
            ) from error


def _mean_loss(folder: UPath, units: Sequence[Block]) -> float:
    """Mean over all cells; every class has equally many."""
    files = [read_table(folder / "cells" / f"{unit.name}.parquet", ["loss"]) for unit in units]
    return float(pc.mean(pa.concat_tables(files)["loss"]).as_py())
