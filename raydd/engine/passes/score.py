"""Stage ``score``: one streaming pass of one model over the real set writes the score table.

One row per good image: id, class_index, row (in its shard), prediction, true_logit,
true_probability, true_rank (classes with a larger logit than the true one); where it is asked for,
error_norm; where the network was trained here, forgetting and aum (see :mod:`.dynamics`; -1 and
NaN: never met). The tables of two models over one source have the same rows in the same order, part
by part, so that a selection may walk through them side by side. Logits are computed in float32 and
in batches padded to one size: a decision must not depend on how the stream was cut.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from upath import UPath

from raydd.engine.cost import Cost, TimedStep, Work
from raydd.engine.engine import Engine
from raydd.engine.passes.accuracy import accuracy
from raydd.engine.passes.decode import stored_images
from raydd.engine.passes.dynamics import DynamicsTable
from raydd.engine.passes.network import RowNetwork, ask_network, asking_cost
from raydd.engine.passes.stream import DataConfig
from raydd.errors import Refused
from raydd.models.answers import answer
from raydd.models.fold import fold_batch_norm
from raydd.ops.seeds import generator
from raydd.store.artifacts import Artifact
from raydd.store.units import PART

_CACHED_BYTES = 1 << 21  # of logits
_LOOKS = 5  # at every logit
ROW_BYTES = 36  # measured: zstd parquet, short ids; margins, too


def score(engine: Engine, checkpoint: Artifact, title: str, error_norm: bool = False) -> Artifact:
    """Score every real training image with a checkpoint's network.

    Args:
        engine: of the run.
        checkpoint: artifact of ``squeeze`` or ``train``.
        title: what the progress line says, e.g. ``filter 1``.
        error_norm: the table has the column error_norm, too: float32, length of the error vector.
    Returns:
        Artifact with ``parts/*.parquet`` and ``rejected.parquet``; its summary counts ``rows`` and
        ``rejected`` images, how often each of the ``reasons`` occurred, and has ``top1``, [0, 1],
        ``right``, images of each class, and ``exchanged`` classes.
    """
    stored = stored_images(engine, engine.card(checkpoint).preprocessing)

    def work(folder: UPath) -> dict[str, Any]:
        actor = ErrorScorer if error_norm else Scorer
        passed = ask_network(engine, actor, folder, checkpoint, stored)
        return passed | accuracy(folder, engine.num_classes)

    return engine.stages.run(
        "score",
        work,
        inputs=[checkpoint, engine.train_source.fingerprint],
        # tables of older versions have no such column: one that has it is another stage
        config={"max_pixels": engine.data.max_pixels}
        | ({"error_norm": True} if error_norm else {}),
        seed=0,
        cost=lambda: _cost(engine, checkpoint, stored),
        expected=lambda: {"top1": 1.0},
        title=title,
        units=len(engine.train_source.shards()),
        done=[PART],
    )


def _cost(engine: Engine, checkpoint: Artifact, stored: Artifact | None) -> Cost:
    cost = asking_cost(engine, checkpoint, stored, ROW_BYTES)
    first = cost.work[0]
    return replace(
        cost, work=[*cost.work, Work(numbers_step(engine.num_classes), first.steps, first.batch)]
    )


def numbers_step(num_classes: int) -> TimedStep:
    """What the score table keeps, out of a batch of logits: of many classes a third of the time."""

    def begin(count: int, device: torch.device) -> Callable[[], None]:
        draws = generator("plan", "logits")
        logits = torch.randn(count, num_classes, generator=draws).to(device)
        labels = (torch.arange(count) % num_classes).to(device)

        @torch.inference_mode()
        def step() -> None:
            ask(logits, labels)

        return step

    return TimedStep(f"numbers of {num_classes} logits", _LOOKS * num_classes, "float32", begin)


def score_teacher(engine: Engine, teacher: Artifact) -> Artifact:
    """The teacher's score table; refuses one whose classes are not the data set's.

    Raises:
        Refused: it is right on less than ``teacher.min_top1`` of the real images: most likely it
            has another class order; or it nearly always takes some classes for one another, and
            ``teacher.exchanged_classes`` does not allow for it.
    """
    table = score(engine, teacher, "teacher")
    check_floor(engine, table.summary["top1"])
    exchanged = table.summary.get("exchanged", [])
    if exchanged and not engine.teacher.exchanged_classes:
        names, (first, taken_for) = engine.class_names, exchanged[0]
        others = f" (and {len(exchanged) - 1} more such classes)" if len(exchanged) > 1 else ""
        raise Refused(
            f"the teacher takes nearly all images of class {names[first]!r} for "
            f"{names[taken_for]!r}{others} and is right elsewhere: its class order differs from "
            "the data set's there. Correct it, or set teacher.exchanged_classes=true to go on."
        )
    return table


def check_floor(engine: Engine, top1: float) -> None:
    """Refuse a teacher that is right on too few of the real training images, ``top1`` in [0, 1]."""
    wanted = engine.teacher.min_top1
    floor = 3 / engine.num_classes if wanted is None else wanted
    if top1 < min(floor, 0.5):
        raise Refused(
            f"the teacher is right on {top1:.1%} of the real training images, less than "
            f"teacher.min_top1={floor:.3g}; its class order or preprocessing most likely differs "
            "from the data set's."
        )


class Scorer(RowNetwork):
    """A network on one device; decodes and scores batches of encoded rows."""

    error_norm = False

    def __init__(self, folder: str, config: DataConfig, device: str, threads: int) -> None:
        super().__init__(folder, config, device, threads)
        self.network = fold_batch_norm(self.network)  # a seventh of the time on a CPU
        self.dynamics = DynamicsTable(UPath(folder))

    @torch.inference_mode()
    def __call__(self, batch: pa.Table) -> pa.Table:
        """Replace the images of a batch of encoded rows by their scores; reasons are filled in."""
        images, rows = self.read(batch)
        labels = torch.from_numpy(rows.column("class_index").to_numpy().astype(np.int64))
        logits = answer(self.network, images)[: len(labels)]
        scores = _columns(ask(logits, labels.to(self.device), self.error_norm))
        if self.dynamics.columns:
            places = rows.column("shard").to_numpy(), rows.column("row").to_numpy()
            scores |= self.dynamics.lookup(*places)
        for name, values in scores.items():
            rows = rows.append_column(name, pa.array(values))
        return rows


class ErrorScorer(Scorer):
    """A scorer that tells the length of the error vector, too."""

    error_norm = True


def ask(logits: Tensor, labels: Tensor, error_norm: bool = False) -> Tensor:
    """What the score table keeps of each image, on the device of the logits.

    Args:
        logits: [B, C].
        labels: int64 [B]; a broken row may have none, below 0.
        error_norm: tell the length of the error vector, too: the Euclidean norm of the
            probabilities minus the one-hot label, [0, sqrt(2)] (EL2N, arXiv 2107.07075).
    Returns:
        float64 [4, B], or [5, B] with the norm last: prediction, logit and probability of the true
        class, and its rank.
    """
    if logits.device.type != "cpu":  # there every part would be kernels of its own
        return _ask(logits, labels, error_norm)
    few = max(1, _CACHED_BYTES // (4 * logits.shape[1]))
    parts = zip(logits.split(few), labels.split(few), strict=True)
    return torch.cat([_ask(*part, error_norm) for part in parts], 1)


def _ask(logits: Tensor, labels: Tensor, error_norm: bool) -> Tensor:
    """:func:`ask`, which looks at every row five times; on a CPU, at as many as a cache holds."""
    logits, rows = logits.float(), labels.clamp(min=0)[:, None]
    true, probabilities = logits.gather(1, rows), logits.softmax(1)
    probability = probabilities.gather(1, rows)
    larger = torch.gt(logits, true, out=torch.empty_like(logits)).sum(1)  # booleans add up slowly
    values = [largest(logits), true[:, 0], probability[:, 0], larger]
    if error_norm:
        values.append(probabilities.scatter(1, rows, probability - 1).norm(dim=1))
    return torch.stack([value.double() for value in values])


def largest(logits: Tensor) -> Tensor:
    """Index of the largest of each row of float32 [B, C], int64 [B]; the first one of equal ones.

    On a CPU torch's ``argmax`` looks at one value after the other, numpy's at eight at once.
    """
    if logits.device.type == "cpu":
        return torch.from_numpy(logits.numpy().argmax(1))
    return logits.argmax(1)


_COLUMNS = {  # of the score table, in the order of :func:`ask`
    "prediction": np.int32,
    "true_logit": np.float32,
    "true_probability": np.float32,
    "true_rank": np.int32,
    "error_norm": np.float32,
}


def _columns(answers: Tensor) -> dict[str, np.ndarray]:
    """Columns of the score table; the one place where answers leave the device."""
    found = answers.cpu().numpy()
    return {
        name: values.astype(dtype)
        for (name, dtype), values in zip(_COLUMNS.items(), found, strict=False)
    }
