"""What guided sampling raises: a number per image that can be differentiated."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from upath import UPath

from raydd.data.preprocessing import Preprocessing
from raydd.engine.sampling.config import AdversaryConfig
from raydd.models.layout import laid_out
from raydd.models.precision import autocast, autocast_dtype, freeze
from raydd.models.preprocess import normalise
from raydd.ops.augment import crop_and_resize
from raydd.ops.device import constant
from raydd.store.checkpoint import load_checkpoint


class Energy(Protocol):
    """Any guidance; what it knows of the classes is its own and is found by label."""

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Energy of each image, float32 [B]; each depends on its own image alone.

        Args:
            images: estimates of the final images, float [B, 3, R, R], about [-1, 1]; not clamped,
                so that their gradients pass.
            labels: classes of the source, int64 [B].
        """


class Classifier:
    """A frozen checkpoint that sees decoded images through its own preprocessing.

    Args:
        folder: checkpoint.
        precision: see :func:`raydd.models.precision.autocast_dtype`.
        device: where to compute.
    """

    def __init__(self, folder: UPath, precision: str, device: torch.device) -> None:
        network, card = load_checkpoint(folder)
        self.dtype = autocast_dtype(precision, device)
        self.network: nn.Module = freeze(network, device, self.dtype)
        self.preprocessing: Preprocessing = card.preprocessing
        self.num_classes = len(card.class_names)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each image, float32 [B]; arguments as for :class:`Energy`."""
        side = self.preprocessing.resolution
        if images.shape[-1] != side:
            # unlike interpolation kernels, its gradient is the same in every run
            whole = constant((0.0, 0.0, 1.0, 1.0), images.device)
            images = crop_and_resize(images, whole.expand(len(images), -1), side)
        seen = normalise((images + 1) * 127.5, self.preprocessing.mean, self.preprocessing.std)
        with autocast(seen.device, self.dtype):
            logits = self.network(laid_out(seen, self.network))
        return F.cross_entropy(logits.float(), labels, reduction="none")


class AdversarialEnergy:
    """How hard a discriminator finds an image; see :class:`AdversaryConfig`.

    Args:
        discriminator: trained on the images so far.
        reference: trained on real images; the anchored energy needs it.
        config: which of the energies.
    Raises:
        ValueError: the anchored energy without a reference.
    """

    def __init__(
        self, discriminator: Classifier, reference: Classifier | None, config: AdversaryConfig
    ) -> None:
        if config.energy == "anchored" and reference is None:
            raise ValueError("energy=anchored needs a reference network trained on real images")
        self.discriminator = discriminator
        self.reference = reference if config.energy == "anchored" else None
        self.config = config

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Energy`."""
        loss = self.discriminator.loss(images, labels)
        if self.config.energy == "bounded":
            bound = self.config.bound or math.log(self.discriminator.num_classes)
            return loss.clamp(max=bound)
        if self.reference is not None:
            return loss - self.config.anchor_weight * self.reference.loss(images, labels)
        return loss
