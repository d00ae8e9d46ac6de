"""What a generator will need, from its architecture alone."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from upath import UPath

from raydd.engine.errors import Refused
from raydd.engine.generator_adopt import is_saved
from raydd.engine.generator_checkpoint import load_part_config
from raydd.engine.generator_config import GeneratorConfig
from raydd.models.diffusion import create_transformer
from raydd.models.sizes import output_bytes, weight_bytes

_TRIED, _MOST_TRIED = 0.2, 64  # seconds, images


@dataclass(frozen=True)
class GeneratorSizes:
    """What the transformer of a generator takes.

    Attributes:
        weights: bytes; a VAE adds 0.3 GB at most.
        activations: bytes for one image.
        seconds: of a forward pass per image, float32 on this machine's CPU, measured once.
    """

    weights: int
    activations: int
    seconds: float


def generator_sizes(config: GeneratorConfig, num_classes: int, resolution: int) -> GeneratorSizes:
    """Sizes and speed of a generator that is not made yet; reads no weights.

    Args:
        config: an architecture, or where weights lie.
        num_classes: of the source.
        resolution: R, side of the images, pixels.

    Raises:
        Refused: there is no transformer where the configuration says.
    """
    with torch.device("meta"):
        transformer: Any = _meta_transformer(config, num_classes, resolution)
    shape = transformer.config
    timestep = torch.zeros(1, dtype=torch.int64, device="meta")
    latent = torch.empty(1, shape.in_channels, *[shape.sample_size] * 2, device="meta")
    weights = weight_bytes(transformer)
    activations = output_bytes(transformer, latent, timestep, timestep)
    seconds = _forward_seconds(transformer.to_empty(device="cpu"), tuple(latent.shape))
    return GeneratorSizes(weights, activations, seconds)


@torch.inference_mode()
def _forward_seconds(transformer: Any, shape: tuple[int, ...]) -> float:
    for weight in (*transformer.parameters(), *transformer.buffers()):
        weight.zero_()  # what memory happens to hold may be slow to compute with
    count, seconds = 1, 0.0
    while seconds < _TRIED and count <= _MOST_TRIED:  # one image alone is mostly overhead
        latents, timesteps = torch.zeros(count, *shape[1:]), torch.zeros(count, dtype=torch.int64)
        started = time.perf_counter()
        transformer(latents, timesteps, timesteps)
        seconds, tried, count = time.perf_counter() - started, count, 4 * count
    return seconds / tried


def _meta_transformer(config: GeneratorConfig, num_classes: int, resolution: int) -> Any:
    from diffusers import DiTTransformer2DModel

    if config.is_trained:
        side = resolution // 8 if config.vae else resolution  # of every public VAE
        channels = 4 if config.vae else 3
        shape = (config.layers, config.heads, config.width, config.patch)
        try:
            return create_transformer(channels, side, num_classes, *shape)
        except ValueError as error:
            raise Refused(f"generator: {error}.") from error
    where = {"revision": config.revision} if config.revision else {}
    if is_saved(str(config.path)):  # perhaps on an object store
        values = load_part_config(UPath(str(config.path)) / "transformer")
        return DiTTransformer2DModel.from_config(values)
    try:
        values = DiTTransformer2DModel.load_config(
            str(config.path), subfolder="transformer", **where
        )
    except OSError as error:
        raise Refused(f"generator.path={config.path} holds no transformer.") from error
    return DiTTransformer2DModel.from_config(values)
