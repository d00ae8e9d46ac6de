"""Soft labels in fewer bytes: the largest logits of a view and the probability of all others."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_FLOAT = torch.finfo(torch.float32)


class CompressedLogits(NamedTuple):
    """Labels of B views.

    Attributes:
        logits: float16 [B, k], the largest first; all C in class order where k is C.
        classes: int64 [B, k], whose logits they are; None where k is C.
        residual: float32 [B], in (0, 1): the probability of the C - k other classes; None where k
            is C.
    """

    logits: Tensor
    classes: Tensor | None = None
    residual: Tensor | None = None


@torch.no_grad()
def compress_logits(logits: Tensor, top_k: int) -> CompressedLogits:
    """Keep the k largest logits of each view in float16, and how probable the others are together.

    Args:
        logits: float [B, C].
        top_k: k; 0, or C and more, keeps all of them (the form of FKD).

    Returns:
        The labels; the residual is taken at temperature 1, before the logits are rounded.
    """
    if not 0 < top_k < logits.shape[1]:
        return CompressedLogits(logits.half())
    logits = logits.float()
    values, classes = logits.topk(top_k, dim=1)
    # summed over the others, not 1 - the sum of the largest: that would cancel
    others = logits.scatter(1, classes, -torch.inf).logsumexp(dim=1)
    residual = (others - logits.logsumexp(dim=1)).exp()
    # 0 and 1 would make logits of infinity
    residual = residual.clamp(_FLOAT.tiny, 1 - _FLOAT.eps)
    return CompressedLogits(values.half(), classes, residual)


@torch.no_grad()
def expand_logits(labels: CompressedLogits, num_classes: int) -> Tensor:
    """Logits of all classes; those that were not kept share the residual probability equally.

    Args:
        labels: of B views.
        num_classes: C.

    Returns:
        float32 [B, C]. Kept logits are as stored; each other one is
        log(residual / (C - k)) + log Z, where Z makes the kept ones sum to 1 - residual.
    """
    kept = labels.logits.float()
    if labels.classes is None or labels.residual is None:
        return kept
    normaliser = kept.logsumexp(dim=1) - torch.log1p(-labels.residual)
    share = labels.residual.log() - math.log(num_classes - kept.shape[1])
    rest = (normaliser + share).unsqueeze(1).repeat(1, num_classes)
    return rest.scatter(1, labels.classes, kept)
