"""Stage ``sample``: diffusion sampling of every unit, on any number of workers.

A unit is a block of slots times a block of classes, one batch. Units are fixed by the configuration
alone and an image's draws by its class and slot, so the images are the same for any number of
workers; a finished unit is a file and is never redone.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from upath import UPath

from raydd.cluster.connect import Resources
from raydd.cluster.pool import run_units
from raydd.data.classes import check_class_order
from raydd.engine.generator.checkpoint import load_generator, load_generator_card
from raydd.engine.sampling.config import SampleConfig
from raydd.engine.sampling.energy import AdversarialEnergy, Classifier, Energy
from raydd.engine.sampling.latents import FOLDER as LATENTS
from raydd.engine.sampling.latents import read_memory, write_latents
from raydd.engine.sampling.sampler import Sampled, Sampler
from raydd.errors import Refused
from raydd.store.artifacts import Artifact, Stages
from raydd.store.checkpoint import load_card
from raydd.store.journal import Journal
from raydd.store.tables import count_parts, write_table
from raydd.store.units import Unit, unfinished, unit_path, unit_table


@dataclass(frozen=True)
class SampleJob:
    """Everything a worker needs; picklable.

    Attributes:
        folder: stage folder.
        units: all units of the stage.
        curriculum: number of the curriculum.
        generator: folder of the generator.
        discriminator: checkpoint folder, or None to sample without guidance.
        reference: checkpoint folder of the network that anchors the energy, or None.
        earlier: folders of earlier curricula whose latents are kept away from.
        class_names: of the source, in order.
        resolution: R, side of the images, pixels.
        config: the sampler's constants.
        seed: run seed.
        journal: path of ``metrics.jsonl``.
        device: ``cpu`` or ``cuda``.
    """

    folder: str
    units: tuple[Unit, ...]
    curriculum: int
    generator: str
    discriminator: str | None
    reference: str | None
    earlier: tuple[str, ...]
    class_names: tuple[str, ...]
    resolution: int
    config: SampleConfig
    seed: int
    journal: str | None
    device: str


def sample_images(
    stages: Stages,
    job: SampleJob,
    slots: range,
    inputs: Sequence[Artifact],
    resources: Resources,
    seed: int,
) -> Artifact:
    """Sample one curriculum's images as a stage; the same bytes for any number of workers.

    Without a discriminator and earlier curricula the artifact does not depend on the adversary's
    constants: a sweep over them shares it.

    Args:
        stages: where the images are kept.
        job: units, networks and constants; its folder is filled in here.
        slots: of the curriculum.
        inputs: generator, discriminator, reference and earlier curricula, as far as they are used.
        resources: workers and devices.
        seed: run seed.
    Returns:
        Artifact with ``parts/*.parquet`` as ``synthesize`` leaves them, and ``latents/*.parquet``
        of the same names.
    Raises:
        Refused: a network is for other classes, or the anchored energy lacks its reference.
    """
    _check_networks(job)
    ends = [slots.start, slots.stop]

    def work(folder: UPath) -> dict[str, Any]:
        for name in ("parts", LATENTS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        own = replace(job, folder=str(folder), units=())
        run_units(UnitSampler, own, unfinished(folder, job.units), resources)
        counts = np.bincount([label for unit in job.units for label in unit.labels]).tolist()
        return {"curriculum": job.curriculum, "slots": ends, "counts": counts}

    return stages.run(
        "sample",
        work,
        inputs=inputs,
        config={"sample": _used(job), "slots": ends, "curriculum": job.curriculum},
        seed=seed,
        title=f"curriculum {job.curriculum + 1}",
        units=len(job.units),
        count_done=count_parts,
    )


class UnitSampler:
    """The networks of a worker; samples a unit's images and writes them."""

    def __init__(self, job: SampleJob) -> None:
        self.job, self.journal = job, Journal(job.journal)
        generator = load_generator(UPath(job.generator))
        self.sampler = Sampler(generator, job.config, job.device, _load_energy(job))

    def __call__(self, unit: Unit) -> None:
        """See :func:`raydd.cluster.pool.run_units`."""
        job, started = self.job, time.perf_counter()
        sampled = _sample_unit(job, self.sampler, unit)
        # latents first: a part file says that the unit is finished
        write_latents(UPath(job.folder), unit, sampled.latents)
        write_table(unit_path(job.folder, unit), unit_table(unit, sampled.images, job.curriculum))
        means = sampled.energies.mean(dim=1).tolist()
        gain = {"first": means[0], "last": means[-1], "gain": means[-1] - means[0]} if means else {}
        self.journal.log(
            "sample",
            curriculum=job.curriculum,
            unit=unit.name,
            seconds=time.perf_counter() - started,
            **gain,
        )


def _sample_unit(job: SampleJob, sampler: Sampler, unit: Unit) -> Sampled:
    """Sample a unit in a batch of full size: kernels are chosen by a batch's size."""
    count = len(unit.labels)
    missing = job.config.batch_size - count
    labels, slots = (row + row[-1:] * missing for row in (unit.labels, unit.slots))
    memory = read_memory(job.earlier, labels, sampler.latent_shape) if job.earlier else None
    full = sampler.run(labels, slots, job.seed, memory)
    return Sampled(full.images[:count], full.latents[:count], full.energies[:, :count])


def _load_energy(job: SampleJob) -> Energy | None:
    if job.discriminator is None:
        return None
    device, precision = torch.device(job.device), job.config.precision
    discriminator = Classifier(UPath(job.discriminator), precision, device)
    reference = Classifier(UPath(job.reference), precision, device) if job.reference else None
    return AdversarialEnergy(discriminator, reference, job.config.adversary)


def _used(job: SampleJob) -> dict[str, Any]:
    """The constants that the images depend on."""
    used = asdict(job.config)
    if job.discriminator is None and not job.earlier:
        del used["adversary"]
    return used


def _check_networks(job: SampleJob) -> None:
    """All networks know these classes, in this order, and the images have the data set's size."""
    if job.discriminator and job.config.adversary.energy == "anchored" and not job.reference:
        raise Refused("energy=anchored needs a reference network trained on real images.")
    made = load_generator_card(UPath(job.generator))
    names = {"the generator": made.class_names}
    for name in ("discriminator", "reference"):
        if folder := getattr(job, name):
            names[f"the {name}"] = load_card(UPath(folder)).class_names
    try:
        for name, known in names.items():
            check_class_order(job.class_names, known, name)
    except ValueError as error:
        raise Refused(str(error)) from error
    if made.resolution != job.resolution:
        raise Refused(
            f"the generator makes images of {made.resolution} px, the data set has "
            f"{job.resolution} px."
        )
