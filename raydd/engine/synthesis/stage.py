"""Stage ``synthesize``: the recover loop on every unit, on any number of workers.

A unit is a block of slots times a block of classes, one optimisation batch. Units are independent
and fixed by the configuration alone, so the images are the same for any number of workers; a
finished unit is a file and is never redone.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from upath import UPath

from raydd.cluster.connect import Resources
from raydd.cluster.pool import run_units
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import fetch_pixels
from raydd.data.sources import Source
from raydd.engine.synthesis.loop import LoopConfig, Objective, Recovery
from raydd.store.artifacts import Artifact, Stages
from raydd.store.images import pick_pixels
from raydd.store.journal import Journal
from raydd.store.tables import count_parts, write_table
from raydd.store.units import Unit, unfinished, unit_path, unit_table


class Networks(Protocol):
    """Names the networks of an objective; picklable, the networks are loaded by the workers."""

    def objective(self, device: str) -> Objective:
        """Load the networks and bind them to their loss terms."""


@dataclass(frozen=True)
class SynthesizeJob:
    """Everything a worker needs; picklable.

    Attributes:
        folder: stage folder.
        units: all units of the stage.
        curriculum: number of the curriculum.
        networks: what the images are optimised for.
        preprocessing: of the networks.
        config: the loop's constants.
        start_images: folder of the images that the optimisation starts from, where they are not
            real ones.
        source: where start images are fetched from.
        max_pixels: cap of the decoder, the one that the images were scored under.
        seed: run seed.
        journal: path of ``metrics.jsonl``.
        device: ``cpu`` or ``cuda``.
    """

    folder: str
    units: tuple[Unit, ...]
    curriculum: int
    networks: Networks
    preprocessing: Preprocessing
    config: LoopConfig
    start_images: str | None
    source: Source
    max_pixels: int
    seed: int
    journal: str | None
    device: str


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
        own = replace(job, folder=str(folder), units=())
        run_units(Synthesizer, own, unfinished(folder, job.units), resources)
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


class Synthesizer:
    """The networks of a worker; optimises a unit's images and writes them."""

    def __init__(self, job: SynthesizeJob) -> None:
        self.job, self.journal = job, Journal(job.journal)
        preprocessing = job.preprocessing
        self.recovery = Recovery(
            job.networks.objective(job.device),
            job.config,
            preprocessing.mean,
            preprocessing.std,
            preprocessing.resolution,
            job.device,
        )

    def __call__(self, unit: Unit) -> None:
        """See :func:`raydd.cluster.pool.run_units`."""
        job, labels, started = self.job, torch.tensor(unit.labels), time.perf_counter()
        draws = (job.seed, "synthesize", job.curriculum, unit.name)
        recovered = self.recovery.run(_start_images(job, unit), labels, draws)
        write_table(unit_path(job.folder, unit), unit_table(unit, recovered.images, job.curriculum))
        self.journal.log(
            "synthesize",
            curriculum=job.curriculum,
            unit=unit.name,
            first=recovered.first,
            last=recovered.last,
            seconds=time.perf_counter() - started,
        )


def _start_images(job: SynthesizeJob, unit: Unit) -> torch.Tensor | None:
    """Start images uint8 [B, 3, R, R]; None for a noise start."""
    if job.start_images:
        side = job.preprocessing.resolution
        return pick_pixels(UPath(job.start_images), unit.labels, unit.slots, side)
    if not unit.start_ids:
        return None
    pixels = fetch_pixels(job.source, unit.start_ids, job.preprocessing, job.max_pixels)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
