"""Stage ``score``: one streaming pass of one model over the real set writes the score table.

One row per good image: id, class_index, row (in its shard), prediction, true_logit,
true_probability, true_rank (classes with a larger logit than the true one) and, where the network
was trained here, forgetting (see :mod:`raydd.engine.forgetting`; -1: never met). The tables of two
models over one source have the same rows in the same order, part by part, so that a selection may
walk through them side by side. Logits are computed in float32 and in batches padded to one size:
a decision must not depend on how the stream was cut.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data as rd
import torch
from upath import UPath

from raydd.data.rows import decode_rows
from raydd.data.sources import Source
from raydd.engine.checkpoint import load_frozen
from raydd.engine.cluster import Resources
from raydd.engine.forgetting import ForgettingTable
from raydd.engine.memory import release_memory
from raydd.engine.pixels import DataConfig
from raydd.engine.stages import Artifact, Stages
from raydd.engine.stream import (
    count_parts,
    map_actors,
    part_files,
    read_table,
    run_pass,
)
from raydd.models.preprocess import normalise, pad_batch

_RELEASE_EVERY = 4  # batches


def score_source(
    stages: Stages,
    source: Source,
    checkpoint: Artifact,
    config: DataConfig,
    resources: Resources,
    title: str,
) -> Artifact:
    """Score every real image with a checkpoint's network.

    Args:
        stages: where the table goes.
        source: the real training images.
        checkpoint: artifact of ``squeeze`` or ``train``.
        config: batch size and limits.
        resources: actors and devices.
        title: what the progress line says, e.g. ``teacher``.
    Returns:
        Artifact with ``parts/*.parquet`` and ``rejected.parquet``; its summary counts rows and
        rejected rows.
    """

    def transform(rows: rd.Dataset) -> rd.Dataset:
        arguments = (str(checkpoint.folder), config, resources.device, resources.threads_per_worker)
        return map_actors(rows, Scorer, arguments, config.score_batch, resources)

    def work(folder: UPath) -> dict[str, Any]:
        summary = run_pass(folder, source, transform, config.max_rejected)
        return summary | {"top1": _top1(folder)}

    return stages.run(
        "score",
        work,
        inputs=[checkpoint, source.fingerprint],
        config={"max_pixels": config.max_pixels},
        seed=0,
        title=title,
        units=len(source.shards()),
        count_done=count_parts,
    )


def _top1(folder: UPath) -> float:
    """Accuracy over all parts, read one at a time."""
    right = rows = 0
    for path in part_files(folder):
        table = read_table(path, ["class_index", "prediction"])
        right += pc.sum(pc.equal(table["class_index"], table["prediction"])).as_py() or 0
        rows += table.num_rows
    return right / max(rows, 1)


class Scorer:
    """A network on one device; decodes and scores batches of encoded rows."""

    def __init__(self, folder: str, config: DataConfig, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.config = config
        self.device = torch.device(device)
        self.network, card = load_frozen(UPath(folder), self.device)
        self.preprocessing = card.preprocessing
        self.forgetting = ForgettingTable(UPath(folder))
        self.calls = 0

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Replace the images of a batch of encoded rows by their scores; reasons are filled in."""
        self.calls += 1
        if self.calls % _RELEASE_EVERY == 0:
            release_memory()
        logits, reasons = self._logits(batch)
        labels = torch.from_numpy(batch.column("class_index").to_numpy().astype(np.int64))
        scores = _scores(logits, labels)
        table = batch.drop_columns(["image", "reason"])
        if self.forgetting.exists:
            places = batch.column("shard").to_numpy(), batch.column("row").to_numpy()
            scores["forgetting"] = pa.array(self.forgetting.lookup(*places))
        for name, values in {"reason": pa.array(reasons, pa.string()), **scores}.items():
            table = table.append_column(name, values)
        return table

    @torch.inference_mode()
    def _logits(self, batch: pa.Table) -> tuple[torch.Tensor, list[str]]:
        """Logits [N, C] of a batch, and the reasons of its broken rows."""
        pixels, reasons = decode_rows(batch, self.preprocessing, self.config.max_pixels)
        padded = pad_batch(torch.from_numpy(pixels), self.config.score_batch).to(self.device)
        images = normalise(
            padded.permute(0, 3, 1, 2), self.preprocessing.mean, self.preprocessing.std
        )
        logits = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits[: len(pixels)].float().cpu(), reasons


def _scores(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, pa.Array]:
    """Columns of the score table."""
    rows = labels.clamp(min=0)[:, None]  # a broken row may have no label
    true = logits.gather(1, rows)
    return {
        "prediction": pa.array(logits.argmax(1).numpy().astype(np.int32)),
        "true_logit": pa.array(true[:, 0].numpy()),
        "true_probability": pa.array(logits.softmax(1).gather(1, rows)[:, 0].numpy()),
        "true_rank": pa.array((logits > true).sum(1).numpy().astype(np.int32)),
    }
