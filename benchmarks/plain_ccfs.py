"""A plain transcription of CCFS, as ``methods`` specify it: one process, one thread, PyTorch alone.

The slower or faster side of ``peers.py``: images are decoded once and stay in memory, every view
passes through torchvision's transforms one image at a time, float32, channels first. The random
real images of ``core`` stand for distilled ones: what they cost to make is no part of selection.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from upath import UPath

from raydd.models.registry import ModelConfig, create_model
from raydd.store.checkpoint import load_checkpoint

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
NETWORK = ModelConfig("resnet10_thin", 16)
CLASSES, SIDE, TEMPERATURE, SCORING_BATCH, BATCH = 10, 32, 4.0, 512, 25
SCORED = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
TRAINED = v2.Compose([*SCORED.transforms, v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip()])


class Images(Dataset[tuple[Tensor, int]]):
    """Decoded images, transformed one by one."""

    def __init__(self, images: Sequence[Image.Image], labels: Sequence[int], transform: v2.Compose):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def load(root: str, split: str) -> tuple[list[Image.Image], list[int]]:
    """All images of a Hugging Face parquet folder, decoded."""
    images: list[Image.Image] = []
    labels: list[int] = []
    for path in sorted(Path(root).rglob(f"{split}*.parquet")):
        table = pq.read_table(path, columns=["image", "label"])
        for row in table["image"].to_pylist():
            images.append(Image.open(io.BytesIO(row["bytes"])).convert("RGB"))
        labels += table["label"].to_pylist()
    return images, labels


@torch.no_grad()
def predict(network: nn.Module, images: Sequence[Image.Image], labels: Sequence[int]) -> np.ndarray:
    """Predicted class of every image: a scoring pass."""
    network.eval()
    loader = DataLoader(Images(images, labels, SCORED), SCORING_BATCH)
    return torch.cat([network(batch).argmax(1) for batch, _ in loader]).numpy()


def train(
    teacher: nn.Module, images: Sequence[Image.Image], labels: Sequence[int], epochs: int
) -> nn.Module:
    """A fresh network, taught by the teacher on random views."""
    network = create_model(NETWORK, CLASSES, SIDE)
    optimizer = torch.optim.AdamW(network.parameters(), 0.002, weight_decay=0.01)
    loader = DataLoader(Images(images, labels, TRAINED), BATCH, shuffle=True)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 0.002 * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        network.train()
        for views, _ in loader:
            with torch.no_grad():
                target = F.softmax(teacher(views) / TEMPERATURE, 1)
            answer = F.log_softmax(network(views) / TEMPERATURE, 1)
            optimizer.zero_grad()
            (TEMPERATURE**2 * F.kl_div(answer, target, reduction="batchmean")).backward()
            optimizer.step()
    return network


def main() -> None:
    """Select curriculum by curriculum, then train one network on the set and test it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("teacher", help="checkpoint folder")
    parser.add_argument("--ipc", type=int, default=20)
    parser.add_argument("--core", type=int, default=4)
    parser.add_argument("--curricula", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    started = time.perf_counter()
    images, names = load(options.root, "train")
    labels, draws = np.array(names), np.random.default_rng(0)
    difficulty = draws.random(len(labels))  # read from a file by the authors
    teacher = load_checkpoint(UPath(options.teacher))[0].eval()

    def train_on(rows: list[int]) -> nn.Module:
        return train(teacher, [images[i] for i in rows], [names[i] for i in rows], options.epochs)

    known = predict(teacher, images, names) == labels
    per_class = [np.flatnonzero(labels == label) for label in range(CLASSES)]
    chosen = [int(i) for own in per_class for i in draws.choice(own, options.core, replace=False)]
    real = options.ipc - options.core
    for curriculum in range(options.curricula):
        network = train_on(chosen)
        wrong = known & (predict(network, images, names) != labels)
        wrong[chosen] = False
        extra = curriculum < real % options.curricula
        for label in range(CLASSES):
            own = np.flatnonzero(wrong & (labels == label))
            easiest = own[np.argsort(difficulty[own], kind="stable")]
            chosen += easiest[: real // options.curricula + extra].tolist()
    network = train_on(chosen)
    tests, answers = load(options.root, "test")
    right = (predict(network, tests, answers) == np.array(answers)).mean()
    print(f"{len(chosen)} images, {right:.1%}, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
