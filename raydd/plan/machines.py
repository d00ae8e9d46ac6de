"""How long stages take on a machine, and the machines that a plan knows by name.

Nothing about named machines was measured by us but the decoding rate.

Peaks are the makers' data sheets (dense bf16, without sparsity). How much of a peak is reached is
assumed after two public figures, and rounded down:

- convolutions: ResNet-50 trains at 2,600 images per second on one A100 in mixed precision with
  channels last (pytorch-image-models, issue 1491): 64 TFLOP/s, a fifth of the peak. They wait for
  memory, which grew less than the peak from Ampere to Hopper: 0.12 there; an L4 has 0.3 TB/s,
  a seventh of the A100's: 0.08.
- transformers: DiT-XL/2 trains at 1.3 steps of 128 images per second and device on eight H800
  (published with Open-Sora): 118 TFLOP/s, 0.12 of the peak. The same share is taken everywhere.
- float32 with TF32: half of the tensor cores' rate, so half of the share; exact float32: 0.4 of the
  vector units' peak.

One core decodes 265 JPEGs of 500 x 375 pixels per second into 224 pixels (ours, Pillow); 200 are
taken; 670 of 341 x 256 pixels, 600 taken (``cluster.plan_small_images``). All cores of a machine
with GPUs decode while the devices compute. From an object store a machine of eight devices is taken
to read 5 GB/s (their networks have 100 Gbit/s and more), one of a single device 1 GB/s; so fast do
such machines exchange gradients, too. Within a machine that is taken to cost nothing. Images by
their id are asked for 64 at a time; with 0.1 s for an answer that is 600 per second and process.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from raydd.engine.cost import Cost, Work
from raydd.engine.engine import ENCODED_BYTES
from raydd.errors import Refused

_STEP = 4e-3  # seconds: about 400 kernels, launched one by one
_START = 15.0  # seconds: a fit of several workers
_VECTOR_SHARE = 0.4
_DECODE = 200.0  # photographs of 500 x 375 pixels per second and core
FETCH = 600.0  # images by their id per second and process
_SMALL_DECODE, _SMALL_BYTES = 600.0, 40_000  # the same, resized to a shorter side of 256 pixels


@dataclass(frozen=True)
class PlanRow:
    """A stage of a plan.

    Attributes:
        stage: name and title.
        key: of its artifact.
        units: grain of resume: shards, epochs, batches or trainings.
        cost: what it takes.
        finished: whether the storage has it already.
        together: units of all stages that run at once; 0 is this one alone.
    """

    stage: str
    key: str
    units: int
    cost: Cost
    finished: bool = False
    together: int = 0


@dataclass(frozen=True)
class Machine:
    """What hours are counted with.

    Attributes:
        name: as printed.
        workers: of a training.
        unit_workers: of a stage of independent units.
        parallel: tasks and actors that run at once.
        cores: that decode images.
        rates: operations per second of one device, by a step's name or by kind of work.
        decode: images per second and core.
        fetch: images that one process reads by their id per second.
        transfer: bytes per second that are read and written, of the whole machine.
        step: seconds that no step falls below: kernels must be launched.
        wire: bytes per second between the workers of a training.
        start: seconds until a stage with work is under way.
        memory: bytes of one device; None is not known.
        beside: whether its cores decode beside devices that compute; without GPUs they do both.
        alone: seconds of units that one process does before others are worth their start.
        image_bytes: of an encoded image.
        about: where these numbers come from.
    """

    name: str
    workers: int
    unit_workers: int
    parallel: int
    cores: int
    rates: Mapping[str, float]
    decode: float
    fetch: float
    transfer: float
    step: float
    start: float
    memory: int | None = None
    beside: bool = False
    alone: float = 0.0
    image_bytes: int = ENCODED_BYTES
    wire: float = math.inf
    about: str = field(default="", compare=False)


def stage_seconds(row: PlanRow, machine: Machine) -> float:
    """Wall seconds of a stage.

    Networks, decoding and bytes overlap, so that the slowest counts. Without GPUs an actor decodes
    what it looks at, one after the other, and a unit reads images by their id before it computes.

    Raises:
        KeyError: the machine has no rate for some of the work.
    """
    cost = row.cost
    split = machine.workers if cost.divides == "batch" else 1
    computing = sum(_work_seconds(work, machine, split) for work in cost.work)
    reading = cost.fetches / machine.fetch
    computing += 0.0 if machine.beside else reading
    alone = machine.alone if cost.divides == "units" else 0.0
    computing = max(computing * _share(row, machine), min(computing, alone))
    actors = cost.divides == "rows" and not machine.beside
    decoding = cost.decodes / machine.decode / (machine.parallel if actors else machine.cores)
    decoding += reading / machine.cores if machine.beside else 0.0
    saved = cost.decodes * (ENCODED_BYTES - machine.image_bytes)
    moving = (max(cost.reads - saved, 0.0) + cost.writes) / machine.transfer
    apart = [computing + decoding, moving] if actors else [computing, decoding, moving]
    busy = math.nan if any(map(math.isnan, apart)) else max(apart)
    return busy + (machine.start if cost.work or cost.decodes else 0)


def plan_hours(rows: Sequence[PlanRow], machine: Machine) -> list[float]:
    """Hours of every stage; stages run one after another, so their sum is the run's.

    A finished stage takes none; nan is not known.
    """
    return [0.0 if row.finished else stage_seconds(row, machine) / 3600 for row in rows]


def _work_seconds(work: Work, machine: Machine, split: int) -> float:
    meeting = 2 * work.gradients * (1 - 1 / split) / machine.wire  # a ring, while they compute
    rate = machine.rates.get(work.step.name) or machine.rates[work.step.kind]
    return work.steps * max(work.step_flops / split / rate, machine.step, meeting)


def _share(row: PlanRow, machine: Machine) -> float:
    """Part of a stage's work that the busiest device does."""
    divides = row.cost.divides
    if divides == "rows":
        return 1 / machine.parallel
    at_once = {"units": machine.unit_workers, "tasks": machine.parallel}.get(divides, 1)
    units = max(1, row.units, row.together)
    return math.ceil(units / at_once) / units


def named_machine(name: str, small_images: bool = False) -> Machine:
    """A machine by its name.

    Args:
        name: of the machine.
        small_images: whether the images were resized beforehand, to a shorter side of 256 pixels.

    Raises:
        Refused: nobody described it.
    """
    if name not in _MACHINES:
        known = ", ".join(sorted(_MACHINES))
        raise Refused(f"cluster.plan_for={name} is no machine that is known here: {known}.")
    machine = _MACHINES[name]
    if small_images:
        machine = replace(machine, decode=_SMALL_DECODE, image_bytes=_SMALL_BYTES)
    size = f"{machine.image_bytes / 1000:.0f} kB"
    return replace(
        machine,
        about=f"{machine.about}; images of {size}, {machine.decode:.0f} per second and core",
    )


def _machine(
    name: str,
    count: int,
    cores: int,
    tera: float,
    vector_tera: float,
    convnet: float,
    transformer: float,
    memory: int,
    transfer: int,
    wire: float = math.inf,
) -> Machine:
    """Describe a machine.

    Args:
        name: of the machine.
        count: devices.
        cores: CPU cores (vCPUs) in all.
        tera: TFLOP/s of a device's dense bf16 peak.
        vector_tera: TFLOP/s of its float32 peak without tensor cores.
        convnet: share of the peak that convolutions reach.
        transformer: share that transformers reach.
        memory: GB of one device.
        transfer: GB/s that are read and written.
        wire: GB/s between the devices, where they are machines of their own.
    """
    rates = {
        "convnet": convnet * tera,
        "float32": convnet / 2 * tera,
        "exact": _VECTOR_SHARE * vector_tera,
        "transformer": transformer * tera,
    }
    gradients = "" if math.isinf(wire) else f", gradients meet over {wire:.0f} GB/s"
    reached = ", ".join(f"{kind} {rate:.0f}" for kind, rate in rates.items())
    return Machine(
        name=name,
        workers=count,
        unit_workers=count,
        parallel=count,
        cores=cores,
        rates={kind: 1e12 * rate for kind, rate in rates.items()},
        decode=_DECODE,
        fetch=FETCH,
        transfer=transfer * 1e9,
        step=_STEP,
        wire=wire * 1e9,
        start=_START,
        memory=memory * 10**9,
        beside=True,
        about=(
            f"assumed, not measured: TFLOP/s of a device {reached} (dense bf16 peak {tera:.0f}), "
            f"no step below {1000 * _STEP:.0f} ms, {cores} cores that decode beside the "
            f"devices, {transfer} GB/s, {_START:.0f} s to start a stage{gradients}"
        ),
    )


_HOPPER, _AMPERE, _ADA = (989, 67, 0.12, 0.12), (312, 19.5, 0.2, 0.12), (165, 82.6, 0.2, 0.12)
_L4 = (121, 30.3, 0.08, 0.12)
_MACHINES = {
    machine.name: machine
    for machine in (
        _machine("8xh200", 8, 192, *_HOPPER, memory=141, transfer=5),
        _machine("8xh100", 8, 192, *_HOPPER, memory=80, transfer=5),
        _machine("1xh100", 1, 24, *_HOPPER, memory=80, transfer=1),
        _machine("8xa100", 8, 96, *_AMPERE, memory=80, transfer=5),
        _machine("1xa100", 1, 12, *_AMPERE, memory=80, transfer=1),
        _machine("1x4090", 1, 16, *_ADA, memory=24, transfer=1),
        # workers of clusters/aws.yaml, each a machine (g6.4xlarge)
        _machine("16xl4", 16, 256, *_L4, memory=24, transfer=16, wire=1),
    )
}
