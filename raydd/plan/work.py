"""What a stage takes, and how long that is on a machine: arithmetic alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

DIVISIONS = ("units", "tasks", "rows", "batch", "none")


class Trial(Protocol):
    """A step of a stage that a machine can be timed with; its ``repr`` names it.

    Attributes:
        flops: of one image in one step.
        kind: see :class:`Work`.
    """

    @property
    def flops(self) -> int:
        """Operations of one image in one step."""

    @property
    def kind(self) -> str:
        """See :class:`Work`."""

    def begin(self, count: int, device: torch.device) -> Callable[[], None]:
        """Build networks and a batch of ``count`` images; each call of the result is a step."""


@dataclass(frozen=True)
class Work:
    """Steps of one kind.

    Attributes:
        trial: one of these steps; its kind is "convnet" (in the precision that the device likes
            best), "float32" (tensor cores may round, as PyTorch lets them), "exact" (they may not)
            or "transformer".
        steps: how many, over all units.
        batch: images in a step.
        flops: operations of one image in one step; None is the trial's.
    """

    trial: Trial
    steps: float
    batch: int
    flops: float | None = None

    @property
    def step_flops(self) -> float:
        """Operations of a step."""
        return self.batch * (self.trial.flops if self.flops is None else self.flops)


@dataclass(frozen=True)
class PlanRow:
    """One stage.

    Attributes:
        stage: name.
        units: grain of resume: shards, epochs, batches or trainings.
        reads: bytes read.
        writes: bytes written.
        memory: peak bytes of one worker: weights, optimiser and activations of a batch.
        work: what networks do.
        decodes: encoded images that are decoded.
        divides: "units" over the workers of units, "tasks" (units over Ray tasks), "rows" (images
            over actors, which decode what they look at), "batch" (each step over the Train workers:
            one training) or "none".
    """

    stage: str
    units: int
    reads: int
    writes: int
    memory: int
    work: tuple[Work, ...] = ()
    decodes: int = 0
    divides: str = "none"


@dataclass(frozen=True)
class Machine:
    """What hours are counted with.

    Attributes:
        name: as printed.
        workers: of a training.
        unit_workers: of a stage of independent units.
        parallel: tasks and actors that run at once.
        cores: that decode images.
        rates: operations per second of one device, by a trial's ``repr`` or by kind of work.
        decode: images per second and core.
        transfer: bytes per second that are read and written, of the whole machine.
        step: seconds that no step falls below: kernels must be launched.
        start: seconds until a stage with work is under way.
        memory: bytes of one device; None is not known.
        about: where these numbers come from.
    """

    name: str
    workers: int
    unit_workers: int
    parallel: int
    cores: int
    rates: Mapping[str, float]
    decode: float
    transfer: float
    step: float
    start: float
    memory: int | None = None
    about: str = field(default="", compare=False)


def stage_seconds(row: PlanRow, machine: Machine) -> float:
    """Wall seconds of a stage.

    Networks, decoding and bytes overlap, so that the slowest counts; an actor that decodes what it
    looks at does one after the other.

    Raises:
        KeyError: the machine has no rate for some of the work.
    """
    split = machine.workers if row.divides == "batch" else 1
    computing = sum(_work_seconds(work, machine, split) for work in row.work)
    computing *= _share(row, machine)
    actors = row.divides == "rows"
    decoding = row.decodes / machine.decode / (machine.parallel if actors else machine.cores)
    moving = (row.reads + row.writes) / machine.transfer
    busy = max(computing + decoding, moving) if actors else max(computing, decoding, moving)
    return busy + (machine.start if row.work or row.decodes else 0)


def plan_hours(rows: Sequence[PlanRow], machine: Machine) -> list[float]:
    """Hours of every stage; stages run one after another, so their sum is the run's."""
    return [stage_seconds(row, machine) / 3600 for row in rows]


def _work_seconds(work: Work, machine: Machine, split: int) -> float:
    rate = machine.rates.get(repr(work.trial)) or machine.rates[work.trial.kind]
    return work.steps * max(work.step_flops / split / rate, machine.step)


def _share(row: PlanRow, machine: Machine) -> float:
    """Part of a stage's work that the busiest device does."""
    if row.divides == "rows":
        return 1 / machine.parallel
    lanes = {"units": machine.unit_workers, "tasks": machine.parallel}.get(row.divides, 1)
    units = max(1, row.units)
    return math.ceil(units / lanes) / units
