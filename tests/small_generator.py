"""Small generators with random weights, in pixels or in latents of a VAE."""

import torch
from diffusers import AutoencoderKL
from torch import nn

from raydd.models.diffusion import Generator, GeneratorCard, create_transformer

NAMES = tuple("0123456789")
CLASSES, SIDE = len(NAMES), 16
SMALL = {"layers": 2, "heads": 2, "width": 32, "patch": 4}


def small_vae() -> AutoencoderKL:
    """Four channels, 16 pixels to 8."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE,
    )


def small_generator(
    class_names: tuple[str, ...] = NAMES, latent: bool = False, seed: int = 0
) -> Generator:
    """Random weights, none of them 0; 16 pixels."""
    torch.manual_seed(seed)
    channels, size = (4, SIDE // 2) if latent else (3, SIDE)
    transformer = create_transformer(channels, size, len(class_names), **SMALL)
    for weight in transformer.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    factor, ids = 0.5 if latent else 1.0, tuple(range(len(class_names)))
    card = GeneratorCard("small", class_names, ids, SIDE, factor, "mit")
    return Generator(transformer, small_vae() if latent else None, card).eval()


def pixel_generator(class_names: tuple[str, ...] = NAMES) -> Generator:
    """As torch starts it, only more awake; knows the classes in the opposite order."""
    return Generator(_transformer(3, SIDE, len(class_names)), None, _reversed(class_names, 1.0))


def latent_generator() -> Generator:
    """The same on latents [4, 8, 8] of images [3, 16, 16]."""
    return Generator(_transformer(4, SIDE // 2, CLASSES), small_vae(), _reversed(NAMES, 0.18215))


def _reversed(class_names: tuple[str, ...], scaling_factor: float) -> GeneratorCard:
    ids = tuple(reversed(range(len(class_names))))
    return GeneratorCard("small", class_names, ids, SIDE, scaling_factor, "none")


def _transformer(channels: int, size: int, num_classes: int) -> nn.Module:
    torch.manual_seed(0)
    transformer = create_transformer(channels, size, num_classes, 2, 2, 16, 4)
    for weight in transformer.parameters():
        if not weight.any():  # what starts as the identity has to do something
            nn.init.normal_(weight, std=0.1)
    return transformer
