"""Generators that exist already, and fresh ones: what a training starts from."""

import json
from pathlib import Path
from typing import Any

import torch
from upath import UPath

from raydd.engine.generator.checkpoint import GENERATOR_CARD, INDEX, load_generator
from raydd.engine.generator.classes import match_described_classes, match_saved_classes
from raydd.engine.generator.config import GeneratorConfig
from raydd.errors import Refused
from raydd.models.diffusion import Generator, GeneratorCard, create_transformer
from raydd.ops.seeds import derive_seed

_DIT, _DIT_LICENCE = "facebook/DiT-", "cc-by-nc-4.0"
OWN_LICENCE = "as the training images"


def adopt_generator(
    config: GeneratorConfig, class_names: tuple[str, ...], resolution: int
) -> Generator:
    """A generator from the hub, a folder in its layout, or a folder of raydd's.

    Args:
        config: its path, and what differs from what lies there.
        class_names: of the source.
        resolution: R of the source's preprocessing, pixels.

    Raises:
        Refused: nothing is there, it has another layout or resolution, it does not know a class of
            the source, or its licence is not known.
    """
    if is_saved(str(config.path)):
        generator = _adopt_saved(config, class_names)
    else:
        generator = _adopt_public(config, class_names)
    if (made := generator.card.resolution) != resolution:
        raise Refused(
            f"generator.path={config.path} makes images of {made} pixels, the data set has "
            f"{resolution}: set dataset.resolution={made} and dataset.resize={made}."
        )
    return generator


def fresh_generator(
    config: GeneratorConfig, class_names: tuple[str, ...], resolution: int, seed: int
) -> Generator:
    """An untrained generator of the configured architecture.

    Args:
        config: architecture, VAE and licence.
        class_names: of the source.
        resolution: R, side of the images, pixels.
        seed: run seed; fixes the weights.

    Raises:
        Refused: the patch does not divide the side of a latent.
    """
    vae = load_vae(config) if config.vae else None
    channels = 3 if vae is None else int(vae.config.latent_channels)
    if resolution % _downscale(vae):
        raise Refused(
            f"generator.vae={config.vae} needs images of a multiple of {_downscale(vae)} pixels, "
            f"the data set has {resolution}."
        )
    size = resolution // _downscale(vae)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "generator", "init"))
        try:
            transformer = create_transformer(
                channels,
                size,
                len(class_names),
                config.layers,
                config.heads,
                config.width,
                config.patch,
            )
        except ValueError as error:
            raise Refused(f"generator: {error}.") from error
    card = GeneratorCard(
        f"DiT of {config.layers} blocks, width {config.width}, patch {config.patch}",
        class_names,
        tuple(range(len(class_names))),
        resolution,
        _scaling_factor(vae),
        config.licence or OWN_LICENCE,
    )
    return Generator(transformer, vae, card)


def is_saved(path: str) -> bool:
    """Whether a path is a folder that raydd saved a generator in."""
    return (UPath(path) / GENERATOR_CARD).exists()


def load_vae(config: GeneratorConfig) -> Any:
    """The VAE that the configuration names, a repository or folder of its own."""
    from diffusers import AutoencoderKL

    return _load_part(AutoencoderKL, config.vae, "generator.vae", {})


def _adopt_saved(config: GeneratorConfig, class_names: tuple[str, ...]) -> Generator:
    generator = load_generator(UPath(str(config.path)))
    card = generator.card
    return _with_card(
        generator.transformer,
        load_vae(config) if config.vae else generator.vae,
        card.name,
        class_names,
        match_saved_classes(class_names, card),
        config.licence or card.licence,
    )


def _adopt_public(config: GeneratorConfig, class_names: tuple[str, ...]) -> Generator:
    from diffusers import AutoencoderKL, DiTTransformer2DModel

    path = str(config.path)
    licence = config.licence or (_DIT_LICENCE if path.startswith(_DIT) else None)
    if licence is None:
        raise Refused(
            f"generator.licence must name the licence of {path}: what is sampled from the weights "
            "inherits it."
        )
    index = _read_index(config)
    if not index.get("id2label"):
        raise Refused(f"generator.path={path} does not say which classes it knows (id2label).")
    labels = {int(number): text for number, text in index["id2label"].items()}
    class_ids = match_described_classes(class_names, labels)
    version = {"revision": config.revision} if config.revision else {}
    transformer = _load_part(
        DiTTransformer2DModel, path, "generator.path", {"subfolder": "transformer", **version}
    )
    if config.vae:
        vae = load_vae(config)
    elif "vae" in index:
        vae = _load_part(AutoencoderKL, path, "generator.path", {"subfolder": "vae", **version})
    else:
        vae = None
    return _with_card(transformer, vae, path, class_names, class_ids, licence)


def _with_card(
    transformer: Any,
    vae: Any,
    name: str,
    class_names: tuple[str, ...],
    class_ids: tuple[int, ...],
    licence: str,
) -> Generator:
    channels = 3 if vae is None else int(vae.config.latent_channels)
    if transformer.config.in_channels != channels:
        raise Refused(
            f"the transformer of {name} works on {transformer.config.in_channels} channels, but "
            f"{'pixels' if vae is None else 'the latents of its VAE'} have {channels}."
        )
    resolution = int(transformer.config.sample_size) * _downscale(vae)
    card = GeneratorCard(name, class_names, class_ids, resolution, _scaling_factor(vae), licence)
    try:
        return Generator(transformer, vae, card)
    except ValueError as error:
        raise Refused(f"{name}: {error}.") from error


def _read_index(config: GeneratorConfig) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download  # brings a client of the web

    path = str(config.path)
    try:
        if Path(path).is_dir():
            file = Path(path) / INDEX
        else:
            file = Path(hf_hub_download(path, INDEX, revision=config.revision))
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"generator.path={path} has no readable {INDEX}: {_first(error)}.") from error


def _load_part(kind: Any, path: str | None, key: str, where: dict[str, str]) -> Any:
    """A part of diffusers', float32 on the CPU; pickled weights are read with weights_only."""
    try:
        part, report = kind.from_pretrained(path, output_loading_info=True, **where)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise Refused(f"{key}={path} is no {kind.__name__}: {_first(error)}.") from error
    if odd := [*report["missing_keys"], *report["mismatched_keys"], *report["unexpected_keys"]]:
        raise Refused(f"{key}={path} does not fit {kind.__name__}: {odd[0]} and others differ.")
    return part.float()


def _downscale(vae: Any) -> int:
    """Pixels per side of a latent's cell."""
    return 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)


def _scaling_factor(vae: Any) -> float:
    return 1.0 if vae is None else float(vae.config.scaling_factor)


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
