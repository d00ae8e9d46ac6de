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

from raydd.engine.engine import Engine
from raydd.engine.passes.forgetting import ForgettingTable
from raydd.engine.passes.network import RowNetwork, answer_rows, ask_network, asking_cost
from raydd.engine.passes.stream import DataConfig
from raydd.errors import Refused
from raydd.store.artifacts import Artifact
from raydd.store.tables import part_files, read_table
from raydd.store.units import PART

ROW_BYTES = 24  # measured: zstd parquet, short ids


def score(engine: Engine, checkpoint: Artifact, title: str) -> Artifact:
    """Score every real training image with a checkpoint's network.

    Args:
        engine: of the run.
        checkpoint: artifact of ``squeeze`` or ``train``.
        title: what the progress line says, e.g. ``filter 1``.
    Returns:
        Artifact with ``parts/*.parquet`` and ``rejected.parquet``; its summary counts ``rows`` and
        ``rejected`` rows, how often each of the ``reasons`` occurred, and has ``top1``, [0, 1].
    """

    def work(folder: UPath) -> dict[str, Any]:
        return ask_network(engine, Scorer, folder, checkpoint) | {"top1": _top1(folder)}

    return engine.stages.run(
        "score",
        work,
        inputs=[checkpoint, engine.train_source.fingerprint],
        config={"max_pixels": engine.data.max_pixels},
        seed=0,
        cost=lambda: asking_cost(engine, checkpoint, ROW_BYTES),
        expected=lambda: {"top1": 1.0},
        title=title,
        units=len(engine.train_source.shards()),
        done=[PART],
    )


def score_teacher(engine: Engine, teacher: Artifact) -> Artifact:
    """The teacher's score table; refuses one that is right on too few of the real images.

    Raises:
        Refused: it is below ``teacher.min_top1``: most likely it has another class order.
    """
    table = score(engine, teacher, "teacher")
    chance, wanted = 1 / engine.num_classes, engine.teacher.min_top1
    floor = 3 * chance if wanted is None else wanted
    if (top1 := table.summary["top1"]) < min(floor, 0.5):
        raise Refused(
            f"the teacher is right on {top1:.1%} of the real training images, less than "
            f"teacher.min_top1={floor:.3g}; its class order or preprocessing most likely differs "
            "from the data set's."
        )
    return table


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
