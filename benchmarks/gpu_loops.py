"""What ``gpu.py`` measures of the loops that make images: recover and sampling."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from plain_recover import MEAN, ROLL, STD, StatisticsHook, plain_recover
from torch import Tensor, nn

from raydd.engine.sampling.config import SampleConfig
from raydd.engine.sampling.sampler import Sampler
from raydd.engine.synthesis.advance import Recording
from raydd.engine.synthesis.loop import Recovery
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherObjective
from raydd.models import ModelConfig, create_model
from raydd.models.diffusion import Generator, GeneratorCard, create_transformer


@dataclass
class Machine:
    """What is measured on, and for how long.

    Attributes:
        device: "cpu" or "cuda".
        tiny: sizes for a test on a CPU.
        end: ``time.monotonic`` at which the section must be done.
    """

    device: str
    tiny: bool
    end: float

    @property
    def left(self) -> float:
        """Seconds until the section's end."""
        return self.end - time.monotonic()

    def wait(self) -> None:
        """Until the device has done all that it was asked."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], object], share: float = 0.1) -> float:
        """Seconds of a call: after a first one, as many as fit into a share of what is left."""
        run()
        self.wait()
        end, calls = time.monotonic() + max(0.0, share * self.left), 0
        begin = time.perf_counter()
        while calls == 0 or (time.monotonic() < end and not self.tiny):
            run()
            calls += 1
            self.wait()
        return (time.perf_counter() - begin) / calls


@dataclass
class Recover:
    """A recover loop with random networks on random images."""

    machine: Machine
    model: ModelConfig
    side: int
    batch: int
    steps: int

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        shape = (self.batch, 3, self.side, self.side)
        self.start = torch.randint(0, 256, shape, dtype=torch.uint8).to(self.machine.device)
        self.classes = 10 if self.machine.tiny else 1000 if self.side > 64 else 100
        self.labels = torch.arange(self.batch, device=self.machine.device) % self.classes
        self.networks = [self._network() for _ in range(2)]

    def _network(self) -> nn.Module:
        made = create_model(self.model, self.classes, self.side)
        return made.eval().requires_grad_(False).to(self.machine.device)

    def ours(self, student: bool, capture: str, watch: bool = False, **more: Any) -> Recovery:
        """The product's loop."""
        config = SynthesisConfig(steps=self.steps, roll=(0, ROLL), **more)
        teacher, other = self.networks
        objective = TeacherObjective(teacher, other if student else None, config, self.device)
        seen: Any = Watched(objective, self.steps, self.device) if watch else objective
        recording = Recording(capture)
        return Recovery(seen, config, MEAN, STD, self.side, self.device, recording)

    @property
    def device(self) -> str:
        """That of the machine."""
        return self.machine.device

    def images(self, recovery: Recovery) -> Tensor:
        """Recovered images, uint8 on the CPU."""
        return recovery.run(self.start, self.labels, ("benchmark",)).images

    def rate(self, recovery: Recovery) -> float:
        """Image-iterations per second of the product's loop."""
        seconds = self.machine.seconds(lambda: self.images(recovery))
        return round(self.batch * self.steps / seconds, 1)

    def plain_rate(self, student: bool) -> float:
        """The same of the transcription, which takes fewer steps."""
        teacher, other = copy.deepcopy(self.networks)  # hooks are put on
        norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
        hooks = [StatisticsHook(norm) for norm in norms]
        steps, adversary = max(1, self.steps // 10), other if student else None
        seconds = self.machine.seconds(
            lambda: plain_recover(self.start, self.labels, teacher, adversary, hooks, steps)
        )
        return round(self.batch * steps / seconds, 1)


class Watched:
    """An objective in whose unit, after the first steps, no host may wait for the device."""

    period = 1

    def __init__(self, objective: TeacherObjective, steps: int, device: str) -> None:
        self.objective, self.steps, self.device, self.done = objective, steps, device, 0

    def begin(self, origin: Tensor, labels: Tensor) -> None:
        """As the objective."""
        self.objective.begin(origin, labels)
        self.done = 0

    def terms(self, images: Tensor, rows: Tensor, columns: Tensor, step: int) -> dict[str, Tensor]:
        """As the objective."""
        return self.objective.terms(images, rows, columns, step)

    def stepped(self, images: Tensor) -> None:
        """As the objective; watches from the second step to the last."""
        self.objective.stepped(images)
        self.done += 1
        if self.device == "cuda":
            watched = 1 < self.done < self.steps
            torch.cuda.set_sync_debug_mode("error" if watched else "default")


@contextmanager
def without_cudnn() -> Iterator[None]:
    """Convolutions by torch's own kernels."""
    before, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def recover(machine: Machine, side: int) -> dict[str, Any]:
    """Image-iterations per second of the recover loop at a resolution."""
    if machine.tiny:
        loop = Recover(machine, ModelConfig("resnet10_thin", width=8), 16, 4, 4)
    else:
        large = side > 64
        name = "torchvision/resnet18" if large else "resnet18_small"
        loop = Recover(machine, ModelConfig(name), side, 100, 20 if large else 100)
    found: dict[str, Any] = {"side": loop.side, "batch": loop.batch, "unit": "image-iterations/s"}
    for student in (False, True):
        rates: dict[str, Any] = {
            "plain steps": loop.rate(loop.ours(student, "off")),
            "fp32": loop.rate(loop.ours(student, "off", precision="fp32")),
            "transcription": loop.plain_rate(student),
        }
        with without_cudnn():
            rates["cudnn off"] = loop.rate(loop.ours(student, "off"))
        best = rates["plain steps"]
        try:
            rates["recorded steps"] = loop.rate(loop.ours(student, "on"))
            best = max(best, rates["recorded steps"])
        except RuntimeError as error:
            rates["recorded steps"] = str(error).partition("\n")[0]
        rates["over transcription"] = round(best / rates["transcription"], 2)
        found["with student" if student else "without student"] = rates
    return found


def equal(machine: Machine) -> dict[str, Any]:
    """Whether runs repeat to the bit: two plain ones, two recorded ones, and these with those."""
    model = ModelConfig("resnet10_thin", width=8) if machine.tiny else ModelConfig("resnet18_small")
    loop = Recover(machine, model, 16 if machine.tiny else 32, 4 if machine.tiny else 100, 8)
    hashes = [
        hashlib.sha256(loop.images(loop.ours(True, capture)).numpy().tobytes()).hexdigest()
        for capture in ("off", "off", "on", "on")
    ]
    return {"sha256": hashes, "equal": len(set(hashes)) == 1}


def syncs(machine: Machine) -> dict[str, Any]:
    """Whether a step makes the host wait; torch raises where it does."""
    model = ModelConfig("resnet10_thin", width=8) if machine.tiny else ModelConfig("resnet18_small")
    loop = Recover(machine, model, 16 if machine.tiny else 32, 4, 8)
    try:
        loop.images(loop.ours(True, "off", watch=True))
    finally:
        if machine.device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    return {"host waits": False, "watched": machine.device == "cuda"}


# side of the latents, layers, heads, width; widths of the VAE's stages; DiT-XL/2 at 256 pixels
_XL = (32, 28, 16, 1152, (128, 256, 512, 512))
_TINY = (8, 2, 2, 32, (8, 8))


def _generator(tiny: bool) -> Generator:
    from diffusers import AutoencoderKL

    side, layers, heads, width, stages = _TINY if tiny else _XL
    transformer = create_transformer(4, side, 1000, layers, heads, width, 2)
    nn.init.normal_(transformer.proj_out_2.weight, std=0.02)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(stages),
        up_block_types=("UpDecoderBlock2D",) * len(stages),
        block_out_channels=stages,
        layers_per_block=1 if tiny else 2,
        latent_channels=4,
        norm_num_groups=4 if tiny else 32,
    )
    pixels = side * 2 ** (len(stages) - 1)
    names = tuple(str(number) for number in range(1000))
    card = GeneratorCard("random", names, tuple(range(1000)), pixels, 0.18215, "none")
    return Generator(transformer, vae, card).eval()


def sampling(machine: Machine) -> dict[str, Any]:
    """Images per second of DiT-XL/2 at several batches; None where there was no time left."""
    torch.manual_seed(0)
    with torch.device(machine.device):
        generator = _generator(machine.tiny)
    found: dict[str, Any] = {"unit": "images/s of 50 steps, decoded"}
    for scale, name in ((4.0, "with guidance"), (1.0, "without guidance")):
        rates: dict[str, float | None] = {}
        for batch in (1, 2) if machine.tiny else (1, 8, 32, 64, 128):
            is_late = machine.left < 10 and not machine.tiny
            rates[str(batch)] = None if is_late else _rate(machine, generator, scale, batch)
        found[name] = rates
    if not machine.tiny and machine.left > 40:
        compiled = _rate(machine, generator, 4.0, 32, compiled=True)
        found["with guidance, batch 32, compiled blocks"] = compiled
    return found


def _sampling_seconds(
    machine: Machine,
    generator: Generator,
    scale: float,
    batch: int,
    steps: int,
    compiled: bool = False,
) -> float:
    config = SampleConfig(steps=steps, guidance_scale=scale, batch_size=batch)
    sampler = Sampler(generator, config, machine.device)
    for block in sampler.generator.transformer.transformer_blocks if compiled else ():
        block.compile()  # one by one: all are alike, so that one compilation serves them
    labels = [number % 1000 for number in range(batch)]
    return machine.seconds(lambda: sampler.run(labels, [0] * batch, 0), share=0.02)


def _rate(machine: Machine, generator: Generator, scale: float, batch: int, **how: bool) -> float:
    """Images per second of 50 steps and decoding, from runs of 4 and of 8 steps."""
    few, more = (_sampling_seconds(machine, generator, scale, batch, n, **how) for n in (4, 8))
    step = max(1e-9, (more - few) / 4)
    return round(batch / (50 * step + max(0.0, few - 4 * step)), 2)
