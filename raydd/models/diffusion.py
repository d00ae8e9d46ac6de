"""Class-conditional diffusion transformers, in latents of a VAE or in pixels.

The networks are diffusers' (``DiTTransformer2DModel``, ``AutoencoderKL``), the folder has its hub's
layout (``transformer/``, ``vae/``): public weights and our own are one kind of thing.
Source: Peebles and Xie, arXiv 2212.09748.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:  # five seconds to import: only who makes a generator pays
    from diffusers import AutoencoderKL, DDPMScheduler, DiTTransformer2DModel

TRAIN_STEPS = 1000  # T of every DiT; t runs from 0, nearly clean, to T - 1, nearly noise
_BETAS = (1e-4, 0.02)  # linear


@dataclass(frozen=True)
class GeneratorCard:
    """What a user of a generator must know.

    Attributes:
        name: for people.
        class_names: of the source, in order.
        class_ids: the number by which the transformer knows each class of the source.
        resolution: R, side of the images, pixels.
        scaling_factor: latents are this times the VAE's; 1 in pixel space.
        licence: of the weights; what is sampled from them inherits its conditions.
    """

    name: str
    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]
    resolution: int
    scaling_factor: float
    licence: str


class Generator(nn.Module):
    """A transformer that predicts noise, its VAE where it has one, and its card.

    Args:
        transformer: predicts noise and the interpolation of its variance, 2 C channels of C.
        vae: between latents and images; None works on pixels.
        card: see :class:`GeneratorCard`.

    Attributes:
        latent_shape: (C, h, w) of one latent.
        null_class: the class id that stands for no class.

    Raises:
        ValueError: the transformer has another number of output channels than twice its input's.
    """

    def __init__(
        self, transformer: DiTTransformer2DModel, vae: AutoencoderKL | None, card: GeneratorCard
    ) -> None:
        super().__init__()
        # diffusers does not declare attributes and decorators
        self.transformer = cast(Any, transformer)
        self.vae: Any = vae
        self.card = card
        config = self.transformer.config
        if config.out_channels != 2 * config.in_channels:
            raise ValueError(
                f"the transformer has {config.out_channels} output channels; sampling needs "
                f"{2 * config.in_channels}: noise and variance of each input channel"
            )
        self.latent_shape = (config.in_channels, config.sample_size, config.sample_size)
        self.null_class = int(config.num_embeds_ada_norm)
        for block in self.transformer.transformer_blocks:
            # in training each block would drop classes of its own; whoever trains drops them once
            block.norm1.emb.class_embedder.dropout_prob = 0.0

    def forward(self, noisy: Tensor, timesteps: Tensor, class_ids: Tensor) -> Tensor:
        """Predicted noise and variance interpolation in [-1, 1].

        Args:
            noisy: x_t [B, C, h, w].
            timesteps: t, int64 [B], 0 to T - 1.
            class_ids: the transformer's, int64 [B].
        Returns:
            [B, 2 C, h, w].
        """
        return self.transformer(noisy, timesteps, class_ids, return_dict=False)[0]

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Latents [B, C, h, w] of images [B, 3, R, R] in [-1, 1].

        Args:
            images: in [-1, 1].
            noise: normal, [B, C, h, w], draws from the VAE's posterior; None takes its mean.
        """
        if self.vae is None:
            return images
        mean, std = self.posterior(images)
        return self.draw(mean, None if noise is None else std, noise)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the VAE's latents of images in [-1, 1], [B, C, h, w] each."""
        posterior = self.vae.encode(images).latent_dist
        return posterior.mean, posterior.std

    def draw(self, mean: Tensor, std: Tensor | None, noise: Tensor | None) -> Tensor:
        """Latents out of a :meth:`posterior`, by normal noise; without, its mean."""
        drawn = mean if std is None or noise is None else mean + std * noise
        return drawn * self.card.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, R, R], about [-1, 1], of latents [B, C, h, w]; gradients pass."""
        if self.vae is None:
            return latents
        return self.vae.decode(latents / self.card.scaling_factor).sample


def new_scheduler() -> DDPMScheduler:
    """DiT's noise schedule and ancestral step, learned variance, nothing clipped."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=_BETAS[0],
        beta_end=_BETAS[1],
        beta_schedule="linear",
        variance_type="learned_range",
        clip_sample=False,
        timestep_spacing="linspace",
    )


def create_transformer(
    channels: int, size: int, num_classes: int, layers: int, heads: int, width: int, patch: int
) -> DiTTransformer2DModel:
    """A DiT with fresh weights, from torch's global generator.

    Args:
        channels: C of a latent (3 in pixel space).
        size: side of a latent.
        num_classes: of the source; the null class is added.
        layers: blocks.
        heads: of the attention; must divide the width.
        width: of a token.
        patch: side of a token's patch.
    """
    from diffusers import DiTTransformer2DModel

    if width % heads or size % patch:
        raise ValueError(
            f"heads={heads} must divide width={width}, and patch={patch} the side {size}"
        )
    transformer = DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        in_channels=channels,
        out_channels=2 * channels,
        num_layers=layers,
        attention_bias=True,
        sample_size=size,
        patch_size=patch,
        num_embeds_ada_norm=num_classes,
    )
    _start_at_identity(transformer)
    return transformer


def _start_at_identity(transformer: Any) -> None:
    """DiT's adaLN-Zero: every block starts as the identity, the output as zero."""
    modulations = [block.norm1.linear for block in transformer.transformer_blocks]
    for module in (*modulations, transformer.proj_out_1, transformer.proj_out_2):
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
