"""DiffFit: fine-tune a diffusion transformer by few of its weights.

What moves is every bias, every norm, the class embeddings, and a scale per channel that is added to
both branches of each block of the first half. A scale multiplies the output of a linear layer, so
it is folded into that layer afterwards and the network keeps its shape. Source: Xie et al., arXiv
2304.06648, with the blocks of arXiv 2311.15529.
"""

from typing import Any

import torch
from torch import Tensor, nn


class ScaledLinear(nn.Module):
    """A linear layer whose output channels are scaled, at first by 1."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.gamma = nn.Parameter(torch.ones_like(linear.weight[:, 0]))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, L, D] to [B, L, E]."""
        return self.gamma * self.linear(tokens)

    def fold(self) -> nn.Linear:
        """The linear layer that computes the same."""
        with torch.no_grad():
            self.linear.weight.mul_(self.gamma[:, None])
            self.linear.bias.mul_(self.gamma)
        return self.linear


def start_diffit(transformer: Any) -> None:
    """Freeze a DiT (diffusers' ``DiTTransformer2DModel``) but for DiffFit's weights, in place."""
    transformer.requires_grad_(False)
    for module in transformer.modules():
        if isinstance(module, nn.LayerNorm):
            module.requires_grad_(True)
    for name, weight in transformer.named_parameters():
        if name.endswith(".bias") or ".class_embedder." in name:
            weight.requires_grad_(True)
    for layers, place in _scaled_places(transformer):
        layers[place] = ScaledLinear(layers[place])


def fold_scales(transformer: Any) -> None:
    """Undo :func:`start_diffit`'s layers, keeping what was learned, in place."""
    for layers, place in _scaled_places(transformer):
        layers[place] = layers[place].fold()
    transformer.requires_grad_(True)


def _scaled_places(transformer: Any) -> list[tuple[Any, int]]:
    """The last linear layer of both branches of the blocks of the first half."""
    blocks = transformer.transformer_blocks
    half = blocks[: -(-len(blocks) // 2)]
    return [(layers, place) for b in half for layers, place in ((b.attn1.to_out, 0), (b.ff.net, 2))]
