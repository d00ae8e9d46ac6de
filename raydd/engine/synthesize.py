"""Stage ``synthesize``: the recover loop on every unit, under Ray Train on any number of workers.

A unit is a block of slots times a block of classes: as many classes as fit a batch, and as many
slots as still fit when there are few classes. Units are independent and fixed by the configuration
alone, so the images are the same for any number of workers; a finished unit is a file and is never
redone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from upath import UPath

from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import fetch_pixels, image_table
from raydd.data.sources import Source
from raydd.engine.checkpoint import load_checkpoint
from raydd.engine.cluster import Resources
from raydd.engine.fit import fit, rank_and_world
from raydd.engine.journal import Journal
from raydd.engine.recover import Recovery, SynthesisConfig
from raydd.engine.stages import Artifact, Stages
from raydd.engine.stream import count_parts, write_table
from raydd.engine.units import unfinished, unit_path


@dataclass(frozen=True)
class Unit:
    """One optimisation batch.

    Attributes:
        name: names the file; fixes every random draw.
        slots: slot of each image.
        labels: class of each image.
        start_ids: id of the real image that each image starts from; empty for a noise start.
    """

    name: str
    slots: tuple[int, ...]
    labels: tuple[int, ...]
    start_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class SynthesizeJob:
    """Everything a worker needs; picklable.

    Attributes:
        folder: stage folder.
        units: all units of the stage.
        curriculum: number of the curriculum.
        teacher: checkpoint folder.
        student: checkpoint folder of the adversary, or None.
        config: the loop's constants.
        source: where start images are fetched from.
        max_pixels: cap of the decoder, the one that the images were scored under.
        seed: run seed.
        journal: path of ``metrics.jsonl``.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads of a worker.
    """

    folder: str
    units: tuple[Unit, ...]
    curriculum: int
    teacher: str
    student: str | None
    config: SynthesisConfig
    source: Source
    max_pixels: int
    seed: int
    journal: str | None
    device: str
    threads: int


def plan_units(
    num_classes: int, slots: range, batch_size: int, start_ids: Sequence[Sequence[str]] | None
) -> tuple[Unit, ...]:
    """Cut a curriculum into optimisation batches.

    Args:
        num_classes: C.
        slots: the curriculum's slots.
        batch_size: B; a batch holds min(B, C) classes and floor(B / that) slots.
        start_ids: per class, one id per slot of the curriculum; None for a noise start.
    """
    block = min(batch_size, num_classes)
    depth = max(1, batch_size // block)
    units = []
    for first_slot in range(slots.start, slots.stop, depth):
        for first_class in range(0, num_classes, block):
            pairs = [
                (slot, label)
                for slot in range(first_slot, min(first_slot + depth, slots.stop))
                for label in range(first_class, min(first_class + block, num_classes))
            ]
            ids = (
                [start_ids[label][slot - slots.start] for slot, label in pairs] if start_ids else []
            )
            units.append(
                Unit(
                    f"slot{first_slot:05d}-class{first_class:05d}",
                    tuple(slot for slot, _ in pairs),
                    tuple(label for _, label in pairs),
                    tuple(ids),
                )
            )
    return tuple(units)


def synthesize_images(
    stages: Stages,
    job: SynthesizeJob,
    slots: range,
    inputs: Sequence[Artifact],
    resources: Resources,
    seed: int,
) -> Artifact:
    """Optimise one curriculum's images as a stage; the same bytes for any number of workers.

    Args:
        stages: where the images are kept.
        job: units, networks and constants; its folder is filled in here.
        slots: of the curriculum.
        inputs: start selection, teacher and student, as far as there are any.
        resources: workers and devices.
        seed: run seed.
    """
    ends = [slots.start, slots.stop]

    def work(folder: UPath) -> dict[str, Any]:
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        fit(synthesize_worker, {"job": replace(job, folder=str(folder))}, resources, folder)
        labels = [label for unit in job.units for label in unit.labels]
        counts = np.bincount(labels).tolist()
        return {"curriculum": job.curriculum, "slots": ends, "counts": counts}

    return stages.run(
        "synthesize",
        work,
        inputs=inputs,
        config={"synthesis": asdict(job.config), "slots": ends, "curriculum": job.curriculum},
        seed=seed,
        title=f"curriculum {job.curriculum + 1}",
        units=len(job.units),
        count_done=count_parts,
    )


def synthesize_worker(arguments: dict[str, Any]) -> None:
    """Loop of Ray Train: this rank's unfinished units, one after another."""
    job: SynthesizeJob = arguments["job"]
    rank, world = rank_and_world()
    torch.set_num_threads(job.threads)
    todo = unfinished(job.folder, job.units, rank, world)
    if not todo:
        return
    teacher, card = load_checkpoint(UPath(job.teacher))
    student = load_checkpoint(UPath(job.student))[0] if job.student else None
    preprocessing = card.preprocessing
    recovery = Recovery(
        teacher,
        student,
        job.config,
        preprocessing.mean,
        preprocessing.std,
        preprocessing.resolution,
        job.device,
    )
    journal = Journal(job.journal)
    for unit in todo:
        start = _start_images(job, unit, preprocessing) if unit.start_ids else None
        recovered = recovery.run(
            start, torch.tensor(unit.labels), (job.seed, "synthesize", job.curriculum, unit.name)
        )
        write_table(
            unit_path(job.folder, unit), _unit_table(unit, recovered.images, job.curriculum)
        )
        journal.log(
            "synthesize",
            curriculum=job.curriculum,
            unit=unit.name,
            first=recovered.first,
            last=recovered.last,
        )


def _start_images(job: SynthesizeJob, unit: Unit, preprocessing: Preprocessing) -> torch.Tensor:
    pixels = fetch_pixels(job.source, unit.start_ids, preprocessing, job.max_pixels)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _unit_table(unit: Unit, images: torch.Tensor, curriculum: int) -> pa.Table:
    return image_table(
        images.permute(0, 2, 3, 1).numpy(),
        unit.labels,
        unit.slots,
        curriculum,
        unit.start_ids or [None] * len(unit.labels),
        "synthetic",
    )
