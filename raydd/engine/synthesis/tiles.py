"""RDED's images of one class: draw crops, show them to the observer, keep the best, tile them.

Every draw is named by seed, class and image, and every forward pass has one size: a class gives the
same images whatever was made before it, and where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor
from upath import UPath

from raydd.cluster.ahead import map_beside
from raydd.data.rows import Reader, image_table
from raydd.models.answers import answer
from raydd.models.preprocess import normalise
from raydd.ops.augment import crop_and_resize
from raydd.ops.configs import check_at_least_one, check_choices
from raydd.ops.seeds import generator
from raydd.ops.tiles import MAPPINGS, assemble_tiles, cell_ranks, cut_pixels, draw_crops, pad_centre
from raydd.store.checkpoint import load_frozen

_CHUNK = 64  # images that are fetched together
CHOICES = {
    "score_view": ("padded", "native", "upsampled"),
    "mapping": MAPPINGS,
    "policy": ("lowest_ce", "random"),
}


@dataclass
class CropConfig:
    """How crops are drawn, scored and tiled; the defaults are RDED's at 128 pixels and more."""

    pool: int = 300
    """Real images per class to cut from; a class that has fewer gives all of them."""
    crops: int = 5
    """M, crops drawn per image; only the best of them competes."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest crop area, fractions of the image in (0, 1]; crops are square."""
    tiles: int = 2
    """f, crops along each side of an image; 1 for images of 64 pixels and less."""
    score_view: str = "padded"
    """What the observer sees of a crop: "padded" with zeros to the resolution (the paper), "native"
    at 1 / f of the resolution, f * f times cheaper, or "upsampled" to the resolution."""
    mapping: str = "ranked"
    """Cells of the crops, see :func:`raydd.ops.tiles.cell_ranks`."""
    policy: str = "lowest_ce"
    """"lowest_ce" keeps the crops that the observer is surest of; "random" keeps one random crop
    of random images, which are scored only to report it."""
    batch: int = 100
    """Crops per forward pass. The last batch of a class is filled up: all have one size."""
    block: int = 8
    """Classes per unit and part file: the grain of resume."""

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_choices(self, CHOICES)
        check_at_least_one(self, "pool", "crops", "tiles", "batch", "block")
        if len(self.crop_scale) != 2 or not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale must rise within (0, 1], got {tuple(self.crop_scale)}")


@dataclass(frozen=True)
class Block:
    """One unit: classes whose images share a part file."""

    classes: range

    @property
    def name(self) -> str:
        """Names the files."""
        return f"class{self.classes.start:05d}"


@dataclass(frozen=True)
class CropJob:
    """Everything a worker needs; picklable.

    Attributes:
        folder: stage folder.
        pool: folder of the selection of real images.
        observer: checkpoint folder.
        config: how crops are drawn, scored and tiled.
        ipc: images per class.
        reader: fetches the pool; its preprocessing is the geometry of the images made here, mean
            and std are the observer's own.
        seed: run seed.
        journal: path of ``metrics.jsonl``.
        device: ``cpu`` or ``cuda``.
        decoders: tasks that decode for each worker; 0 has threads of the worker do it.
    """

    folder: str
    pool: str
    observer: str
    config: CropConfig
    ipc: int
    reader: Reader
    seed: int
    journal: str | None
    device: str
    decoders: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the source."""
        return self.reader.source.class_names

    @property
    def num_crops(self) -> int:
        """Crops that the images of one class are made of."""
        return self.ipc * self.config.tiles**2

    @property
    def cell_side(self) -> int:
        """Side of a cell, pixels."""
        return self.reader.preprocessing.resolution // self.config.tiles

    @property
    def units(self) -> list[Block]:
        """All units of the stage."""
        count, block = len(self.class_names), self.config.block
        return [Block(range(i, min(i + block, count))) for i in range(0, count, block)]


class Winners(NamedTuple):
    """The n crops of a class, best first.

    Boxes float32 [n, 4] are fractions of the decoded image, crops uint8 [n, 3, s, s].
    """

    ids: list[str]
    boxes: Tensor
    losses: np.ndarray
    crops: Tensor


class Observer:
    """The network that crops are shown to, on one device and in float32."""

    def __init__(self, job: CropJob) -> None:
        self.config, self.side = job.config, job.reader.preprocessing.resolution
        self.cell_side, self.device = job.cell_side, torch.device(job.device)
        self.network, card = load_frozen(UPath(job.observer), self.device)
        self.mean, self.std = card.preprocessing.mean, card.preprocessing.std

    @torch.inference_mode()
    def losses(self, images: Tensor, boxes: Tensor, label: int) -> np.ndarray:
        """Cross-entropy of every crop, float32 [N, M].

        Args:
            images: uint8 [N, 3, H, H].
            boxes: float32 [N, M, 4], fractions of the image.
            label: class of the images.
        """
        images, flat = images.to(self.device), boxes.flatten(0, 1)
        losses = []
        for begin in range(0, len(flat), self.config.batch):
            # the last crop fills up the last batch: a decision must not hang on a batch's size
            rows = torch.arange(begin, begin + self.config.batch).clamp(max=len(flat) - 1)
            sources = (rows // boxes.shape[1]).to(self.device)
            crops = crop_and_resize(images[sources].float(), flat[rows], self.cell_side)
            seen = self._view(normalise(crops, self.mean, self.std))
            logits = answer(self.network, seen).float()
            labels = torch.full((len(rows),), label, device=self.device)
            losses.append(F.cross_entropy(logits, labels, reduction="none"))
        return torch.cat(losses)[: len(flat)].view(boxes.shape[:2]).cpu().numpy()

    def _view(self, crops: Tensor) -> Tensor:
        if self.config.score_view == "padded":
            return pad_centre(crops, self.side)
        if self.config.score_view == "upsampled":
            return F.interpolate(crops, size=(self.side, self.side), mode="bilinear")
        return crops


def crop_class(
    job: CropJob, observer: Observer, label: int, ids: Sequence[str]
) -> tuple[pa.Table, pa.Table]:
    """Make the images of one class.

    Its draws are named by the class and the images, not by the class index or the images' order.

    Args:
        job: constants.
        observer: scores the crops.
        label: class index.
        ids: of the pool.
    Returns:
        The rows of ``parts`` and of ``cells``.
    """
    draws = (job.seed, "crop", job.class_names[label])
    names = sorted(ids)
    if job.config.policy == "random":
        order = torch.randperm(len(names), generator=generator(*draws, "random"))
        names = [names[i] for i in order[: job.num_crops].tolist()]
    winners = _choose(job, observer, label, names)
    ranks = cell_ranks(job.ipc, job.config.tiles, job.config.mapping, generator(*draws, "cells"))
    pixels = assemble_tiles(winners.crops, ranks).permute(0, 2, 3, 1).numpy()
    sources = ["|".join(winners.ids[rank] for rank in row) for row in ranks.tolist()]
    images = image_table(pixels, [label] * job.ipc, range(job.ipc), 0, sources, "synthetic")
    return images, _cell_table(label, ranks, winners)


def _choose(job: CropJob, observer: Observer, label: int, names: Sequence[str]) -> Winners:
    """The best crop of each image and the best of these, or one crop of each in the given order."""
    config, is_random = job.config, job.config.policy == "random"
    boxes = draw_crops(names, 1 if is_random else config.crops, config.crop_scale, job.seed, "crop")
    images = _fetch(job, names)
    losses = observer.losses(images, boxes, label)
    # the names are sorted, so that a stable sort breaks ties by id
    order = np.arange(len(names)) if is_random else losses.min(1).argsort(kind="stable")
    kept = order[: job.num_crops]
    best = losses[kept].argmin(1)
    chosen = boxes[kept, best]
    crops = cut_pixels(images[kept], chosen, job.cell_side)
    return Winners([names[i] for i in kept], chosen, losses[kept, best], crops)


def _fetch(job: CropJob, ids: Sequence[str]) -> Tensor:
    """Pool images at f times the size, uint8 [N, 3, fR, fR]: a cell is then cut without blur."""
    f, shape = job.config.tiles, job.reader.preprocessing
    large = replace(shape, resolution=f * shape.resolution, resize=f * shape.resize)
    # an image that passed the cap at the plain size passes f * f times the cap at f times the size
    reader = Reader(job.reader.source, large, f**2 * job.reader.max_pixels)
    chunks = (ids[at : at + _CHUNK] for at in range(0, len(ids), _CHUNK))
    pixels = list(map_beside(reader.fetch, chunks, job.decoders))
    return torch.from_numpy(np.concatenate(pixels)).permute(0, 3, 1, 2)


def _cell_table(label: int, ranks: Tensor, winners: Winners) -> pa.Table:
    """One row per cell, by slot and cell."""
    rank, (count, cells) = ranks.flatten().numpy(), ranks.shape
    columns = {
        "class_index": np.full(len(rank), label, np.int32),
        "slot": np.repeat(np.arange(count, dtype=np.int32), cells),
        "cell": np.tile(np.arange(cells, dtype=np.int32), count),
        "id": pa.array([winners.ids[i] for i in rank], pa.string()),
    }
    boxes = winners.boxes.numpy()[rank]
    sides = {name: boxes[:, i] for i, name in enumerate(("top", "left", "height", "width"))}
    return pa.table({**columns, **sides, "loss": winners.losses[rank]})
