"""A network that answers the encoded rows of a pass; the actors of ``score`` and ``embed``."""

from typing import Any

import pyarrow as pa
import ray.data as rd
import torch
from torch import Tensor
from upath import UPath

from raydd.data.rows import answered_rows, decode_rows
from raydd.engine.cost import Cost, asking_memory, asking_work, models_of
from raydd.engine.engine import Engine
from raydd.engine.passes.stream import DataConfig, map_actors, run_pass
from raydd.models.preprocess import normalise, pad_batch
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import load_frozen
from raydd.store.memory import release_memory

_RELEASE_EVERY = 4  # batches


def ask_network(
    engine: Engine, actor: "type[RowNetwork]", folder: UPath, checkpoint: Artifact
) -> dict[str, Any]:
    """Pass over the real images with one ``actor`` per device; see :func:`.stream.run_pass`.

    Args:
        engine: of the run.
        actor: answers a batch of encoded rows.
        folder: stage folder.
        checkpoint: artifact of the network.
    """
    data, resources = engine.data, engine.resources
    arguments = (str(checkpoint.folder), data, resources.device, resources.threads_per_worker)

    def transform(rows: rd.Dataset) -> rd.Dataset:
        return map_actors(rows, actor, arguments, data.score_batch, resources)

    return run_pass(folder, engine.train_source, transform, data.max_rejected)


def asking_cost(engine: Engine, checkpoint: Artifact, writes: float) -> Cost:
    """What such a pass takes; ``writes`` bytes for each image."""
    count, batch = engine.num_images, engine.data.score_batch
    return Cost(
        reads=engine.encoded_bytes(count),
        writes=count * writes,
        memory=asking_memory(engine, checkpoint, batch),
        work=asking_work(engine, models_of(engine, checkpoint), count, batch, "float32"),
        decodes=count,
        divides="rows",
    )


class RowNetwork:
    """A checkpoint's network on one device.

    Args:
        folder: of the checkpoint.
        config: size of a batch, and limits of the decoder.
        device: ``cpu`` or ``cuda``.
        threads: of torch.
    """

    def __init__(self, folder: str, config: DataConfig, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.config = config
        self.device = torch.device(device)
        self.network, self.card = load_frozen(UPath(folder), self.device)
        self._calls = 0

    def read(self, batch: pa.Table) -> tuple[Tensor, pa.Table]:
        """Decode a batch of N encoded rows.

        Returns:
            The network's input, float [config.score_batch, 3, R, R]: what follows the first N is
            padding, for a result must not depend on how the stream was cut. And the rows without
            their images, see :func:`raydd.data.rows.answered_rows`.
        """
        self._calls += 1
        if self._calls % _RELEASE_EVERY == 0:
            release_memory()
        preprocessing = self.card.preprocessing
        pixels, reasons = decode_rows(batch, preprocessing, self.config.max_pixels)
        padded = pad_batch(torch.from_numpy(pixels), self.config.score_batch).to(self.device)
        images = normalise(padded.permute(0, 3, 1, 2), preprocessing.mean, preprocessing.std)
        rows = answered_rows(batch, reasons, pixels)
        return images.contiguous(memory_format=torch.channels_last), rows
