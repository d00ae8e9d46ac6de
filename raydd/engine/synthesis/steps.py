"""Steps of the recover loop as a plan counts and times them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from raydd.engine.cost import BACKWARD, Networks, TimedStep
from raydd.engine.synthesis.advance import Objective
from raydd.engine.synthesis.loop import LoopConfig, Recovery
from raydd.engine.synthesis.observers import MatchConfig, ObserverObjective
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherObjective
from raydd.models.registry import ModelConfig


def recover_step(
    networks: Networks, models: Sequence[ModelConfig], config: SynthesisConfig, flops: int
) -> TimedStep:
    """A step against a teacher and, maybe, a student: forward, and to the pixels.

    Args:
        networks: what those of the run have in common.
        models: the teacher's and, where it is asked, the student's architecture.
        config: of the loop.
        flops: of a forward pass of one image through all of them.
    """

    def begin(count: int, device: torch.device) -> Callable[[], None]:
        teacher, *others = [networks.create(model, device) for model in models]
        student = others[0].eval() if others else None
        once = replace(config, steps=1, compile=False)
        objective = TeacherObjective(teacher, student, once, device)
        return _timed(networks, objective, once, count, device)

    return TimedStep(f"recover {models} {config} {networks}", BACKWARD * flops, "convnet", begin)


def match_step(
    networks: Networks,
    models: Sequence[ModelConfig],
    patch: int,
    config: MatchConfig,
    flops: int,
) -> TimedStep:
    """A round, one step for each observer; arguments as above, and the side of a tile, pixels.

    The running average of the images is asked without a gradient.
    """
    passes = BACKWARD + (config.flatness_weight > 0)

    def begin(count: int, device: torch.device) -> Callable[[], None]:
        observers = [networks.create(model, device) for model in models]

        def targets(number: int, labels: Sequence[int]) -> Tensor:
            return torch.zeros(2, 2, sum(objective.taps[number].sizes))

        side = networks.preprocessing.resolution
        once = replace(config, steps=len(models), compile=False)
        objective = ObserverObjective(observers, targets, once, side, patch, device)
        return _timed(networks, objective, once, count, device)

    return TimedStep(
        f"match {models} {patch} {config} {networks}", passes * flops, "convnet", begin
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
