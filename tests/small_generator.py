"""Small generators with random weights, in pixels or in latents of a VAE."""

import torch
from diffusers import AutoencoderKL
from torch import nn

from raydd.models.diffusion import Generator, GeneratorCard, create_transformer

CLASSES, SIDE = 10, 16


def card(class_names: tuple[str, ...], scaling_factor: float = 1.0) -> GeneratorCard:
    """The transformer knows the classes in the opposite order."""
    ids = tuple(reversed(range(len(class_names))))
    return GeneratorCard("small", class_names, ids, SIDE, scaling_factor, "none")


def pixel_generator(class_names: tuple[str, ...] = tuple("abcdefghij")) -> Generator:
    """Works on images [3, 16, 16]."""
    return Generator(_transformer(3, SIDE, len(class_names)), None, card(class_names))


def latent_generator() -> Generator:
    """Works on latents [4, 8, 8] of images [3, 16, 16]."""
    transformer = _transformer(4, SIDE // 2, CLASSES)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE,
    )
    return Generator(transformer, vae, card(tuple("abcdefghij"), 0.18215))


def _transformer(channels: int, size: int, num_classes: int) -> nn.Module:
    torch.manual_seed(0)
    transformer = create_transformer(channels, size, num_classes, 2, 2, 16, 4)
    for weight in transformer.parameters():
        if not weight.any():  # what starts as the identity has to do something
            nn.init.normal_(weight, std=0.1)
    return transformer
