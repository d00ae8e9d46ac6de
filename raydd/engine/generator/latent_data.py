"""Batches of kept latents: from one tensor where they fit in memory, else part by part.

The parts of a ``latents`` stage lie where every rank reads them, so that even streamed batches are
the same for any number of workers, and after a resume.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from upath import UPath

from raydd.cluster.threads import map_ahead
from raydd.data.rows import binary_array
from raydd.engine.generator.latents import DTYPE
from raydd.engine.labels.data import rank_rows
from raydd.engine.training.data import Batch, Feed, InMemory, open_images
from raydd.ops.device import move
from raydd.ops.seeds import generator
from raydd.store.images import ImageSet
from raydd.store.tables import part_files, read_table

_MIXED_PARTS = 16  # that are shuffled with each other


@dataclass(frozen=True)
class KeptLatents:
    """Where a training finds its latents; picklable.

    Attributes:
        folder: of the ``latents`` artifact.
        views: of each image.
        in_memory: whether all of them are held on the device.
    """

    folder: str
    views: int
    in_memory: bool


class GeneratorData(Protocol):
    """Batches of one rank; every rank has as many ``steps`` per epoch."""

    steps: int

    def batches(self, epoch: int) -> Iterator[Batch]:
        """This rank's share of each of the epoch's batches."""


def open_feed(
    feed: Feed,
    kept: KeptLatents | None,
    latent_shape: Sequence[int],
    rank: int,
    world: int,
    device: torch.device,
) -> GeneratorData:
    """The images of a feed, or kept latents in their place.

    The latter's batches have means and deviations as pixels, float16 [B, views, 2, C, h, w].

    Args:
        feed: images, size of a batch and name of the training.
        kept: where latents lie; None is the images.
        latent_shape: (C, h, w).
        rank: of this worker.
        world: number of workers.
        device: of the batches.
    """
    if kept is None:
        return open_images(feed, rank, world, device)
    shape = (kept.views, 2, *latent_shape)
    files = part_files(UPath(kept.folder))
    if not kept.in_memory:
        return StreamedLatents(feed, files, shape, rank, world, device)
    latents, labels = _read_all(files, shape)
    return InMemory(feed, ImageSet(latents.to(device), labels.to(device)), rank, world)


def choose_views(latents: Tensor, mirrored: Tensor) -> Tensor:
    """Means and deviations float32 [B, 2, C, h, w]: the mirrored image's where bool [B] says so."""
    last = latents.shape[1] - 1
    views = mirrored.long().clamp(max=last)
    return latents[torch.arange(len(latents), device=latents.device), views].float()


class StreamedLatents:
    """An epoch goes through groups of parts, shuffled; it drops what fills no batch."""

    def __init__(
        self,
        feed: Feed,
        files: Sequence[UPath],
        shape: tuple[int, ...],
        rank: int,
        world: int,
        device: torch.device,
    ) -> None:
        self.feed, self.files, self.shape = feed, files, shape
        self.rank, self.world, self.device = rank, world, device
        self.steps = max(1, feed.num_images // feed.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """This rank's share of each of the epoch's batches."""
        size, step = self.feed.batch_size, 0
        latents, labels = _read_all([], self.shape)
        for more, classes in self._groups(epoch):
            latents, labels = torch.cat([latents, more]), torch.cat([labels, classes])
            whole = len(labels) // size * size
            for begin in range(0, whole, size):
                if step == self.steps:
                    return
                own = begin + rank_rows(size, self.rank, self.world, labels.device)
                yield Batch(move(latents[own], self.device), move(labels[own], self.device))
                step += 1
            latents, labels = latents[whole:], labels[whole:]

    def _groups(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Groups of parts without end, the next ones read while one is used."""

        def read(lap: int, begin: int) -> tuple[Tensor, Tensor]:
            draws = generator(*self.feed.seed_parts, epoch, lap, "order")
            order = torch.randperm(len(self.files), generator=draws).tolist()
            files = [self.files[number] for number in order[begin : begin + _MIXED_PARTS]]
            latents, labels = _read_all(files, self.shape)
            mixing = generator(*self.feed.seed_parts, epoch, lap, begin, "order")
            shuffled = torch.randperm(len(labels), generator=mixing)
            return latents[shuffled], labels[shuffled]

        lap = 0
        while True:
            begins = range(0, len(self.files), _MIXED_PARTS)
            yield from map_ahead(partial(read, lap), begins, 1, 1)
            lap += 1


def _read_all(files: Sequence[UPath], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Latents and labels of some parts."""
    tables = [read_table(path, ["class_index", "latents"]) for path in files]
    latents = [binary_array(table["latents"], DTYPE, shape) for table in tables]
    labels = [table["class_index"].to_numpy().astype(np.int64) for table in tables]
    return (
        torch.from_numpy(np.concatenate([np.empty((0, *shape), DTYPE), *latents])),
        torch.from_numpy(np.concatenate([np.empty(0, np.int64), *labels])),
    )
