"""What a classifier sees just before it decides: the input of its last linear layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class FeatureTap(nn.Module):
    """A classifier that returns its penultimate features beside its logits.

    Args:
        network: any classifier; of an ensemble the last member's features are returned.
        num_classes: C; a linear layer with another number of outputs is no head.
    """

    def __init__(self, network: nn.Module, num_classes: int):
        super().__init__()
        self.network = network
        self._features: Tensor | None = None
        for module in network.modules():
            if isinstance(module, nn.Linear) and module.out_features == num_classes:
                module.register_forward_hook(self._record)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, C] and features [B, D]; the logits again where there is no head."""
        self._features = None
        logits = self.network(images)
        return logits, logits if self._features is None else self._features

    def _record(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        if inputs[0].ndim == 2:  # the last call wins: heads come last
            self._features = inputs[0]
