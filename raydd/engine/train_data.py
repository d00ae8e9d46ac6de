"""A training's batches: from one tensor where the images fit in memory, else from Ray Data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import ray.train
import torch
from torch import Tensor

from raydd.engine.forgetting import encode_places
from raydd.engine.labels import LabelledBatch, open_label_data
from raydd.engine.memory import release_memory
from raydd.engine.pixels import ImageSet, load_sets
from raydd.engine.train_job import TrainJob
from raydd.ops.seeds import derive_seed, generator

_RELEASE_EVERY = 32  # batches


@dataclass(frozen=True)
class Batch:
    """A rank's share of one step.

    Attributes:
        pixels: uint8 [B, 3, S, S].
        labels: int64 [B].
        places: int64 [B], where real images lie (see :mod:`raydd.engine.forgetting`); else empty.
    """

    pixels: Tensor
    labels: Tensor
    places: np.ndarray


class TrainData(Protocol):
    """Batches of one rank; every rank has as many ``steps`` per epoch, or training would hang."""

    steps: int

    def batches(self, epoch: int) -> Iterator[Batch | LabelledBatch]:
        """This rank's share of each of the epoch's batches."""


def open_data(job: TrainJob, rank: int, world: int, device: torch.device) -> TrainData:
    """The images of a job: in memory if it names folders, with their labels if it names them, else
    streamed.
    """
    if not job.images:
        return _Streamed(job, world, device)
    images = load_sets(job.images, job.resolution, device)
    if job.labels:
        return open_label_data(job, images, rank, world)
    return _InMemory(job, images, rank, world)


class _InMemory:
    def __init__(self, job: TrainJob, images: ImageSet, rank: int, world: int) -> None:
        self.job, self.images, self.rank, self.world = job, images, rank, world
        self.steps = -(-len(images) // job.recipe.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        draws = generator(*self.job.seed_parts, epoch, "order")
        order = torch.randperm(len(self.images), generator=draws)
        order = torch.cat([order, order[: -len(order) % self.world]])  # every rank gets as many
        size = self.job.recipe.batch_size
        for step in range(self.steps):
            chosen = order[step * size : (step + 1) * size][self.rank :: self.world]
            places = self.images.places[chosen.numpy()] if len(self.images.places) else _NO_PLACES
            chosen = chosen.to(self.images.labels.device)
            yield Batch(self.images.images[chosen], self.images.labels[chosen], places)


class _Streamed:
    """An epoch drops the remainder of every shard and goes round again where one is short."""

    def __init__(self, job: TrainJob, world: int, device: torch.device) -> None:
        self.job, self.world, self.device = job, world, device
        self.steps = max(1, job.num_images // job.recipe.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        shard = ray.train.get_dataset_shard("train")
        size = self.job.recipe.batch_size // self.world
        step, laps = 0, 0
        while step < self.steps:
            batches = shard.iter_torch_batches(
                batch_size=size,
                drop_last=True,
                local_shuffle_buffer_size=16 * size,
                local_shuffle_seed=derive_seed(*self.job.seed_parts, epoch) % 2**31,
                device=self.device,
            )
            for batch in batches:
                # on a second lap an image may come to another rank: it was visited already
                places = _NO_PLACES if laps else _places(batch["shard"], batch["row"])
                pixels = batch["pixels"].permute(0, 3, 1, 2)
                yield Batch(pixels, batch["class_index"].long(), places)
                step += 1
                if step % _RELEASE_EVERY == 0:
                    release_memory()
                if step == self.steps:
                    return
            laps += 1


_NO_PLACES = np.empty(0, np.int64)


def _places(shards: Tensor, rows: Tensor) -> np.ndarray:
    return encode_places(shards.cpu().numpy(), rows.cpu().numpy())
