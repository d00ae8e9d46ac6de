"""A training's batches: from one tensor where the images fit in memory, else from Ray Data."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from upath import UPath

from raydd.engine.labels.data import LabelData, LabelledBatch, differing_views, rank_rows
from raydd.engine.training.job import TrainJob
from raydd.errors import Refused
from raydd.ops.device import move
from raydd.ops.recipe import Recipe
from raydd.ops.seeds import derive_seed, generator
from raydd.store.images import ImageSet, load_sets
from raydd.store.journal import Journal
from raydd.store.memory import release_memory
from raydd.store.tables import encode_places


def open_label_data(job: TrainJob, images: ImageSet, rank: int, world: int) -> LabelData:
    """The labels that a training names; refuses those of another recipe."""
    assert job.labels is not None
    data = LabelData(UPath(job.labels), images, rank, world)
    differing = differing_views(
        data.info, job.recipe, job.flip, job.preprocessing, len(job.class_names)
    )
    if differing:
        raise Refused(
            f"the labels in {job.labels} were made for other views: {', '.join(differing)} differ."
        )
    if rank == 0 and not data.is_exact:
        Journal(job.journal).log(
            job.stage, **job.about, labels="equal within rounding, not bit for bit"
        )
    return data


_RELEASE_EVERY = 32  # batches


@dataclass(frozen=True)
class Batch:
    """A rank's share of one step.

    Attributes:
        pixels: uint8 [B, 3, S, S].
        labels: int64 [B].
        places: int64 [B], where real images lie, see :mod:`raydd.engine.passes.dynamics`; else
            empty.
    """

    pixels: Tensor
    labels: Tensor
    places: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True)
class Feed:
    """Which images a training sees, in which batches; picklable.

    Attributes:
        images: folders of ``decode``, ``synthesize`` or ``fetch`` artifacts; empty: the images
            arrive through ``ray.train.get_dataset_shard("train")``.
        resolution: S, side of the stored images, pixels.
        num_images: size of a streamed set; it fixes the steps of an epoch on every rank.
        batch_size: images per step over all workers.
        seed_parts: name of the training; fixes the order.
    """

    images: tuple[str, ...]
    resolution: int
    num_images: int
    batch_size: int
    seed_parts: tuple[str | int, ...]


class TrainData(Protocol):
    """Batches of one rank; every rank has as many ``steps`` per epoch, or training would hang."""

    steps: int

    def batches(self, epoch: int) -> Iterator[Batch | LabelledBatch]:
        """This rank's share of each of the epoch's batches."""


def open_data(job: TrainJob, rank: int, world: int, device: torch.device) -> TrainData:
    """The images of a job, with their labels if it names them."""
    parts = (job.images, job.resolution, job.num_images, job.recipe.batch_size, job.seed_parts)
    feed = Feed(*parts)
    if not job.labels:
        return open_images(feed, rank, world, device)
    images = load_sets(job.images, job.resolution, device)
    labels = open_label_data(job, images, rank, world)
    return _SoftHardSoft(job.recipe, labels, InMemory(feed, images, rank, world))


def open_images(feed: Feed, rank: int, world: int, device: torch.device) -> "InMemory | _Streamed":
    """Images without labels made ahead: in memory if the feed names folders, else streamed."""
    if not feed.images:
        return _Streamed(feed, world, device)
    return InMemory(feed, load_sets(feed.images, feed.resolution, device), rank, world)


class InMemory:
    """Images that are all on one device; an epoch goes through each of them once."""

    def __init__(self, feed: Feed, images: ImageSet, rank: int, world: int) -> None:
        self.feed, self.images, self.rank, self.world = feed, images, rank, world
        self.steps = -(-len(images) // feed.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """This rank's share of each of the epoch's batches."""
        draws = generator(*self.feed.seed_parts, epoch, "order")
        order = torch.randperm(len(self.images), generator=draws)
        order = torch.cat([order, order[: -len(order) % self.world]])  # every rank gets as many
        there = move(order, self.images.labels.device)
        size = self.feed.batch_size
        for step in range(self.steps):
            share = slice(step * size, (step + 1) * size)
            chosen = self._own(there[share])
            places = _NO_PLACES
            if len(self.images.places):
                places = self.images.places[self._own(order[share]).numpy()]
            yield Batch(self.images.images[chosen], self.images.labels[chosen], places)

    def _own(self, batch: Tensor) -> Tensor:
        return batch[rank_rows(len(batch), self.rank, self.world, batch.device)]


class _SoftHardSoft:
    """Labels made ahead, but in the recipe's hard span the images alone, of which views are new.

    Epochs of the span are skipped in the labels: none is stored for them, and none is read.
    """

    def __init__(self, recipe: Recipe, labels: LabelData, images: InMemory) -> None:
        assert labels.steps == images.steps
        self.recipe, self.labels, self.images, self.steps = recipe, labels, images, labels.steps

    def batches(self, epoch: int) -> Iterator[Batch | LabelledBatch]:
        if epoch in self.recipe.hard_epochs:
            return self.images.batches(epoch)
        return self.labels.batches(self.recipe.soft_before(epoch))


class _Streamed:
    """An epoch drops the remainder of every shard and goes round again where one is short."""

    def __init__(self, feed: Feed, world: int, device: torch.device) -> None:
        self.feed, self.world, self.device = feed, world, device
        self.steps = max(1, feed.num_images // feed.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        import ray.train

        shard = ray.train.get_dataset_shard("train")
        size = self.feed.batch_size // self.world
        step, laps = 0, 0
        while step < self.steps:
            batches = shard.iter_torch_batches(
                batch_size=size,
                drop_last=True,
                local_shuffle_buffer_size=16 * size,
                local_shuffle_seed=derive_seed(*self.feed.seed_parts, epoch) % 2**31,
                device="cpu",  # places are needed here, the rest goes without making us wait
            )
            for batch in batches:
                # on a second lap an image may come to another rank: it was visited already
                places = _NO_PLACES if laps else _places(batch["shard"], batch["row"])
                pixels = move(batch["pixels"], self.device).permute(0, 3, 1, 2)
                yield Batch(pixels, move(batch["class_index"].long(), self.device), places)
                step += 1
                if step % _RELEASE_EVERY == 0:
                    release_memory()
                if step == self.steps:
                    return
            laps += 1


_NO_PLACES = np.empty(0, np.int64)


def _places(shards: Tensor, rows: Tensor) -> np.ndarray:
    return encode_places(shards.numpy(), rows.numpy())
