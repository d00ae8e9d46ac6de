"""A network that answers the encoded rows of a pass; the actors of ``score`` and ``embed``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from torch import Tensor
from upath import UPath

from raydd.cluster.threads import set_threads
from raydd.data.rows import answered_rows, decode_rows, pixel_array
from raydd.data.sources import Shard
from raydd.engine.cost import Cost, asking_memory, asking_work, models_of
from raydd.engine.engine import Engine
from raydd.engine.passes.feed import decoded_rows, encoded_rows, map_actors
from raydd.engine.passes.stored import StoredJob, ask_stored
from raydd.engine.passes.stream import DataConfig, run_pass
from raydd.models.preprocess import normalise, pad_batch
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import load_frozen
from raydd.store.memory import release_memory

if TYPE_CHECKING:
    import ray.data as rd

_RELEASE_EVERY = 16  # batches; what is given back must be filled with zeros again


def ask_network(
    engine: Engine,
    actor: type[RowNetwork],
    folder: UPath,
    checkpoint: Artifact,
    stored: Artifact | None,
) -> dict[str, Any]:
    """Pass over the real images with one ``actor`` per device; see :func:`.stream.run_pass`.

    Args:
        engine: of the run.
        actor: answers a batch of rows.
        folder: stage folder.
        checkpoint: artifact of the network.
        stored: the decoded images; None streams them.
    """
    data, resources, source = engine.data, engine.resources, engine.train_source
    arguments = (str(checkpoint.folder), data, resources.device, resources.threads_per_worker)
    if stored:
        job = StoredJob(str(folder), str(stored.folder), actor, arguments, data.score_batch)
        return ask_stored(engine, job, data.max_rejected)
    seen = engine.card(checkpoint).preprocessing

    def flow(shards: Mapping[int, Shard]) -> rd.Dataset:
        if resources.use_gpu:
            rows = decoded_rows(source, shards, seen, data.max_pixels)
        else:  # every core computes: pixels that change the process would only cost
            rows = encoded_rows(source, shards)
        return map_actors(rows, actor, arguments, data.score_batch, resources)

    return run_pass(folder, source, flow, data.max_rejected)


def asking_cost(
    engine: Engine, checkpoint: Artifact, stored: Artifact | None, writes: float
) -> Cost:
    """What such a pass takes; ``writes`` bytes for each image."""
    count, batch = engine.num_images, engine.data.score_batch
    pixels = count * engine.card(checkpoint).preprocessing.resolution ** 2 * 3
    return Cost(
        reads=pixels if stored else engine.encoded_bytes(count),
        writes=count * writes,
        memory=asking_memory(engine, checkpoint, batch),
        work=asking_work(engine, models_of(engine, checkpoint), count, batch, "float32"),
        decodes=0 if stored else count,
        divides="rows",
    )


class RowNetwork(ABC):
    """A checkpoint's network on one device.

    Args:
        folder: of the checkpoint.
        config: size of a batch, and limits of the decoder.
        device: ``cpu`` or ``cuda``.
        threads: of torch.
    """

    def __init__(self, folder: str, config: DataConfig, device: str, threads: int) -> None:
        set_threads(threads)
        self.config = config
        self.device = torch.device(device)
        self.network, self.card = load_frozen(UPath(folder), self.device)
        self._calls = 0

    @abstractmethod
    def __call__(self, batch: pa.Table) -> pa.Table:
        """Replace the images of a batch by what the network says about them."""

    def read(self, batch: pa.Table) -> tuple[Tensor, pa.Table]:
        """Make the network's input of a batch of N rows, which are decoded if they are not yet.

        Returns:
            The network's input, float [config.score_batch, 3, R, R]: what follows the first N is
            padding, for a result must not depend on how the stream was cut. And the rows without
            their images, see :func:`raydd.data.rows.answered_rows`.
        """
        self._calls += 1
        if self._calls % _RELEASE_EVERY == 0:
            release_memory()
        preprocessing = self.card.preprocessing
        if "pixels" in batch.column_names:
            pixels = pixel_array(batch.column("pixels"), preprocessing.resolution)
            rows = batch.drop_columns(["pixels"])
        else:
            pixels, reasons = decode_rows(batch, preprocessing, self.config.max_pixels)
            rows = answered_rows(batch, reasons, pixels)
        padded = pad_batch(torch.from_numpy(pixels), self.config.score_batch).to(self.device)
        images = normalise(padded.permute(0, 3, 1, 2), preprocessing.mean, preprocessing.std)
        return images, rows
