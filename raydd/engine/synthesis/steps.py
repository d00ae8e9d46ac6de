"""Steps of the recover loop as a plan counts and times them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raydd.engine.cost import BACKWARD, Networks, models_of, sizes
from raydd.engine.engine import Engine
from raydd.engine.synthesis.loop import LoopConfig, Objective, Recovery
from raydd.engine.synthesis.observers import MatchConfig, ObserverObjective
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherObjective
from raydd.models.registry import ModelConfig
from raydd.store.artifacts import Artifact


@dataclass(frozen=True)
class RecoverStep:
    """A step against a teacher and, maybe, a student.

    Attributes:
        networks: see :class:`raydd.engine.cost.Networks`.
        teacher: architecture.
        student: architecture of the adversary, if it is asked.
        config: of the loop.
        flops: of one image.
        weights: bytes of the networks.
        activations: bytes of all layers' outputs for one image.
        kind: of work.
    """

    networks: Networks
    teacher: ModelConfig
    student: ModelConfig | None
    config: SynthesisConfig
    flops: int
    weights: int = 0
    activations: int = 0
    kind: str = "convnet"

    def begin(self, count: int, device: torch.device) -> Callable[[], None]:
        """See :class:`raydd.engine.cost.TimedStep`."""
        teacher = self.networks.create(self.teacher, device)
        student = self.networks.create(self.student, device).eval() if self.student else None
        config = replace(self.config, steps=1, compile=False)
        objective = TeacherObjective(teacher, student, config, device)
        return _timed(self.networks, objective, config, count, device)


def recover_step(
    engine: Engine, teacher: Artifact, student: Artifact | None, config: SynthesisConfig
) -> RecoverStep:
    """The step of a run's loop: forward, and to the pixels."""
    asked = student if config.adversarial_weight > 0 else None
    model, *_ = models_of(engine, teacher)
    other = models_of(engine, asked)[0] if asked else None
    found = [sizes(engine, network) for network in (model, other) if network]
    return RecoverStep(
        Networks.of(engine),
        model,
        other,
        config,
        BACKWARD * sum(item.flops for item in found),
        sum(item.weights for item in found),
        sum(item.activations for item in found),
    )


@dataclass(frozen=True)
class MatchStep:
    """A round of the loop, one step for each observer; fields as above."""

    networks: Networks
    observers: tuple[ModelConfig, ...]
    patch: int
    config: MatchConfig
    flops: int
    weights: int = 0
    activations: int = 0
    kind: str = "convnet"

    def begin(self, count: int, device: torch.device) -> Callable[[], None]:
        """See :class:`raydd.engine.cost.TimedStep`."""
        models = [self.networks.create(model, device) for model in self.observers]

        def targets(number: int, labels: Sequence[int]) -> Tensor:
            return torch.zeros(2, 2, sum(objective.taps[number].sizes))

        side, config = self.networks.preprocessing.resolution, self.config
        config = replace(config, steps=len(models), compile=False)
        objective = ObserverObjective(models, targets, config, side, self.patch, device)
        return _timed(self.networks, objective, config, count, device)


def match_step(
    engine: Engine, observers: Sequence[Artifact], patch: int, config: MatchConfig
) -> MatchStep:
    """The round of a run's loop; the targets of a unit are a few rows of the statistics.

    Forward and to the pixels; the running average of the images is asked without a gradient.
    """
    models = [model for item in observers for model in models_of(engine, item)]
    found = [sizes(engine, model) for model in models]
    passes = BACKWARD + (config.flatness_weight > 0)
    return MatchStep(
        Networks.of(engine),
        tuple(models),
        patch,
        config,
        passes * sum(item.flops for item in found),
        sum(item.weights for item in found),
        max(item.activations for item in found),
    )


def _timed(
    networks: Networks, objective: Objective, config: LoopConfig, count: int, device: torch.device
) -> Callable[[], None]:
    """The loop over made-up images."""
    preprocessing = networks.preprocessing
    side = preprocessing.resolution
    recovery = Recovery(objective, config, preprocessing.mean, preprocessing.std, side, device)
    start, labels = networks.pixels(count, torch.device("cpu")), networks.labels(count)

    def step() -> None:
        recovery.run(start, labels, ("plan",))

    return step
