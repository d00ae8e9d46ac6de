"""The respaced steps of DiT's ancestral sampling."""

from dataclasses import dataclass
from typing import Any

import torch

from raydd.models.diffusion import new_scheduler


@dataclass(frozen=True)
class Step:
    """One step of the respaced schedule.

    Attributes:
        number: k, counted from the clean end.
        timestep: t by which the network knows it.
        alpha: cumulated product of 1 - beta, in (0, 1).
        previous: alpha of step k - 1; 1 for k = 0.
    """

    number: int
    timestep: int
    alpha: float
    previous: float


def sampling_steps(steps: int) -> list[Step]:
    """The steps in the order of sampling: from noise, k = steps - 1, to k = 0."""
    scheduler: Any = new_scheduler()  # diffusers does not declare what its decorators add
    scheduler.set_timesteps(steps)
    # its own cumulated product is in float32, and 1 - alpha is 1e-4 at the clean end
    alphas = torch.cumprod(1 - scheduler.betas.double(), 0)
    times = scheduler.timesteps.tolist()
    chosen = [*alphas[times].tolist(), 1.0]
    return [Step(steps - 1 - i, t, chosen[i], chosen[i + 1]) for i, t in enumerate(times)]
