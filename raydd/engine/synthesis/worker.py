"""What a worker of the stage ``synthesize`` is told, and does with a unit."""

import time
from dataclasses import dataclass
from typing import Protocol

import torch
from upath import UPath

from raydd.data.rows import Reader
from raydd.engine.synthesis.advance import Objective, Recording
from raydd.engine.synthesis.loop import LoopConfig, Recovery
from raydd.store.images import pick_pixels
from raydd.store.journal import Journal
from raydd.store.tables import write_table
from raydd.store.units import PART, Unit, unit_table


class NetworkNames(Protocol):
    """Names the networks of an objective; picklable, the networks are loaded by the workers."""

    def objective(self, device: str) -> Objective:
        """Load the networks and bind them to their loss terms."""


@dataclass(frozen=True)
class SynthesizeJob:
    """Everything a worker needs; picklable.

    Attributes:
        folder: stage folder.
        curriculum: number of the curriculum.
        networks: what the images are optimised for.
        config: the loop's constants.
        start_images: folder of the images that the optimisation starts from, where they are not
            real ones.
        reader: fetches real start images; its preprocessing is that of the networks.
        seed: run seed.
        journal: path of ``metrics.jsonl``.
        device: ``cpu`` or ``cuda``.
        capture: whether steps are recorded on a GPU, see :class:`.advance.Recording`.
    """

    folder: str
    curriculum: int
    networks: NetworkNames
    config: LoopConfig
    start_images: str | None
    reader: Reader
    seed: int
    journal: str | None
    device: str
    capture: str = "auto"


class Synthesizer:
    """The networks of a worker; optimises a unit's images and writes them."""

    def __init__(self, job: SynthesizeJob) -> None:
        self.job, self.journal = job, Journal(job.journal)
        preprocessing = job.reader.preprocessing
        self.recovery = Recovery(
            job.networks.objective(job.device),
            job.config,
            preprocessing.mean,
            preprocessing.std,
            preprocessing.resolution,
            job.device,
            Recording(job.capture, lambda message: self.journal.log("capture", note=message)),
        )

    def __call__(self, unit: Unit) -> None:
        """See :func:`raydd.cluster.pool.run_units`."""
        job, labels, started = self.job, torch.tensor(unit.labels), time.perf_counter()
        draws = (job.seed, "synthesize", job.curriculum, unit.name)

        def beat(step: int, loss: torch.Tensor) -> None:
            told = {"counts": "step", "unit": unit.name, "loss": loss}
            self.journal.beat("synthesize", step, job.config.steps, **told)

        recovered = self.recovery.run(_start_images(job, unit), labels, draws, beat)
        write_table(
            PART.path(job.folder, unit.name), unit_table(unit, recovered.images, job.curriculum)
        )
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
        side = job.reader.preprocessing.resolution
        return pick_pixels(UPath(job.start_images), unit.labels, unit.slots, side)
    if not unit.start_ids:
        return None
    return torch.from_numpy(job.reader.fetch(unit.start_ids)).permute(0, 3, 1, 2).contiguous()
