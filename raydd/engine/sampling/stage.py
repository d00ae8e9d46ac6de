"""Stage ``sample``: diffusion sampling of every unit, on any number of workers.

A unit is a block of slots times a block of classes, one batch. Units are fixed by the configuration
alone and an image's draws by its class and slot, so the images are the same for any number of
workers; a finished unit is a file and is never redone.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from upath import UPath

from raydd.cluster.pool import run_units
from raydd.data.classes import check_class_order
from raydd.engine.engine import Engine
from raydd.engine.generator.checkpoint import load_generator, load_generator_card
from raydd.engine.sampling.config import SampleConfig
from raydd.engine.sampling.cost import sampling_cost
from raydd.engine.sampling.energy import AdversarialEnergy, Classifier, Energy
from raydd.engine.sampling.latents import FOLDER as LATENTS
from raydd.engine.sampling.latents import read_memory, write_latents
from raydd.engine.sampling.sampler import Sampled, Sampler
from raydd.errors import Refused
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import load_card
from raydd.store.journal import Journal
from raydd.store.tables import write_table
from raydd.store.units import PART, Unit, plan_units, unit_table


@dataclass(frozen=True)
class SampleJob:
    """Everything a worker needs; picklable.

    Attributes:
        folder: stage folder.
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


def sample(
    engine: Engine,
    generator: Artifact,
    discriminator: Artifact | None,
    reference: Artifact | None,
    config: SampleConfig,
    slots: range,
    curriculum: int,
    earlier: Sequence[Artifact] = (),
) -> Artifact:
    """Sample one curriculum's images; the same bytes for any number of workers.

    Without a discriminator and earlier curricula the artifact does not depend on the adversary's
    constants: a sweep over them shares it.

    Args:
        engine: of the run.
        generator: the diffusion model.
        discriminator: checkpoint that the images shall be hard for; None samples unguided.
        reference: checkpoint trained on real images; the anchored energy needs it.
        config: constants; what is switched off in them makes its input irrelevant.
        slots: of the curriculum.
        curriculum: its number.
        earlier: curricula before, whose latents the deviation keeps away from.
    Returns:
        Artifact with ``parts/*.parquet`` as ``synthesize`` leaves them, and ``latents/*.parquet``
        of the same names.
    Raises:
        Refused: a network is for other classes, or the anchored energy lacks its reference.
    """
    adversary = config.adversary
    judge = discriminator if adversary.scale > 0 else None
    anchor = reference if judge and adversary.energy == "anchored" else None
    avoided = earlier if adversary.deviation > 0 else ()
    judges = [item for item in (judge, anchor) if item]
    units = plan_units(engine.num_classes, slots, config.batch_size)
    job = _job(engine, generator, judge, anchor, avoided, config, curriculum)
    ends = [slots.start, slots.stop]
    summary = {"slots": ends, "counts": [len(slots)] * engine.num_classes}

    def work(folder: UPath) -> dict[str, Any]:
        _check_networks(job)
        for name in ("parts", LATENTS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        own = replace(job, folder=str(folder))
        run_units(UnitSampler, own, PART.left(folder, units), engine.resources)
        return {"curriculum": curriculum, **summary}

    return engine.stages.run(
        "sample",
        work,
        inputs=[generator, *judges, *avoided],
        config={"sample": _used(job), "slots": ends, "curriculum": curriculum},
        seed=engine.seed,
        cost=lambda: sampling_cost(engine, generator, judges, config, units),
        expected=lambda: summary,
        title=f"curriculum {curriculum + 1}",
        units=len(units),
        done=[PART],
    )


def _job(
    engine: Engine,
    generator: Artifact,
    judge: Artifact | None,
    anchor: Artifact | None,
    avoided: Sequence[Artifact],
    config: SampleConfig,
    curriculum: int,
) -> SampleJob:
    return SampleJob(
        folder="",
        curriculum=curriculum,
        generator=str(generator.folder),
        discriminator=str(judge.folder) if judge else None,
        reference=str(anchor.folder) if anchor else None,
        earlier=tuple(str(item.folder) for item in avoided),
        class_names=engine.class_names,
        resolution=engine.preprocessing.resolution,
        config=config,
        seed=engine.seed,
        journal=engine.journal,
        device=engine.resources.device,
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

        def beat(step: int) -> None:
            of, told = len(self.sampler.steps), {"counts": "step", "unit": unit.name}
            self.journal.beat("sample", step, of, **told)

        sampled = _sample_unit(job, self.sampler, unit, beat)
        # latents first: a part file says that the unit is finished
        write_latents(UPath(job.folder), unit, sampled.latents)
        write_table(
            PART.path(job.folder, unit.name), unit_table(unit, sampled.images, job.curriculum)
        )
        means = sampled.energies.mean(dim=1).tolist()
        gain = {"first": means[0], "last": means[-1], "gain": means[-1] - means[0]} if means else {}
        self.journal.log(
            "sample",
            curriculum=job.curriculum,
            unit=unit.name,
            seconds=time.perf_counter() - started,
            **gain,
        )


def _sample_unit(
    job: SampleJob, sampler: Sampler, unit: Unit, beat: Callable[[int], None]
) -> Sampled:
    """Sample a unit in a batch of full size: kernels are chosen by a batch's size."""
    count = len(unit.labels)
    missing = job.config.batch_size - count
    labels, slots = (row + row[-1:] * missing for row in (unit.labels, unit.slots))
    memory = read_memory(job.earlier, labels, sampler.latent_shape) if job.earlier else None
    full = sampler.run(labels, slots, job.seed, memory, beat)
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
