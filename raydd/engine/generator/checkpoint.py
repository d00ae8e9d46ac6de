"""Generators on disk, in the layout of the diffusers hub: others open them too.

```
generator.json                                  the card, written last
model_index.json                                the parts' classes, and the classes' names
transformer/  vae/                              config.json, diffusion_pytorch_model.safetensors
scheduler/scheduler_config.json
```
"""

import json
from dataclasses import asdict
from typing import Any

import safetensors.torch
from upath import UPath

from raydd.models.diffusion import Generator, GeneratorCard, new_scheduler
from raydd.store.files import write_atomic

GENERATOR_CARD, INDEX = "generator.json", "model_index.json"
_CONFIG, _WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


def save_generator(folder: UPath, generator: Generator) -> None:
    """Write a generator; the card last, so that it implies whole weights."""
    import diffusers

    parts: dict[str, Any] = {"transformer": generator.transformer}
    if generator.vae is not None:
        parts["vae"] = generator.vae
    for name, part in parts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        state = {key: value.contiguous().cpu() for key, value in part.state_dict().items()}
        weights = safetensors.torch.save(state, metadata={"format": "pt"})
        write_atomic(folder / name / _WEIGHTS, weights)
        write_atomic(folder / name / _CONFIG, part.to_json_string().encode())
    scheduler: Any = new_scheduler()
    (folder / "scheduler").mkdir(exist_ok=True)
    write_atomic(
        folder / "scheduler" / "scheduler_config.json", scheduler.to_json_string().encode()
    )
    card = generator.card
    index = {
        "_class_name": "DiTPipeline",
        "_diffusers_version": diffusers.__version__,
        "id2label": dict(zip(map(str, card.class_ids), card.class_names, strict=True)),
        **{
            name: ["diffusers", type(part).__name__]
            for name, part in {**parts, "scheduler": scheduler}.items()
        },
    }
    write_atomic(folder / INDEX, json.dumps(index, indent=1).encode())
    write_atomic(folder / GENERATOR_CARD, json.dumps(asdict(card), indent=1).encode())


def load_generator_card(folder: UPath) -> GeneratorCard:
    """Read the card alone."""
    values = json.loads((folder / GENERATOR_CARD).read_text())
    for name in ("class_names", "class_ids"):
        values[name] = tuple(values[name])
    return GeneratorCard(**values)


def load_generator(folder: UPath) -> Generator:
    """Rebuild a saved generator on the CPU, in float32, in eval mode."""
    from diffusers import AutoencoderKL, DiTTransformer2DModel

    transformer = _load_part(DiTTransformer2DModel, folder / "transformer")
    has_vae = "vae" in json.loads((folder / INDEX).read_text())
    vae = _load_part(AutoencoderKL, folder / "vae") if has_vae else None
    return Generator(transformer, vae, load_generator_card(folder)).eval()


def load_part_config(folder: UPath) -> dict[str, Any]:
    """Architecture of a part, from its folder ``transformer`` or ``vae``."""
    return json.loads((folder / _CONFIG).read_text())


def _load_part(kind: Any, folder: UPath) -> Any:
    part = kind.from_config(load_part_config(folder))
    part.load_state_dict(safetensors.torch.load((folder / _WEIGHTS).read_bytes()))
    return part.float()
