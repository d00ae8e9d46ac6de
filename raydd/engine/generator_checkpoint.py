"""Generators on disk: weights of the transformer and the VAE beside a json card."""

import json
from dataclasses import asdict

import safetensors.torch
from diffusers import AutoencoderKL, DiTTransformer2DModel
from upath import UPath

from raydd.engine.stages import write_atomic
from raydd.models.diffusion import Generator, GeneratorCard


def save_generator(folder: UPath, generator: Generator) -> None:
    """Write weights and card; the card last, so that it implies whole weights."""
    state = {name: value.contiguous().cpu() for name, value in generator.state_dict().items()}
    vae = generator.vae
    write_atomic(folder / "generator.safetensors", safetensors.torch.save(state))
    card = {
        "card": asdict(generator.card),
        "transformer": dict(generator.transformer.config),
        "vae": None if vae is None else dict(vae.config),
    }
    write_atomic(folder / "generator.json", json.dumps(card, indent=1).encode())


def load_generator(folder: UPath) -> Generator:
    """Rebuild a generator on the CPU, in float32."""
    values = json.loads((folder / "generator.json").read_text())
    card = values["card"] | {
        name: tuple(values["card"][name]) for name in ("class_names", "class_ids")
    }
    vae = None if values["vae"] is None else AutoencoderKL.from_config(values["vae"])
    transformer = DiTTransformer2DModel.from_config(values["transformer"])
    generator = Generator(transformer, vae, GeneratorCard(**card))
    generator.load_state_dict(
        safetensors.torch.load((folder / "generator.safetensors").read_bytes())
    )
    return generator
