"""Soft labels in fewer bytes: few logits of a view, each in two bytes or in one.

Of the classes whose logits are dropped the probability is kept. A logit of one byte counts steps
from the middle of its view's kept logits: counted from 0, most steps would be wasted where logits
are not centred, as the largest k never are. The middle is kept beside the step: a softmax needs no
offset, but the mean squared error compares logits as they are.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_FLOAT, _HALF = torch.finfo(torch.float32), torch.finfo(torch.float16)
STEPS = 127  # of an int8 to either side of the middle; -128 stays unused


class CompressedLogits(NamedTuple):
    """Labels of B views.

    Attributes:
        logits: float16 [B, k], the largest first; all C in class order where k is C. As int8, in
            [-127, 127], they are (logits - offset) / scale, rounded.
        classes: int64 [B, k], whose logits they are; None where k is C.
        residual: float32 [B], in (0, 1): the probability of the C - k other classes; None where k
            is C.
        scale: float16 [B], above 0: from one value of an int8 to the next; None with float16.
        offset: float16 [B]: the logit of value 0; None with float16.
    """

    logits: Tensor
    classes: Tensor | None = None
    residual: Tensor | None = None
    scale: Tensor | None = None
    offset: Tensor | None = None


@torch.no_grad()
def compress_logits(logits: Tensor, top_k: int, dtype: str = "float16") -> CompressedLogits:
    """Keep the k largest logits of each view, and how probable the others are together.

    Args:
        logits: float [B, C].
        top_k: k; 0, or C and more, keeps all of them (the form of FKD).
        dtype: "float16" or "int8", of a kept logit.

    Returns:
        The labels; the residual is taken at temperature 1, before the logits are rounded.
    """
    if not 0 < top_k < logits.shape[1]:
        return _round(CompressedLogits(logits.float()), dtype)
    logits = logits.float()
    values, classes = logits.topk(top_k, dim=1)
    # summed over the others, not 1 - the sum of the largest: that would cancel
    others = logits.scatter(1, classes, -torch.inf).logsumexp(dim=1)
    residual = (others - logits.logsumexp(dim=1)).exp()
    # 0 and 1 would make logits of infinity
    residual = residual.clamp(_FLOAT.tiny, 1 - _FLOAT.eps)
    return _round(CompressedLogits(values, classes, residual), dtype)


def _round(labels: CompressedLogits, dtype: str) -> CompressedLogits:
    """Labels of float32 logits in fewer bytes; an int8 is off by at most half of its scale."""
    if dtype == "float16":
        return labels._replace(logits=labels.logits.half())
    least, most = labels.logits.aminmax(dim=1, keepdim=True)
    offset = ((least + most) / 2).half()
    centred = labels.logits - offset.float()  # of the rounded one, which is what readers have
    # equal logits have no spread, and below its normal numbers float16 would be coarse
    scale = (centred.abs().amax(dim=1, keepdim=True) / STEPS).clamp(min=_HALF.tiny).half()
    values = (centred / scale.float()).round().clamp(-STEPS, STEPS).to(torch.int8)
    return labels._replace(logits=values, scale=scale.squeeze(1), offset=offset.squeeze(1))


@torch.no_grad()
def expand_logits(labels: CompressedLogits, num_classes: int) -> Tensor:
    """Logits of all classes; those that were not kept share the residual probability equally.

    Args:
        labels: of B views.
        num_classes: C.

    Returns:
        float32 [B, C]. Kept logits are as stored, of int8 offset + scale * value; each other one is
        log(residual / (C - k)) + log Z, where Z makes the kept ones sum to 1 - residual.
    """
    kept = labels.logits.float()
    if labels.scale is not None and labels.offset is not None:
        kept = kept * labels.scale.float().unsqueeze(1) + labels.offset.float().unsqueeze(1)
    if labels.classes is None or labels.residual is None:
        return kept
    normaliser = kept.logsumexp(dim=1) - torch.log1p(-labels.residual)
    share = labels.residual.log() - math.log(num_classes - kept.shape[1])
    rest = (normaliser + share).unsqueeze(1).repeat(1, num_classes)
    return rest.scatter(1, labels.classes, kept)
