"""Stage ``score``: one streaming pass of one model over the real set writes the score table.

One row per good image: id, class_index, row (in its shard), prediction, true_logit,
true_probability, true_rank (classes with a larger logit than the true one) and, where the network
was trained here, forgetting (see :mod:`.forgetting`; -1: never met). The tables of two
models over one source have the same rows in the same order, part by part, so that a selection may
walk through them side by side. Logits are computed in float32 and in batches padded to one size:
a decision must not depend on how the stream was cut.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from upath import UPath

from raydd.cluster.connect import Resources
from raydd.data.sources import Source
from raydd.engine.passes.forgetting import ForgettingTable
from raydd.engine.passes.network import RowNetwork, answer_rows, ask_network
from raydd.engine.passes.stream import DataConfig
from raydd.store.artifacts import Artifact, Stages
from raydd.store.tables import count_parts, part_files, read_table


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

    def work(folder: UPath) -> dict[str, Any]:
        summary = ask_network(Scorer, folder, source, checkpoint, config, resources)
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


class Scorer(RowNetwork):
    """A network on one device; decodes and scores batches of encoded rows."""

    def __init__(self, folder: str, config: DataConfig, device: str, threads: int) -> None:
        super().__init__(folder, config, device, threads)
        self.forgetting = ForgettingTable(UPath(folder))

    @torch.inference_mode()
    def __call__(self, batch: pa.Table) -> pa.Table:
        """Replace the images of a batch of encoded rows by their scores; reasons are filled in."""
        images, reasons = self.read(batch)
        logits = self.network(images)[: len(reasons)].float().cpu()
        labels = torch.from_numpy(batch.column("class_index").to_numpy().astype(np.int64))
        scores = _scores(logits, labels)
        if self.forgetting.exists:
            places = batch.column("shard").to_numpy(), batch.column("row").to_numpy()
            scores["forgetting"] = pa.array(self.forgetting.lookup(*places))
        return answer_rows(batch, reasons, scores)


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
