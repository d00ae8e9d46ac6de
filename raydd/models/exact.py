"""Kernels of a GPU that give the same bits in every run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def deterministic_kernels(tf32: bool | None = None) -> Iterator[None]:
    """Context in which cuDNN takes repeatable algorithms and does not choose them by a stopwatch.

    ``torch.backends.cudnn.flags`` is not used: it sets everything that it is not told, and
    switches cuDNN off unless it is told ``enabled=True``. Here all else stays as it is.
    What torch itself computes with atomic additions is not repeatable even so, above all the
    gradients of attention and of embeddings.

    Args:
        tf32: False keeps convolutions and matrix products in full float32, for results that must
            not depend on the kind of GPU; None leaves that as the process has it.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.deterministic
    rounding = None if tf32 is None else (cudnn.allow_tf32, products.allow_tf32)
    cudnn.benchmark, cudnn.deterministic = False, True
    if tf32 is not None:
        cudnn.allow_tf32 = products.allow_tf32 = tf32
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
        if rounding is not None:
            cudnn.allow_tf32, products.allow_tf32 = rounding
