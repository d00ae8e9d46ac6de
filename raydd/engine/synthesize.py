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

from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import fetch_pixels
from raydd.data.sources import Source
from raydd.engine.checkpoint import load_checkpoint
from raydd.engine.cluster import Resources
from raydd.engine.journal import Journal
from raydd.engine.objective import Objective
from raydd.engine.observer_objective import ObserverObjective
from raydd.engine.pixels import pick_pixels
from raydd.engine.pool import run_units
from raydd.engine.recover import Recovery
from raydd.engine.recover_config import LoopConfig, MatchConfig, SynthesisConfig
from raydd.engine.stages import Artifact, Stages
from raydd.engine.statistics import read_targets
from raydd.engine.tables import count_parts, write_table
from raydd.engine.teacher_objective import TeacherObjective
from raydd.engine.units import Unit, unfinished, unit_path, unit_table


class Networks(Protocol):
    """Names the networks of an objective; picklable, the networks are loaded by the workers."""

    def objective(self, device: str) -> Objective:
        """Load the networks and bind them to their loss terms."""


@dataclass(frozen=True)
class TeacherNetworks:
    """A teacher and, maybe, an adversary.

    Attributes:
        teacher: checkpoint folder.
        student: checkpoint folder of the adversary, or None.
        config: weights of the terms.
    """

    teacher: str
    student: str | None
    config: SynthesisConfig

    def objective(self, device: str) -> Objective:
        """See :class:`Networks`."""
        teacher, _ = load_checkpoint(UPath(self.teacher))
        student = load_checkpoint(UPath(self.student))[0] if self.student else None
        return TeacherObjective(teacher, student, self.config, device)


@dataclass(frozen=True)
class ObserverNetworks:
    """Many observers and the statistics that they are asked to see again.

    Attributes:
        observers: checkpoint folders.
        statistics: folder of the statistics stage.
        num_layers: layers of each observer that the statistics know.
        num_classes: C.
        patch: side of a tile, pixels.
        config: weights of the terms.
    """

    observers: tuple[str, ...]
    statistics: str
    num_layers: tuple[int, ...]
    num_classes: int
    patch: int
    config: MatchConfig

    def objective(self, device: str) -> Objective:
        """See :class:`Networks`."""
        loaded = [load_checkpoint(UPath(folder)) for folder in self.observers]
        resolution = loaded[0][1].preprocessing.resolution
        networks = [network for network, _ in loaded]
        return ObserverObjective(
            networks, self._targets, self.config, resolution, self.patch, device
        )

    def _targets(self, observer: int, labels: Sequence[int]) -> torch.Tensor:
        layers = self.num_layers[observer]
        folder = UPath(self.statistics)
        return torch.from_numpy(read_targets(folder, observer, layers, self.num_classes, labels))


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
        """See :func:`raydd.engine.pool.run_units`."""
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
