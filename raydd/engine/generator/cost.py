"""What a generator takes, from its architecture alone."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from upath import UPath

from raydd.engine.cost import TimedStep
from raydd.engine.engine import Engine
from raydd.engine.generator.adopt import is_saved
from raydd.engine.generator.checkpoint import INDEX, load_part_config
from raydd.engine.generator.config import GeneratorConfig
from raydd.errors import Refused
from raydd.models.diffusion import create_transformer
from raydd.models.precision import autocast, autocast_dtype
from raydd.models.sizes import forward_flops, output_bytes, weight_bytes
from raydd.store.artifacts import Artifact

# Of every public VAE: Stable Diffusion's, arXiv 2112.10752, 4 channels at an eighth of the side.
_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}


@dataclass(frozen=True)
class GeneratorSizes:
    """What the transformer of a generator takes.

    Attributes:
        weights: bytes; a VAE adds 0.3 GB at most.
        activations: bytes for one image.
        flops: operations of a forward pass of one image.
        encoder: operations of the VAE for one image; 0 without a VAE.
        decoder: the same of the way back.
    """

    weights: int
    activations: int
    flops: int
    encoder: int
    decoder: int


def config_of(generator: Artifact) -> GeneratorConfig:
    """What a generator was made by, or where it lies."""
    planned = generator.summary.get("config")
    return planned or GeneratorConfig(path=str(generator.folder))


def works_in_latents(generator: Artifact) -> bool:
    """Whether a generator has a VAE, also where it is only planned."""
    config = config_of(generator)
    if config.is_trained or config.vae:
        return config.vae is not None
    index = UPath(config.path or "") / INDEX
    return not index.exists() or "vae" in json.loads(index.read_text())  # those of the hub have


def transformer_step(engine: Engine, config: GeneratorConfig, flops: int) -> TimedStep:
    """A forward pass of the transformer; reads no weights."""
    classes, side = engine.num_classes, engine.preprocessing.resolution

    def begin(count: int, device: torch.device) -> Callable[[], None]:
        with torch.device("meta"):
            network: Any = _meta_transformer(config, classes, side)
        network = network.to_empty(device=device).eval()
        for weight in (*network.parameters(), *network.buffers()):
            weight.data.zero_()  # what memory happens to hold may be slow to compute with
        shape, dtype = network.config, autocast_dtype("auto", device)
        sides = [shape.sample_size] * 2
        latents = torch.zeros(count, shape.in_channels, *sides, device=device)
        timesteps = torch.zeros(count, dtype=torch.int64, device=device)

        @torch.inference_mode()
        def step() -> None:
            with autocast(device, dtype):
                network(latents, timesteps, timesteps)

        return step

    return TimedStep(f"transformer {config} {classes} {side}", flops, "transformer", begin)


def sizes_of(engine: Engine, config: GeneratorConfig) -> GeneratorSizes:
    """Sizes of the generator of a run; see :func:`generator_sizes`."""
    return generator_sizes(config, engine.num_classes, engine.preprocessing.resolution)


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
    activations = output_bytes(transformer, latent, timestep, timestep)
    flops = forward_flops(transformer, latent, timestep, timestep)
    in_pixels = shape.sample_size == resolution
    return GeneratorSizes(weights, activations, flops, *((0, 0) if in_pixels else _vae(resolution)))


def _vae(resolution: int) -> tuple[int, int]:
    """Operations of a public VAE for one image: there, and back."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        network: Any = AutoencoderKL(**_VAE)
    image = torch.empty(1, 3, resolution, resolution, device="meta")
    latent = torch.empty(1, 4, *[resolution // 8] * 2, device="meta")
    return forward_flops(network.encoder, image), forward_flops(network.decoder, latent)


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
