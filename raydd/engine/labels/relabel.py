"""Stage ``relabel``: the soft labels that a distilled set carries, see :mod:`.data`.

Its folder has the product's layout: ``labels/labels.json``, parquet beside it where the labels are
stored, and ``teacher/`` where they are seeded. A unit is a block of consecutive batches; as views
and labels are functions of (seed, epoch, step), a finished file is never redone and the bytes are
the same for any number of workers.

Source: FKD as used by arXiv 2306.13092. Differs: views are drawn from the seed instead of stored,
one file holds many batches, every row names its image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor
from upath import UPath

from raydd.cluster.pool import run_units
from raydd.data.labels import INFO, LabelInfo, block_name, label_table
from raydd.engine.cost import (
    Cost,
    asking_memory,
    asking_work,
    count_images,
    models_of,
    weights,
)
from raydd.engine.engine import Engine
from raydd.engine.labels.data import LABELS, TEACHER, view_settings
from raydd.engine.labels.views import FixedTeacher, Views, describe_batch, image_digest
from raydd.errors import Refused
from raydd.models.precision import round_weights
from raydd.ops.labels import CompressedLogits, compress_logits, expand_logits
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import load_checkpoint, save_checkpoint
from raydd.store.files import write_atomic
from raydd.store.images import load_sets
from raydd.store.tables import write_table
from raydd.store.units import Marker

_FILES = Marker(f"{LABELS}/{{}}")
_BLOCK_BATCHES = 256  # what a kill can cost
_BLOCK_BYTES = 16 << 20  # what a reader holds


@dataclass(frozen=True)
class RelabelJob:
    """Everything a worker needs; picklable.

    Attributes:
        folder: stage folder.
        images: folders of the image artifacts, in the order of the product.
        teacher: checkpoint folder.
        info: what is labelled how; its digest and check are found out by the worker.
        device: ``cpu`` or ``cuda``.
    """

    folder: str
    images: tuple[str, ...]
    teacher: str
    info: LabelInfo
    device: str


def relabel(
    engine: Engine, images: Sequence[Artifact], teacher: Artifact, recipe: Recipe, title: str
) -> Artifact | None:
    """Soft labels of the views of an image set; None where the teacher is asked online.

    Args:
        engine: of the run; its ``labels`` say in which form.
        images: artifacts of the set.
        teacher: who is asked.
        recipe: of the trainings that shall use the labels.
        title: what the progress line says.
    """
    if engine.labels.form == "online":
        return None
    info = label_info(engine, images, recipe)
    job = RelabelJob(
        folder="",
        images=tuple(str(item.folder) for item in images),
        teacher=str(teacher.folder),
        info=info,
        device=engine.resources.device,
    )

    def work(folder: UPath) -> dict[str, Any]:
        (folder / LABELS).mkdir(parents=True, exist_ok=True)
        todo = _FILES.left(folder, label_units(info), _file_name)
        run_units(Labeller, replace(job, folder=str(folder)), todo, engine.resources)
        return {"form": info.form, "views": info.epochs * info.num_images}

    return engine.stages.run(
        "relabel",
        work,
        inputs=[*images, teacher],
        config=info.values(),
        seed=info.seed,
        cost=lambda: _cost(engine, info, teacher),
        expected=dict,
        title=title,
        units=len(label_units(info)),
        done=[_FILES],
    )


def label_info(engine: Engine, images: Sequence[Artifact], recipe: Recipe) -> LabelInfo:
    """Which views of an image set are labelled how; arguments as of :func:`relabel`."""
    config, classes = engine.labels, engine.num_classes
    info = LabelInfo(
        form=config.form,
        num_classes=classes,
        top_k=min(config.top_k or classes, classes),
        epochs=config.epochs or recipe.soft_epochs,
        seed=engine.seed,
        views=view_settings(recipe, engine.flip),
        preprocessing=engine.preprocessing,
        num_images=count_images(images),
        block=1,
        logits=config.logits,
    )
    fitting = _BLOCK_BYTES // (info.batch_size * info.label_bytes)
    return replace(info, block=max(1, min(_BLOCK_BATCHES, fitting)))


def _cost(engine: Engine, info: LabelInfo, teacher: Artifact) -> Cost:
    is_stored, all_views = info.form == "stored", info.num_images * info.epochs
    views = all_views if is_stored else info.batch_size  # seeded: one batch, to compare with
    asked = models_of(engine, teacher)
    return Cost(
        reads=info.num_images * engine.pixel_bytes,
        writes=info.label_bytes * all_views if is_stored else weights(engine, teacher) // 2,
        memory=asking_memory(engine, teacher, info.batch_size),
        work=asking_work(engine, asked, views, info.batch_size, "exact"),
        divides="units" if is_stored else "none",
    )


def label_units(info: LabelInfo) -> list[int | None]:
    """The files of a label folder, each a unit: blocks of batches by number, None describes all."""
    return [*range(info.num_blocks), None]


def _file_name(block: int | None) -> str:
    return INFO if block is None else block_name(block)


class Labeller:
    """The images and the teacher of a worker; writes one file of the label folder."""

    def __init__(self, job: RelabelJob) -> None:
        self.info, self.folder, device = job.info, UPath(job.folder), torch.device(job.device)
        self.images = load_sets(job.images, self.info.preprocessing.resolution, device)
        self.views = Views(self.info, self.images)
        asked = UPath(job.teacher)
        if self.info.form == "seeded":
            asked = self.folder / TEACHER
            _save_rounded(UPath(job.teacher), asked)
        self.teacher = FixedTeacher(asked, self.info.batch_size, device)

    def __call__(self, block: int | None) -> None:
        """See :func:`raydd.cluster.pool.run_units`."""
        path = self.folder / LABELS / _file_name(block)
        if block is None:
            write_atomic(path, replace(self.info, **self._describe()).to_text().encode())
        else:
            batches = [self._label_batch(*batch) for batch in self.info.batches(block)]
            write_table(path, pa.concat_tables(batches), **self.info.encoding)

    def _describe(self) -> dict[str, Any]:
        """``images`` and ``check`` of the :class:`LabelInfo`."""
        first, _ = self.views.draw(0, 0)
        logits = self.teacher.logits(first)
        if self.info.form == "stored":
            logits = expand_logits(self._compress(logits), self.info.num_classes)
        return {"images": image_digest(self.images), "check": describe_batch(first, logits)}

    def _label_batch(self, epoch: int, step: int) -> pa.Table:
        images, _ = self.views.draw(epoch, step)
        labels = self._compress(self.teacher.logits(images))._asdict()
        arrays = {name: part.cpu().numpy() for name, part in labels.items() if part is not None}
        order = self.views.order(epoch, step).numpy()
        return label_table(self.info, epoch, step, order, arrays)

    def _compress(self, logits: Tensor) -> CompressedLogits:
        return compress_logits(logits, self.info.top_k, self.info.logits)


def _save_rounded(source: UPath, target: UPath) -> None:
    """Copy a checkpoint with matrices and kernels in float16: half of its bytes."""
    network, card = load_checkpoint(source)
    try:
        round_weights(network)
    except OverflowError as error:
        raise Refused(
            f"the teacher cannot be kept in float16 ({error}): use labels.form=stored."
        ) from error
    target.mkdir(parents=True, exist_ok=True)
    save_checkpoint(target, network, card)
