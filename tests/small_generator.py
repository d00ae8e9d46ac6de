"""Small generators with random weights."""

import torch
from diffusers import AutoencoderKL

from raydd.models.diffusion import Generator, GeneratorCard, create_transformer

NAMES = tuple("0123456789")
SMALL = {"layers": 2, "heads": 2, "width": 32, "patch": 4}


def small_vae() -> AutoencoderKL:
    """Four channels, 16 pixels to 8."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )


def small_generator(
    class_names: tuple[str, ...] = NAMES, latent: bool = False, seed: int = 0
) -> Generator:
    """Random weights, none of them 0; 16 pixels."""
    torch.manual_seed(seed)
    channels, size = (4, 8) if latent else (3, 16)
    transformer = create_transformer(channels, size, len(class_names), **SMALL)
    for weight in transformer.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    card = GeneratorCard(
        "small", class_names, tuple(range(len(class_names))), 16, 0.5 if latent else 1.0, "mit"
    )
    return Generator(transformer, small_vae() if latent else None, card).eval()
