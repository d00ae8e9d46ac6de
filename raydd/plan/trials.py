"""Steps of the stages, with the code that runs in them, on made-up images.

Each is a :class:`raydd.plan.work.Trial`. Weights are fresh: how long an operation takes
does not depend on them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from raydd.data.preprocessing import Preprocessing
from raydd.engine.passes.statistics_sums import add_statistics
from raydd.engine.synthesis.loop import LoopConfig, Objective, Recovery
from raydd.engine.synthesis.observers import MatchConfig, ObserverObjective
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherObjective
from raydd.engine.training.data import Batch
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import Training
from raydd.models.observer import ObserverTap
from raydd.models.precision import autocast, autocast_dtype
from raydd.models.preprocess import normalise
from raydd.models.registry import ModelConfig, create_model
from raydd.ops.recipe import Recipe
from raydd.ops.seeds import generator


@dataclass(frozen=True)
class Networks:
    """What networks of a run have in common.

    Attributes:
        num_classes: C.
        preprocessing: of their input.
    """

    num_classes: int
    preprocessing: Preprocessing

    def create(self, model: ModelConfig, device: torch.device) -> nn.Module:
        """A network without its weights' values, channels last."""
        fresh = replace(model, pretrained=False)
        network = create_model(fresh, self.num_classes, self.preprocessing.resolution)
        return network.to(device).to(memory_format=torch.channels_last)

    def pixels(self, count: int, device: torch.device, side: int | None = None) -> Tensor:
        """Random pixels uint8 [count, 3, S, S]; S is the resolution if nothing else is said."""
        side = side or self.preprocessing.resolution
        draws = generator("plan", "pixels")
        shape = (count, 3, side, side)
        return torch.randint(256, shape, dtype=torch.uint8, generator=draws).to(device)

    def labels(self, count: int) -> Tensor:
        """Classes int64 [count]."""
        return torch.arange(count) % self.num_classes

    def normalised(self, pixels: Tensor) -> Tensor:
        """Input of a network."""
        images = normalise(pixels, self.preprocessing.mean, self.preprocessing.std)
        return images.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class TrainTrial:
    """A training step: views, loss, gradient, optimiser; the teacher is work of its own.

    Attributes:
        networks: see there.
        model: what is trained.
        recipe: of the training.
        side: of the stored images, pixels.
        flip: probability of a mirrored view.
        flops: of one image in a step.
        kind: of work.
    """

    networks: Networks
    model: ModelConfig
    recipe: Recipe
    side: int
    flip: float
    flops: int
    kind: str = "convnet"

    def begin(self, count: int, device: torch.device) -> Callable[[], None]:
        """See :class:`Trial`."""
        job = TrainJob(
            folder="",
            model=replace(self.model, pretrained=False),
            class_names=tuple(map(str, range(self.networks.num_classes))),
            preprocessing=self.networks.preprocessing,
            images=(),
            resolution=self.side,
            recipe=self.recipe,
            flip=self.flip,
            seed_parts=("plan",),
            stage="plan",
            num_images=count,
            device=device.type,
        )
        training, draws = Training(job, rank=0, world=1), generator("plan", "views")
        pixels = self.networks.pixels(count, device, self.side)
        batch = Batch(pixels, self.networks.labels(count).to(device))

        def step() -> None:
            training.step(batch, draws)

        return step


@dataclass(frozen=True)
class AskTrial:
    """A forward pass.

    Attributes:
        networks: see there.
        model: what is asked.
        flops: of one image.
        kind: of work; all but "convnet" compute in float32.
    """

    networks: Networks
    model: ModelConfig
    flops: int
    kind: str = "convnet"

    def begin(self, count: int, device: torch.device) -> Callable[[], None]:
        """See :class:`Trial`."""
        network = self.networks.create(self.model, device).eval()
        pixels = self.networks.pixels(count, device)
        dtype = autocast_dtype("auto" if self.kind == "convnet" else "fp32", device)

        @torch.inference_mode()
        def step() -> None:
            with autocast(device, dtype):
                network(self.networks.normalised(pixels))

        return step


@dataclass(frozen=True)
class StatisticsTrial:
    """A batch of the statistics pass.

    Attributes:
        networks: see there.
        model: observer.
        patch: side of a tile, pixels.
        flops: of one image.
        kind: of work.
    """

    networks: Networks
    model: ModelConfig
    patch: int
    flops: int
    kind: str = "float32"

    def begin(self, count: int, device: torch.device) -> Callable[[], None]:
        """See :class:`Trial`."""
        network = self.networks.create(self.model, device).eval()
        side = self.networks.preprocessing.resolution
        tap = ObserverTap(network, side, self.patch, per_image=True)
        total = torch.zeros(1, 3, sum(tap.sizes), dtype=torch.float64)
        pixels, labels = self.networks.pixels(count, device), torch.zeros(count, dtype=torch.int64)

        def step() -> None:
            add_statistics(total, labels, tap, self.networks.normalised(pixels))

        return step


@dataclass(frozen=True)
class RecoverTrial:
    """A step of the recover loop against a teacher and, maybe, a student; fields as above."""

    networks: Networks
    teacher: ModelConfig
    student: ModelConfig | None
    config: SynthesisConfig
    flops: int
    kind: str = "convnet"

    def begin(self, count: int, device: torch.device) -> Callable[[], None]:
        """See :class:`Trial`."""
        teacher = self.networks.create(self.teacher, device)
        student = self.networks.create(self.student, device).eval() if self.student else None
        config = replace(self.config, steps=1, compile=False)
        objective = TeacherObjective(teacher, student, config, device)
        return _recover(self.networks, objective, config, count, device)


@dataclass(frozen=True)
class MatchTrial:
    """A round of the recover loop, one step for each observer; fields as above."""

    networks: Networks
    observers: tuple[ModelConfig, ...]
    patch: int
    config: MatchConfig
    flops: int
    kind: str = "convnet"

    def begin(self, count: int, device: torch.device) -> Callable[[], None]:
        """See :class:`Trial`."""
        models = [self.networks.create(model, device) for model in self.observers]

        def targets(number: int, labels: Sequence[int]) -> Tensor:
            return torch.zeros(2, 2, sum(objective.taps[number].sizes))

        side, config = self.networks.preprocessing.resolution, self.config
        config = replace(config, steps=len(models), compile=False)
        objective = ObserverObjective(models, targets, config, side, self.patch, device)
        return _recover(self.networks, objective, config, count, device)


def _recover(
    networks: Networks, objective: Objective, config: LoopConfig, count: int, device: torch.device
) -> Callable[[], None]:
    preprocessing = networks.preprocessing
    side = preprocessing.resolution
    recovery = Recovery(objective, config, preprocessing.mean, preprocessing.std, side, device)
    start, labels = networks.pixels(count, torch.device("cpu")), networks.labels(count)

    def step() -> None:
        recovery.run(start, labels, ("plan",))

    return step
