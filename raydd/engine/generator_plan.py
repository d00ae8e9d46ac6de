"""What a generator will need, from its architecture alone."""

import json
from dataclasses import dataclass
from typing import Any

import torch
from upath import UPath

from raydd.engine.errors import Refused
from raydd.engine.generator_adopt import is_saved
from raydd.engine.generator_config import GeneratorConfig
from raydd.models.diffusion import create_transformer
from raydd.models.sizes import output_bytes, weight_bytes


@dataclass(frozen=True)
class GeneratorSizes:
    """Bytes.

    Attributes:
        weights: of the transformer; a VAE adds 0.3 GB at most.
        activations: of the transformer for one image.
    """

    weights: int
    activations: int


def generator_sizes(config: GeneratorConfig, num_classes: int, resolution: int) -> GeneratorSizes:
    """Sizes of a generator that is not made yet; reads no weights.

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
    return GeneratorSizes(weights, output_bytes(transformer, latent, timestep, timestep))


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
        text = (UPath(str(config.path)) / "transformer" / "config.json").read_text()
        return DiTTransformer2DModel.from_config(json.loads(text))
    try:
        values = DiTTransformer2DModel.load_config(
            str(config.path), subfolder="transformer", **where
        )
    except OSError as error:
        raise Refused(f"generator.path={config.path} holds no transformer.") from error
    return DiTTransformer2DModel.from_config(values)
