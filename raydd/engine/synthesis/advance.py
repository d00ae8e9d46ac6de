"""One step of the recover loop: loss terms, gradient, Adam, valid range; recorded on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from raydd.models.capture import captured
from raydd.models.precision import LossScale
from raydd.ops.optimizers import Adam


class Objective(Protocol):
    """Loss terms of a batch of images; may keep state between the steps of one unit.

    What :meth:`terms` and :meth:`stepped` keep from one step to the next they change in place: a
    recorded step computes on the memory that it was recorded with.

    Attributes:
        period: number of steps after which the same networks are asked again.
    """

    period: int

    def begin(self, origin: Tensor, labels: Tensor) -> None:
        """Start a unit: nothing of an earlier one may be left.

        Args:
            origin: float32 [B, 3, R, R], start images in normalised space.
            labels: int64 [B].
        """

    def terms(self, images: Tensor, rows: Tensor, columns: Tensor, step: int) -> dict[str, Tensor]:
        """Every loss term whose weight is not 0, unweighted, and their weighted "total".

        Args:
            images: float32 [B, 3, R, R], normalised; requires grad.
            rows: row matrices of the step's view, see :func:`raydd.ops.augment.view_matrices`.
            columns: column matrices.
            step: number of the step in the unit.
        """

    def stepped(self, images: Tensor) -> None:
        """Take note of the images after the optimiser's step."""


@dataclass(frozen=True)
class Recording:
    """Whether steps are recorded as CUDA graphs, which changes no byte.

    Attributes:
        mode: see :func:`raydd.models.capture.captured`.
        say: told where that failed.
    """

    mode: str = "auto"
    say: Callable[[str], None] = lambda message: None


class PixelSteps:
    """The optimisation of one unit's images.

    Args:
        objective: begun with this unit.
        images: float32 [B, 3, R, R]; requires grad, optimised in place.
        bounds: least and greatest value of each channel, [1, 3, 1, 1].
        betas: of Adam.
        rates: learning rate of each step.
        dtype: that the objective's networks compute in.
        recording: of the steps.
    """

    def __init__(
        self,
        objective: Objective,
        images: Tensor,
        bounds: tuple[Tensor, Tensor],
        betas: tuple[float, float],
        rates: list[float],
        dtype: torch.dtype,
        recording: Recording,
    ) -> None:
        self.objective, self.images, self.bounds = objective, images, bounds
        self.adam, self.scale = Adam(images, betas), LossScale(dtype, images.device)
        is_cpu = images.device.type == "cpu"
        self.rates = rates if is_cpu else torch.tensor(rates, device=images.device)
        self.steps = [
            captured(partial(self._step, number), images.device, recording.mode, recording.say)
            for number in range(objective.period)
        ]

    def __call__(self, number: int, rows: Tensor, columns: Tensor) -> dict[str, Tensor]:
        """Take a step and return its loss terms, which the next ones may overwrite.

        Args:
            number: of the step in the unit.
            rows: row matrices of its view.
            columns: column matrices.
        """
        step = self.steps[number % len(self.steps)]
        return step(rows, columns, self.rates[number])

    def _step(
        self, number: int, rows: Tensor, columns: Tensor, rate: Tensor | float
    ) -> dict[str, Tensor]:
        terms = self.objective.terms(self.images, rows, columns, number)
        gradient = self.scale.gradient(terms["total"], self.images)
        # the fused step walks through memory: both need one layout, or pixels are mixed up
        self.adam.step(gradient.contiguous(), rate)
        with torch.no_grad():
            self.images.clamp_(*self.bounds)
            self.objective.stepped(self.images)
        return {name: value.detach() for name, value in terms.items()}
