"""The two terms of Minimax Diffusion: near to every real latent, far from every predicted one.

Source: Gu et al., arXiv 2311.15529. Differs: under several workers the memories hold every worker's
latents, but each worker takes minimum and maximum over its own share of the batch.
"""

from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

from raydd.engine.generator.config import MinimaxConfig


class LatentMemory:
    """The newest latents of each class, as directions in float16.

    Args:
        num_classes: C.
        size: M, latents kept per class.
        dimensions: D, numbers of a latent.
        device: where they are kept.
    """

    def __init__(self, num_classes: int, size: int, dimensions: int, device: torch.device) -> None:
        self.size = size
        self.bank = torch.zeros(num_classes, size, dimensions, dtype=torch.float16, device=device)
        self.seen = torch.zeros(num_classes, dtype=torch.int64, device=device)

    def cosines(self, latents: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine of each latent with every remembered one of its class.

        Args:
            latents: [B, C, h, w]; gradients pass.
            labels: int64 [B].

        Returns:
            [B, M], and bool [B, M]: which of them are remembered ones.
        """
        cosines = torch.einsum("bd,bmd->bm", _directions(latents), self.bank[labels].float())
        places = torch.arange(self.size, device=labels.device)
        return cosines, places < self.seen[labels, None]

    def append(self, latents: Tensor, labels: Tensor) -> None:
        """Remember a batch, in its order; each class forgets its oldest."""
        same = labels[:, None] == labels
        before, after = same.tril(-1).sum(1), same.triu(1).sum(1)
        places = (self.seen[labels] + before) % self.size
        # of more than M of one class only the newest stay: every row writes the newest of its place
        newest = same & (places[:, None] == places) & (after < self.size)
        directions = _directions(latents.detach()).half()
        self.bank[labels, places] = directions[newest.int().argmax(1)]
        self.seen.index_add_(0, labels, torch.ones_like(labels))

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep."""
        return {"bank": self.bank, "seen": self.seen}

    def restore(self, values: dict[str, Tensor]) -> None:
        """Take over :meth:`state`."""
        self.bank, self.seen = values["bank"], values["seen"]


class MinimaxTerms:
    """The weighted terms of a batch, and the memories that they look at.

    Args:
        config: weights and size of the memories.
        num_classes: C.
        dimensions: numbers of a latent.
        device: where to compute.
    """

    def __init__(
        self, config: MinimaxConfig, num_classes: int, dimensions: int, device: torch.device
    ) -> None:
        self.config = config
        self.real = LatentMemory(num_classes, config.memory, dimensions, device)
        self.predicted = LatentMemory(num_classes, config.memory, dimensions, device)

    def loss(self, real: Tensor, predicted: Tensor, labels: Tensor) -> Tensor:
        """The weighted sum of both terms; then the memories take in the batch of every worker.

        Args:
            real: latents [B, C, h, w].
            predicted: of the same images; gradients pass.
            labels: int64 [B], of the source.
        """
        weights = self.config.representative_weight, self.config.diverse_weight
        loss = weights[0] * representative_loss(predicted, labels, self.real)
        loss = loss + weights[1] * diverse_loss(predicted, labels, self.predicted)
        labels = _gather(labels)
        self.real.append(_gather(real), labels)
        self.predicted.append(_gather(predicted.detach()), labels)
        return loss

    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep."""
        return {"real": self.real.state(), "predicted": self.predicted.state()}

    def restore(self, values: dict[str, Any]) -> None:
        """Take over :meth:`state`."""
        self.real.restore(values["real"])
        self.predicted.restore(values["predicted"])


def representative_loss(predicted: Tensor, labels: Tensor, memory: LatentMemory) -> Tensor:
    """1 minus the least cosine of a class's predicted latents with its real ones, mean over the
    batch's classes; 0 for a class without memory.
    """
    cosines, known = memory.cosines(predicted, labels)
    least = -_class_maximum(-cosines, known, labels)
    return _class_mean(torch.where(known.any(1), 1 - least, 0.0), labels)


def diverse_loss(predicted: Tensor, labels: Tensor, memory: LatentMemory) -> Tensor:
    """Greatest cosine of a class's predicted latents with its earlier ones, mean over the batch's
    classes; 0 for a class without memory.
    """
    cosines, known = memory.cosines(predicted, labels)
    most = _class_maximum(cosines, known, labels)
    return _class_mean(torch.where(known.any(1), most, 0.0), labels)


def _class_maximum(values: Tensor, known: Tensor, labels: Tensor) -> Tensor:
    """For each image the greatest known value [B, M] of all images of its class, [B]."""
    each = values.masked_fill(~known, -torch.inf).amax(1)
    same = labels[:, None] == labels
    return torch.where(same, each, -torch.inf).amax(1)


def _class_mean(values: Tensor, labels: Tensor) -> Tensor:
    """Mean over classes of a value [B] that is equal within a class."""
    shares = 1 / (labels[:, None] == labels).sum(1)
    return (values * shares).sum() / shares.sum()


def _directions(latents: Tensor) -> Tensor:
    return F.normalize(latents.float().flatten(1), dim=1)


def _gather(values: Tensor) -> Tensor:
    """The values of every worker, which all have as many."""
    if not torch.distributed.is_initialized():
        return values
    everyone = [torch.empty_like(values) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(everyone, values.contiguous())
    return torch.cat(everyone)
