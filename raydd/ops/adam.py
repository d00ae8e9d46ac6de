"""Adam on the pixels of one batch: torch's own, by its functional form.

``torch.optim.Adam`` the object brings torch's compiler along, which every worker that synthesises
would pay for with 150 MB and more than a second at its start.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Moments of one tensor, and its fused step; no weight decay, epsilon 1e-8.

    Args:
        values: float32 of any shape, optimised in place.
        betas: decay of the first and the second moment, each in [0, 1).
    """

    def __init__(self, values: Tensor, betas: Sequence[float]) -> None:
        self.values, self.betas = values, betas
        self.first, self.second = torch.zeros_like(values), torch.zeros_like(values)
        self.count = torch.zeros((), device=values.device)

    @torch.no_grad()
    def step(self, gradient: Tensor, learning_rate: Tensor | float) -> None:
        """Move the values against a gradient of their shape and memory layout.

        A recorded step takes its learning rate as float32 on the device.
        """
        adam(
            [self.values],
            [gradient],
            [self.first],
            [self.second],
            [],
            [self.count],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
