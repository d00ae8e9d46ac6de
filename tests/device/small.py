"""Small networks, images and trainings for the loops of the virtual device."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from upath import UPath

from raydd.engine.training.job import TrainJob
from raydd.models.registry import ModelConfig, create_model
from raydd.ops.recipe import Recipe
from raydd.store.checkpoint import CheckpointCard, save_checkpoint
from small_engine import PREPROCESSING, TINY

NAMES = tuple("0123456789")
SIDE = 16
MEAN, STD = PREPROCESSING.mean, PREPROCESSING.std


def network(model: ModelConfig = TINY, seed: int = 0, side: int = SIDE) -> nn.Module:
    """In eval mode, with running statistics of noise."""
    torch.manual_seed(seed)
    made = create_model(model, len(NAMES), side)
    made(torch.randn(16, 3, side, side))
    return made.eval()


def save_network(folder: Path, seed: int = 0) -> str:
    """A checkpoint of :func:`network`."""
    folder.mkdir()
    card = CheckpointCard(TINY, NAMES, PREPROCESSING)
    save_checkpoint(UPath(folder), network(seed=seed), card)
    return str(folder)


def pixels(count: int, side: int = SIDE) -> torch.Tensor:
    """Random uint8 [count, 3, side, side]."""
    draws = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=draws)


def train_job(folder: Path, images: str, recipe: Recipe, device: str, **more: Any) -> TrainJob:
    """A training on images of ``small_engine.write_images``."""
    folder.mkdir(exist_ok=True)
    return TrainJob(
        folder=str(folder),
        model=TINY,
        class_names=NAMES,
        preprocessing=PREPROCESSING,
        images=(images,),
        resolution=SIDE,
        recipe=recipe,
        flip=0.5,
        seed_parts=(0, "training"),
        stage="training",
        device=device,
        **more,
    )
