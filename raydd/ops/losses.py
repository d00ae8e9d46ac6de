"""Losses of synthesis and distillation as pure functions of tensors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_ADVERSARIAL_FLOOR = math.log(1e-12)  # keeps log(1 - p) finite, value of the official code
# Of a matrix exponential: eigenvalues of some thousands are brought below 0.1, where the series is
# exact to 1e-12; float64 loses 2 ** 16 roundings on the way back.
_SQUARINGS, _TAYLOR_ORDER = 16, 7


def flatness_loss(logits: Tensor, average_logits: Tensor, temperature: float) -> Tensor:
    """KL divergence of the predictions for the averaged images from those for the images.

    Args:
        logits: float [B, C], of a view of the images.
        average_logits: float [B, C], of the same view of their running average; a constant.
        temperature: tau, above 0; 4 in the paper.

    Returns:
        float32 scalar, KL(softmax(logits / tau) || softmax(average / tau)), mean over the batch.

    Source: arXiv 2404.13733, L_FR.
    """
    return distillation_loss(average_logits.detach(), logits, temperature)


def densification_loss(images: Tensor, labels: Tensor, temperature: float = 4.0) -> Tensor:
    """Spread the spectrum of the images of each class, so that they do not all say the same.

    Args:
        images: float [B, 3, H, W]; compared at 32 x 32 pixels.
        labels: int64 [B]; a class with one image has no spectrum and adds 0.
        temperature: tau of the flatter spectrum that the images are pulled to.

    Returns:
        float32 scalar, sum over classes of KL(softmax(l / tau), a constant || softmax(l)), l the
        eigenvalues of the Gram matrix of the class's flattened images, divided by the number of
        values of an image.

    Source: arXiv 2311.17950, data densification. Differs: the division keeps the softmax off its
    ends at any resolution.
    """
    small = _average_pool(images.float(), 32).flatten(1)
    same = labels[:, None] == labels
    # one matrix of all classes, a block each: nothing hangs on how many images a class has
    gram = torch.where(same, small @ small.T, 0.0) / small.shape[1]
    blocks = gram.detach().double()
    flat, flat_log = _spectrum_shares(blocks / temperature, same)
    sharp, sharp_log = _spectrum_shares(blocks, same)
    # sum over a class of p * l, its share of each image
    expected = (flat * blocks).sum(dim=1)
    count = same.sum(dim=1)
    terms = _class_sum(expected * (1 / temperature - 1), same) + sharp_log - flat_log
    value = torch.where(count > 1, terms / count, 0.0).sum()
    slope = torch.where(count[:, None] > 1, sharp - flat, 0.0).float()
    # d l_i = v_i^T dG v_i, so the gradient by the Gram matrix is that of two matrix exponentials
    return value.float() + (slope * (gram - gram.detach())).sum()


def _average_pool(images: Tensor, size: int) -> Tensor:
    """Adaptive average pooling [B, C, H, W] to a square as matrix products.

    Unlike the pooling kernel on CUDA, its gradient is the same in every run.
    """
    rows, columns = (_average_matrix(side, size, images.device) for side in images.shape[2:])
    return rows @ images @ columns.T


def _average_matrix(source: int, size: int, device: torch.device) -> Tensor:
    places, pixels = torch.arange(size, device=device)[:, None], torch.arange(source, device=device)
    begin, end = places * source // size, -(-(places + 1) * source // size)
    inside = ((pixels >= begin) & (pixels < end)).float()
    return inside / inside.sum(dim=1, keepdim=True)


def _spectrum_shares(blocks: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over the eigenvalues of each class's block, without the eigenvalues.

    Torch's solver would read from the device whether it has converged.

    Args:
        blocks: float64 [B, B], symmetric, eigenvalues not below 0, 0 between classes.
        same: bool [B, B], which images are of one class.

    Returns:
        exp(block) / trace(exp(block)) [B, B], and the logarithm of the trace of each image's
        class, [B].
    """
    bound = torch.where(same, blocks.abs().sum(dim=1), 0.0).amax(dim=1)  # of the eigenvalues
    shrunk = (blocks - torch.diag(bound)) / 2**_SQUARINGS
    power = unit = torch.eye(len(blocks), dtype=blocks.dtype, device=blocks.device)
    for order in range(_TAYLOR_ORDER, 0, -1):
        power = unit + shrunk @ power / order
    for _ in range(_SQUARINGS):
        power = power @ power
    trace = _class_sum(power.diagonal(), same)
    return power / trace[:, None], trace.log() + bound


def _class_sum(values: Tensor, same: Tensor) -> Tensor:
    """For each image the sum of the values [B] of its class."""
    return torch.where(same, values, 0.0).sum(dim=1)


def logit_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, hard_weight: float
) -> Tensor:
    """Mean squared error of the logits and a weighted cross-entropy of the hard labels.

    Args:
        student_logits: float [B, C].
        teacher_logits: float [B, C], mean of the ensemble's logits.
        labels: int64 [B], of the images before mixing, as in the authors' code.
        hard_weight: weight of the cross-entropy; 0.025 in EDC.

    Returns:
        float32 scalar, mean over all B * C differences, plus the weighted mean over the batch.

    Source: arXiv 2311.17950 (MSE + gamma CE) and arXiv 2404.13733.
    """
    student = student_logits.float()
    loss = F.mse_loss(student, teacher_logits.float())
    return loss + hard_weight * F.cross_entropy(student, labels)


def adversarial_loss(
    student_logits: Tensor, labels: Tensor, mask: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Lower the student's confidence in the true class where the teacher is right.

    Args:
        student_logits: float [B, C].
        labels: int64 [B], true class of each row.
        mask: bool [B], True where the teacher classifies the same view correctly.
        smoothing: epsilon in [0, 1); the target is (1 - epsilon) * onehot + epsilon / C.

    Returns:
        float32 scalar, mean over all B rows of -sum_c target_c * log(1 - p_c + 1e-12). A masked row
        counts as all-zero logits: the constant -log(1 - 1/C) when smoothing is 0, without gradient.

    Source: arXiv 2405.09150. Differs: 1 - p is computed without cancellation, so that a student
    that is certain in float32 still gives a gradient.
    """
    logits = student_logits.float() * mask.unsqueeze(1)
    log_rest = torch.logaddexp(
        _log_one_minus_softmax(logits), logits.new_full((), _ADVERSARIAL_FLOOR)
    )
    true_class = log_rest.gather(1, labels.unsqueeze(1)).squeeze(1)
    per_row = (1.0 - smoothing) * true_class + smoothing * log_rest.mean(dim=1)
    return -per_row.mean()


def _log_one_minus_softmax(logits: Tensor) -> Tensor:
    """Return log(1 - softmax(logits)), float [B, C], exact also where a probability is near 1."""
    top = logits.argmax(dim=1, keepdim=True)
    # only the largest probability can exceed 1/2, so only there 1 - p cancels
    others = torch.log1p(-logits.softmax(dim=1).scatter(1, top, 0.0))
    rest = logits.scatter(1, top, -torch.inf).logsumexp(dim=1, keepdim=True)
    return others.scatter(1, top, rest - logits.logsumexp(dim=1, keepdim=True))


def start_image_loss(difference: Tensor) -> Tensor:
    """Mean squared difference between the view of the images and the same view of their start.

    Args:
        difference: float [B, 3, R, R], view of (images - start images), normalised space.

    Returns:
        Scalar mean over all elements; 0 at step 0.

    Source: arXiv 2405.09150, L_2.
    """
    return difference.square().mean()


def total_variation(images: Tensor) -> Tensor:
    """Sum of the Frobenius norms of the first differences in four directions, over the whole batch.

    Args:
        images: float [B, C, H, W].

    Returns:
        Scalar; 0 for constant images.

    Source: DeepInversion prior kept by arXiv 2306.13092 (its published weight is 0).
    """
    differences = (
        images[:, :, :, 1:] - images[:, :, :, :-1],
        images[:, :, 1:, :] - images[:, :, :-1, :],
        images[:, :, 1:, 1:] - images[:, :, :-1, :-1],
        images[:, :, 1:, :-1] - images[:, :, :-1, 1:],
    )
    return torch.stack([torch.linalg.vector_norm(d) for d in differences]).sum()


def l2_prior(images: Tensor) -> Tensor:
    """Mean over the batch of each image's L2 norm; images float [B, C, H, W]."""
    return torch.linalg.vector_norm(images.flatten(1), dim=1).mean()


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    scale_by_temperature: bool = False,
) -> Tensor:
    """KL divergence from the teacher's to the student's softened distribution.

    Args:
        student_logits: float [B, C].
        teacher_logits: float [B, C], logits and not probabilities.
        temperature: tau, above 0; 20 in SRe2L.
        scale_by_temperature: multiply by tau squared (the SGD recipes for Tiny-ImageNet do).

    Returns:
        float32 scalar, summed over classes, mean over the batch; 0 when both agree.
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    loss = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return loss * temperature**2 if scale_by_temperature else loss
