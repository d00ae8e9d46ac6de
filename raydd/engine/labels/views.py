"""Views that are a function of a seed, and a teacher whose answers depend on the view alone."""

import hashlib
from typing import Any

import torch
from torch import Tensor
from upath import UPath

from raydd.data.labels import LabelInfo
from raydd.models.answers import answer
from raydd.models.exact import deterministic_kernels
from raydd.models.preprocess import normalise, pad_batch
from raydd.ops.device import move
from raydd.ops.recipe import VIEW_FIELDS, Recipe
from raydd.ops.seeds import generator
from raydd.ops.views.batch import augment_batch, mix_batch
from raydd.ops.views.draws import draw_batch
from raydd.store.checkpoint import load_frozen
from raydd.store.images import ImageSet

_SAMPLES = 64  # values of the first batch that are kept to compare with


class Views:
    """The views of every batch: a function of (seed, epoch, step), whoever draws them.

    Args:
        info: seed, sizes and recipe of the views.
        images: the set that is viewed, on the device where the views are wanted.
    """

    def __init__(self, info: LabelInfo, images: ImageSet) -> None:
        self.info, self.images = info, images
        # fields younger than the labels are off, as their defaults are
        known = {name: info.views[name] for name in VIEW_FIELDS if name in info.views}
        self._recipe = Recipe(**known)
        self._epoch = -1  # whose order is known, here and on the device
        self._order = self._there = torch.empty(0, dtype=torch.int64)

    def order(self, epoch: int, step: int) -> Tensor:
        """Positions of a whole batch's images in the set, int64 [B] on the CPU."""
        self._open(epoch)
        return self._order[self._batch(step)]

    def _open(self, epoch: int) -> None:
        if epoch != self._epoch:
            draws = generator(self.info.seed, "labels", epoch, "order")
            self._order = torch.randperm(self.info.num_images, generator=draws)
            self._there = move(self._order, self.images.labels.device)
            self._epoch = epoch

    def _batch(self, step: int) -> slice:
        return slice(step * self.info.batch_size, (step + 1) * self.info.batch_size)

    def draw(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Views float32 [B, 3, R, R] of a whole batch, normalised and mixed, and its classes.

        All draws are for the whole batch: a rank takes its rows of the result.
        """
        info, draws = self.info, generator(self.info.seed, "labels", epoch, step)
        self._open(epoch)
        chosen = self._there[self._batch(step)]
        side, flip = info.preprocessing.resolution, info.views["flip"]
        drawn = draw_batch(len(chosen), self._recipe, side, flip, draws).to(chosen.device)
        pixels = augment_batch(self.images.images[chosen], drawn, self._recipe, side)
        images = normalise(pixels, info.preprocessing.mean, info.preprocessing.std)
        return mix_batch(images, drawn)[0], self.images.labels[chosen]


class FixedTeacher:
    """A teacher whose answer about a view depends on nothing but the view.

    It runs in float32 and evaluation mode on batches padded to one size, for kernels are chosen by
    the batch's size (measured on a CPU: a batch of one gives other bits; the rows' order, what
    fills the batch and the number of threads do not matter).

    Args:
        folder: its checkpoint.
        size: of every batch.
        device: where it runs.
    """

    def __init__(self, folder: UPath, size: int, device: torch.device) -> None:
        self.network, self.size, self.device = load_frozen(folder, device)[0], size, device

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 [B, C] of at most ``size`` views [B, 3, R, R]."""
        padded = pad_batch(images, self.size)
        with deterministic_kernels(tf32=False), torch.autocast(self.device.type, enabled=False):
            return answer(self.network, padded)[: len(images)].float()


def image_digest(images: ImageSet) -> str:
    """The sha256 of all pixels and classes, in order."""
    digest = hashlib.sha256(images.images.cpu().contiguous().numpy().data)
    digest.update(images.labels.cpu().numpy().data)
    return digest.hexdigest()


def describe_batch(images: Tensor, logits: Tensor) -> dict[str, Any]:
    """What ``labels.json`` keeps of the first batch: some values, and the sha256 of its logits."""

    def sample(values: Tensor) -> list[float]:
        flat = values.flatten()
        return flat[:: max(1, len(flat) // _SAMPLES)][:_SAMPLES].tolist()

    digest = hashlib.sha256(logits.cpu().contiguous().numpy().data).hexdigest()
    return {"views": sample(images), "logits": sample(logits), "sha256": digest}
