"""Equations of ancestral diffusion sampling and of pushing it along a gradient.

Everything is linear algebra per image; alpha stands for the cumulated product of 1 - beta up to a
step ("alpha bar"), ``previous`` for the step that is sampled next, nearer to the clean image.
Sources: Ho et al., arXiv 2006.11239; Nichol and Dhariwal, arXiv 2102.09672 (learned variance); Ho
and Salimans, arXiv 2207.12598 (classifier-free guidance).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-30  # a gradient of 0 stays 0


def window_steps(window: tuple[float, float], steps: int) -> range:
    """The steps k, counted from the clean end, with low <= k / steps <= high.

    Args:
        window: low and high, fractions in [0, 1].
        steps: of the sampling; k runs from 0 to steps - 1.
    """
    slack = 1e-9  # 0.3 * 50 must not depend on rounding
    low, high = math.ceil(window[0] * steps - slack), math.floor(window[1] * steps + slack)
    return range(low, min(high, steps - 1) + 1)


def guide_classes(
    conditional: Tensor, unconditional: Tensor, scale: float, channels: int
) -> Tensor:
    """Classifier-free guidance: u + scale * (c - u) on the first channels, c on the others.

    Args:
        conditional: noise predicted for the class, [B, C, h, w].
        unconditional: noise predicted for no class, [B, C, h, w].
        scale: 1 is no guidance.
        channels: how many; 0 is all.
    """
    count = channels or conditional.shape[1]
    first = unconditional[:, :count]
    first = first + scale * (conditional[:, :count] - first)
    return torch.cat([first, conditional[:, count:]], dim=1)


def predict_clean(noisy: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """x_0 that belongs to x_t and the noise in it, not clipped, [B, C, h, w].

    Args:
        noisy: x_t.
        noise: predicted.
        alpha: of the step, in (0, 1).
    """
    return (noisy - math.sqrt(1 - alpha) * noise) / math.sqrt(alpha)


def ancestral_step(
    noisy: Tensor,
    noise: Tensor,
    mix: Tensor,
    draw: Tensor | None,
    alpha: float,
    previous: float,
) -> Tensor:
    """Draw x_{t-1} given x_t, with the variance that the network chose.

    Args:
        noisy: x_t, [B, C, h, w].
        noise: predicted.
        mix: v in [-1, 1]: the variance's logarithm lies between that of the posterior (-1) and that
            of beta (1).
        draw: normal, the step's own noise; None takes the mean, as the last step must.
        alpha: of the step.
        previous: alpha of the next one, 1 at the last.
    """
    beta = 1 - alpha / previous
    clean = predict_clean(noisy, noise, alpha)
    mean = math.sqrt(previous) * beta / (1 - alpha) * clean
    mean = mean + math.sqrt(1 - beta) * (1 - previous) / (1 - alpha) * noisy
    if draw is None:
        return mean
    posterior = beta * (1 - previous) / (1 - alpha)
    share = (mix + 1) / 2
    log_variance = share * math.log(beta) + (1 - share) * math.log(posterior)
    return mean + torch.exp(log_variance / 2) * draw


def match_scale(gradient: Tensor, noise: Tensor) -> Tensor:
    """The gradient [B, C, h, w], each image's as large (rms) as the noise predicted for it.

    A gradient of zeros stays so.
    """
    return gradient * (_rms(noise) / _rms(gradient).clamp_min(_TINY))


def epsilon_share(alpha: float, previous: float) -> float:
    """How far changing the predicted noise moves the mean, as a fraction of a shift by as much.

    Taking a direction off the predicted noise (epsilon form) moves the mean of an ancestral step
    along it; adding the direction to the drawn sample (shift form) moves that by the whole of it.

    Args:
        alpha: of the step.
        previous: alpha of the next one.
    Returns:
        beta * sqrt(previous / alpha) / sqrt(1 - alpha), about 0.16 to 0.37 in the middle of 50
        steps.
    """
    return (1 - alpha / previous) * math.sqrt(previous / alpha) / math.sqrt(1 - alpha)


def similarity_gradient(noisy: Tensor, memory: Tensor) -> Tensor:
    """Gradient of the cosine between each x_t and the latent most similar to it.

    Args:
        noisy: x_t, [B, C, h, w].
        memory: M latents of each image's class, [B, M, C, h, w], M at least 1.
    Returns:
        [B, C, h, w].
    Source: deviation guidance of IGD (ICLR 2025).
    """
    flat = noisy.flatten(1)
    length = flat.norm(dim=1, keepdim=True).clamp_min(_TINY)
    unit = flat / length
    kept = F.normalize(memory.flatten(2), dim=2)
    cosines = torch.einsum("bmd,bd->bm", kept, unit)
    nearest = cosines.argmax(dim=1)
    rows = torch.arange(len(flat), device=flat.device)
    cosine = cosines[rows, nearest][:, None]
    return ((kept[rows, nearest] - cosine * unit) / length).view_as(noisy)


def _rms(values: Tensor) -> Tensor:
    return values.flatten(1).square().mean(dim=1).sqrt().view(-1, 1, 1, 1)
