"""Soft labels made ahead of a training: its views come from a seed, its labels from a folder.

Three forms. ``online``: the teacher is asked during training, about views of that training alone;
nothing of this module is used. ``seeded``: the teacher, rounded to float16, is asked again about
views that are a function of the seed. ``stored``: its answers about those views are files. See
:mod:`raydd.engine.labels.relabel` for how the folder is made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from upath import UPath

from raydd.data.distilled import read_distilled
from raydd.data.labels import INFO, LOGIT_BYTES, LabelInfo, block_name, label_arrays
from raydd.data.preprocessing import Preprocessing
from raydd.engine.labels.views import FixedTeacher, Views, describe_batch, image_digest
from raydd.errors import Refused
from raydd.ops.configs import later, settled
from raydd.ops.device import move
from raydd.ops.labels import CompressedLogits, expand_logits
from raydd.ops.recipe import VIEW_FIELDS, Recipe
from raydd.store.images import ImageSet
from raydd.store.tables import read_table

LABELS, TEACHER = "labels", "teacher"


@dataclass
class LabelConfig:
    """What the product carries besides images, so that others train with the teacher's knowledge.

    The judge trains from the same labels. Students inside a method always ask online: their images
    change with every curriculum.

    Attributes:
        form: "online" (nothing: the teacher is asked during training), "seeded" (seeds and the
            teacher's weights in float16: labels are computed again, the same each time) or
            "stored" (the teacher's logits of every view).
        top_k: logits kept of a stored view, the others share the probability that is left; 0 keeps
            all of them.
        epochs: label epochs, a longer training goes round again; null is as many as the
            protocol's recipe trains on soft labels.
        logits: how a stored logit is kept: "float16" or, in one byte instead of two, "int8":
            values from -127 to 127, with a scale and an offset of two bytes each for a view.
    """

    form: str = "online"
    top_k: int = 0
    epochs: int | None = None
    logits: str = later("float16")

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        if self.form not in ("online", "seeded", "stored"):
            raise ValueError(f"labels.form must be online, seeded or stored, got {self.form!r}")
        if self.top_k < 0:
            raise ValueError(f"labels.top_k must be 0 (all classes) or more, got {self.top_k}")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"labels.epochs must be at least 1, got {self.epochs}")
        if self.logits not in LOGIT_BYTES:
            raise ValueError(f"labels.logits must be float16 or int8, got {self.logits!r}")
        if self.logits == "int8" and self.form != "stored":
            raise ValueError(f"labels.logits=int8 needs labels.form=stored, not {self.form}")


@dataclass(frozen=True)
class LabelledBatch:
    """A rank's share of one step whose views and labels are given.

    Attributes:
        images: float32 [B, 3, R, R], normalised and mixed views.
        labels: int64 [B], classes of the unmixed images.
        logits: float32 [B, C], the teacher's of exactly these views.
    """

    images: Tensor
    labels: Tensor
    logits: Tensor


class LabelData:
    """Batches with views and labels, the same for any number of ranks together.

    Every rank computes or reads whole batches and takes its rows, so that no bit depends on how
    many there are.

    Args:
        folder: ``labels`` of a stage or of a product.
        images: the set that the labels are of.
        rank: of this worker.
        world: number of workers.
    Raises:
        Refused: the labels are of other images, or their views or logits cannot be had again.
    """

    def __init__(self, folder: UPath, images: ImageSet, rank: int = 0, world: int = 1) -> None:
        self.folder, self.info = folder, read_info(folder)
        if (self.info.num_images, self.info.images) != (len(images), image_digest(images)):
            raise Refused(f"the labels in {folder} are of other images than those to train on.")
        self.rank, self.world, self.steps = rank, world, self.info.steps
        self.views = Views(self.info, images)
        self._source = self._open_source(images.images.device)
        self.is_exact = self._check()

    def batches(self, epoch: int) -> Iterator[LabelledBatch]:
        """This rank's share of each batch of a training epoch."""
        epoch %= self.info.epochs
        for step in range(self.steps):
            images, labels = self.views.draw(epoch, step)
            logits = self._source.logits(epoch, step, images)
            rows = rank_rows(len(images), self.rank, self.world, images.device)
            yield LabelledBatch(images[rows], labels[rows], logits[rows])

    def _open_source(self, device: torch.device) -> "_Source":
        if self.info.form == "stored":
            return _Stored(self.folder, self.views)
        teacher = FixedTeacher(self.folder.parent / TEACHER, self.info.batch_size, device)
        return _Asked(teacher)

    def _check(self) -> bool:
        """Compare the first batch with the one that was labelled; True where every bit agrees."""
        images, _ = self.views.draw(0, 0)
        logits = self._source.logits(0, 0, images)
        found, wanted = describe_batch(images, logits), self.info.check
        for name in ("views", "logits"):
            if not np.allclose(found[name], wanted[name], rtol=1e-2, atol=1e-2):
                raise Refused(
                    f"the {name} of the first batch are not those that the labels in {self.folder} "
                    "were made with; use the versions in the set's raydd.json, or fetch it again."
                )
        return found["sha256"] == wanted["sha256"]


class _Source(Protocol):
    def logits(self, epoch: int, step: int, images: Tensor) -> Tensor:
        """Labels [B, C] of a whole batch."""


class _Asked:
    def __init__(self, teacher: FixedTeacher) -> None:
        self.teacher = teacher

    def logits(self, epoch: int, step: int, images: Tensor) -> Tensor:
        return self.teacher.logits(images)


class _Stored:
    """Reads a file of batches at a time: a training walks through them in order."""

    def __init__(self, folder: UPath, views: Views) -> None:
        self.folder, self.views = folder, views
        self._block = -1

    def logits(self, epoch: int, step: int, images: Tensor) -> Tensor:
        block, first = self.views.info.place(epoch, step)
        if block != self._block:
            self._table, self._block = read_table(self.folder / block_name(block)), block
        chosen, labels = label_arrays(self._table.slice(first, len(images)))
        if not np.array_equal(chosen, self.views.order(epoch, step).numpy()):
            raise Refused(
                f"{self.folder / block_name(block)} labels other images at epoch {epoch}, step "
                f"{step} than this version of torch draws."
            )
        stored = CompressedLogits(**{name: torch.tensor(part) for name, part in labels.items()})
        return move(expand_logits(stored, self.views.info.num_classes), images.device)


def open_labels(product: str | UPath, device: str = "cpu") -> LabelData:
    """Batches of a distilled set with its labels, for a training of one's own.

    Args:
        product: folder of a distilled set that was made with seeded or stored labels.
        device: where its batches shall be.
    Raises:
        ValueError: it has no labels, is unfinished or changed.
    """
    distilled = read_distilled(product)
    if not (distilled.folder / LABELS / INFO).exists():
        raise ValueError(
            f"{product} carries no labels: make it again with labels.form=seeded and another name, "
            f"or ask the network in its {TEACHER} folder."
        )
    pixels, classes, *_ = distilled.arrays()
    images = ImageSet(torch.from_numpy(pixels).to(device), torch.from_numpy(classes).to(device))
    return LabelData(distilled.folder / LABELS, images)


def differing_views(
    info: LabelInfo, recipe: Recipe, flip: float, preprocessing: Preprocessing, num_classes: int
) -> list[str]:
    """What keeps a training from using labels that exist.

    Args:
        info: of the labels.
        recipe: of the training.
        flip: its probability of a mirrored view.
        preprocessing: of its views.
        num_classes: C.
    Returns:
        Names of the settings that differ, sorted; empty where the labels fit.
    """
    wanted = {
        **view_settings(recipe, flip),
        "preprocessing": preprocessing.to_json(),
        "classes": num_classes,
    }
    found = {
        **view_settings(Recipe(), flip),  # for fields younger than the labels
        **info.views,
        "preprocessing": info.preprocessing.to_json(),
        "classes": info.num_classes,
    }
    names = {*wanted, *found}
    return sorted(name for name in names if wanted.get(name) != found.get(name))


def view_settings(recipe: Recipe, flip: float) -> dict[str, Any]:
    """What decides the views of a training, as json values."""
    values = settled(recipe)
    return {**{name: values[name] for name in VIEW_FIELDS if name in values}, "flip": flip}


def read_info(folder: UPath) -> LabelInfo:
    """Read ``labels.json``."""
    return LabelInfo.from_text((folder / INFO).read_text())


def rank_rows(count: int, rank: int, world: int, device: torch.device) -> Tensor:
    """Rows of a batch that a rank trains on; all ranks get as many, some rows go to two of them."""
    return torch.arange(rank, count + -count % world, world, device=device) % count
