"""What a stage takes: bytes, memory, and the steps of its networks. Nothing here works on images.

A stage states its cost beside its work; ``plan=true`` adds them up. A number that nobody can know
before the work is nan, and so is all that follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from raydd.data.preprocessing import Preprocessing
from raydd.engine.engine import Engine
from raydd.models.answers import answer
from raydd.models.layout import laid_out, lay_out
from raydd.models.precision import autocast, autocast_dtype
from raydd.models.preprocess import normalise
from raydd.models.registry import ModelConfig, create_meta_model, create_model
from raydd.ops.seeds import generator
from raydd.store.artifacts import Artifact

BACKWARD = 2  # forward passes that a backward pass costs; half of it where weights are frozen
Begin = Callable[[int, torch.device], Callable[[], None]]


@dataclass(frozen=True)
class TimedStep:
    """A step of a stage that a machine can be timed with.

    Attributes:
        name: what takes equally long has equal names.
        flops: operations of one image in one step.
        kind: of work, see :class:`Work`.
        begin: builds networks and a batch of so many images on a device; each call of the result is
            a step. Weights are fresh: how long an operation takes does not depend on them.
    """

    name: str
    flops: int
    kind: str
    begin: Begin = field(repr=False, compare=False)


@dataclass(frozen=True)
class Work:
    """Steps of one kind.

    Attributes:
        step: one of these steps; its kind is "convnet" (in the precision that the device likes
            best), "float32" (tensor cores may round, as PyTorch lets them), "exact" (they may not)
            or "transformer".
        steps: how many, over all units.
        batch: images in a step.
        flops: operations of one image in one step; None is the step's.
        gradients: bytes that the workers of a training add up in each step.
    """

    step: TimedStep
    steps: float
    batch: int
    flops: float | None = None
    gradients: float = 0

    @property
    def step_flops(self) -> float:
        """Operations of a step."""
        return self.batch * (self.step.flops if self.flops is None else self.flops)


@dataclass(frozen=True)
class Cost:
    """What a stage takes.

    Attributes:
        reads: bytes read.
        writes: bytes written.
        memory: peak bytes of one worker: weights, optimiser and activations of a batch.
        work: what networks do.
        decodes: encoded images that are decoded.
        fetches: of these, images that a unit reads by their id, far from one another in the source.
        divides: "units" over the workers of units, "tasks" (units over Ray tasks), "rows" (images
            over actors; without GPUs these decode what they look at), "batch" (each step over the
            Train workers: one training) or "none".
    """

    reads: float = 0
    writes: float = 0
    memory: float = 0
    work: Sequence[Work] = ()
    decodes: float = 0
    fetches: float = 0
    divides: str = "none"


@dataclass(frozen=True)
class Networks:
    """What the networks of a run have in common.

    Attributes:
        num_classes: C.
        preprocessing: of their input.
    """

    num_classes: int
    preprocessing: Preprocessing

    @classmethod
    def of(cls, engine: Engine) -> Networks:
        """Those of an engine."""
        return cls(engine.num_classes, engine.preprocessing)

    def create(self, model: ModelConfig, device: torch.device) -> nn.Module:
        """A network with fresh weights."""
        fresh = replace(model, pretrained=False)
        network = create_model(fresh, self.num_classes, self.preprocessing.resolution)
        return lay_out(network, device)

    def pixels(self, count: int, device: torch.device, side: int | None = None) -> Tensor:
        """Random pixels uint8 [count, 3, S, S]; S is the resolution if nothing else is said."""
        side = side or self.preprocessing.resolution
        draws = generator("plan", "pixels")
        shape = (count, 3, side, side)
        return torch.randint(256, shape, dtype=torch.uint8, generator=draws).to(device)

    def labels(self, count: int) -> Tensor:
        """Classes int64 [count]."""
        return torch.arange(count) % self.num_classes

    def normalised(self, pixels: Tensor, network: nn.Module) -> Tensor:
        """Input of a network."""
        images = normalise(pixels, self.preprocessing.mean, self.preprocessing.std)
        return laid_out(images, network)


def ask_step(networks: Networks, model: ModelConfig, flops: int, kind: str) -> TimedStep:
    """A forward pass; all kinds but "convnet" compute in float32."""

    def begin(count: int, device: torch.device) -> Callable[[], None]:
        network, pixels = networks.create(model, device).eval(), networks.pixels(count, device)
        dtype = autocast_dtype("auto" if kind == "convnet" else "fp32", device)

        @torch.inference_mode()
        def step() -> None:
            with autocast(device, dtype):
                answer(network, networks.normalised(pixels, network))

        return step

    return TimedStep(f"ask {kind} {model} {networks}", flops, kind, begin)


@dataclass(frozen=True)
class Sizes:
    """What a network takes: ``weights`` and ``activations`` (of one image, every layer's output) in
    bytes of float32, ``flops`` (operations of a forward pass of one image).
    """

    weights: int
    activations: int
    flops: int


def sizes(engine: Engine, model: ModelConfig) -> Sizes:
    """Sizes of a network of this run, counted on the meta device once."""
    fields = (model.name, model.width, model.norm, model.pretrained)
    return _sizes(fields, engine.num_classes, engine.preprocessing.resolution)


@lru_cache(maxsize=256)
def _sizes(model: tuple[Any, ...], num_classes: int, side: int) -> Sizes:
    from raydd.models.sizes import forward_flops, output_bytes, weight_bytes  # brings a compiler

    network = create_meta_model(ModelConfig(*model), num_classes, side)
    image = torch.empty(1, 3, side, side, device="meta")
    # the operations first: hooks that count bytes stay in the network
    flops = forward_flops(network, image)
    return Sizes(weight_bytes(network), output_bytes(network, image), flops)


def models_of(engine: Engine, checkpoint: Artifact) -> list[ModelConfig]:
    """Architectures of a checkpoint: one, or an ensemble's members."""
    card = engine.card(checkpoint)
    return [card.model, *card.others]


def weights(engine: Engine, checkpoint: Artifact) -> int:
    """Bytes of a checkpoint."""
    return sum(sizes(engine, model).weights for model in models_of(engine, checkpoint))


def asking_memory(engine: Engine, checkpoint: Artifact, batch: int) -> int:
    """Peak bytes of a network, or of an ensemble's members in turn, that only answers."""
    largest = max(sizes(engine, m).activations for m in models_of(engine, checkpoint))
    return weights(engine, checkpoint) + batch * largest


def asking_work(
    engine: Engine,
    models: Sequence[ModelConfig],
    images: float,
    batch: int,
    kind: str = "convnet",
) -> list[Work]:
    """Forward passes of each of some networks over so many images."""
    size = max(1, batch if images != images else int(min(batch, images)))  # nan: not known
    common = Networks.of(engine)
    return [
        Work(ask_step(common, model, sizes(engine, model).flops, kind), images / size, size)
        for model in models
    ]


def count_images(images: Sequence[Artifact]) -> int:
    """Images of all artifacts together."""
    return sum(sum(item.summary["counts"]) for item in images)
