"""Torch's optimisers without its compiler.

Their methods tell the compiler where its graphs end, and bring it along for that: some 100 MB and
two seconds of every process that trains. Nothing here is compiled, so the methods below are those
inside. What makes images needs less: Adam on the pixels of one batch, by its functional form.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


def _uncompiled(kind: type[torch.optim.Optimizer]) -> dict[str, object]:
    """The methods of an optimiser that would import the compiler, as they are inside."""
    wrapped = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in wrapped}
    return {**methods, "step": torch.no_grad()(methods["step"])}


# made by `type`: a class statement would list methods of which none differs in what it does
AdamW: type[torch.optim.AdamW] = type("AdamW", (torch.optim.AdamW,), _uncompiled(torch.optim.AdamW))
SGD: type[torch.optim.SGD] = type("SGD", (torch.optim.SGD,), _uncompiled(torch.optim.SGD))


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
