"""What a diffusion transformer is trained on: square error of the noise, bound of the variance.

Sources: Ho et al., arXiv 2006.11239; Nichol and Dhariwal, arXiv 2102.09672; DiT, arXiv 2212.09748.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor

_BIN = 1 / 255  # half a step of 8-bit pixels in [-1, 1]
_EDGE = 0.999  # a pixel beyond it belongs to the outermost bin
_LEAST_PROBABILITY = 1e-12


class NoiseSchedule(NamedTuple):
    """Factors of each timestep, float32 [T].

    Attributes:
        signal: of the clean latent in a noisy one.
        noise: of the noise in a noisy one.
        posterior_clean: of the clean latent in the mean of the posterior q(x_{t-1} | x_t, x_0).
        posterior_noisy: of the noisy latent in the same.
        log_beta: upper end of the log variance of a step back.
        log_posterior: lower end: the posterior's log variance, at t = 0 that of t = 1.
    """

    signal: Tensor
    noise: Tensor
    posterior_clean: Tensor
    posterior_noisy: Tensor
    log_beta: Tensor
    log_posterior: Tensor

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(*(factors.to(device) for factors in self))


def noise_schedule(betas: Tensor) -> NoiseSchedule:
    """Every factor that the loss needs, from the variances of the steps, [T]."""
    betas = betas.double()
    abar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones_like(abar[:1]), abar[:-1]])
    variance = betas * (1 - before) / (1 - abar)
    factors = NoiseSchedule(
        abar.sqrt(),
        (1 - abar).sqrt(),
        betas * before.sqrt() / (1 - abar),
        (1 - before) * (1 - betas).sqrt() / (1 - abar),
        betas.log(),
        torch.cat([variance[1:2], variance[1:]]).log(),
    )
    return NoiseSchedule(*(factor.float() for factor in factors))


def add_noise(clean: Tensor, noise: Tensor, timesteps: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Latents at a timestep, x_t.

    Args:
        clean: x_0 [B, C, h, w].
        noise: normal, [B, C, h, w].
        timesteps: int64 [B].
        schedule: on the same device.
    """
    return _at(schedule.signal, timesteps) * clean + _at(schedule.noise, timesteps) * noise


def estimate_clean(
    noisy: Tensor, noise: Tensor, timesteps: Tensor, schedule: NoiseSchedule
) -> Tensor:
    """The x_0 that predicted noise implies; shapes as in :func:`add_noise`."""
    return (noisy - _at(schedule.noise, timesteps) * noise) / _at(schedule.signal, timesteps)


def diffusion_loss(
    prediction: Tensor,
    clean: Tensor,
    noisy: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    schedule: NoiseSchedule,
    variance_weight: float,
) -> Tensor:
    """Mean square error of the noise plus the weighted bound of the variance.

    Args:
        prediction: noise and variance interpolation, float32 [B, 2 C, h, w].
        clean: x_0 [B, C, h, w].
        noisy: x_t.
        noise: that x_t holds.
        timesteps: int64 [B].
        schedule: on the same device.
        variance_weight: of a term of the bound; its gradient reaches the variance only. 1 is DiT's
            and, with T = 1000, Nichol and Dhariwal's 0.001 of the sum over all T.

    Returns:
        float32 scalar.
    """
    predicted, interpolation = prediction.chunk(2, dim=1)
    loss = (predicted - noise).square().mean()
    bound = variational_bound(predicted.detach(), interpolation, clean, noisy, timesteps, schedule)
    return loss + variance_weight * bound.mean()


def variational_bound(
    predicted: Tensor,
    interpolation: Tensor,
    clean: Tensor,
    noisy: Tensor,
    timesteps: Tensor,
    schedule: NoiseSchedule,
) -> Tensor:
    """One term of the bound of the negative log likelihood, in bits per dimension, [B].

    Args:
        predicted: noise [B, C, h, w].
        interpolation: -1 is the posterior's variance, 1 is beta.
        clean: x_0.
        noisy: x_t.
        timesteps: int64 [B].
        schedule: on the same device.
    """
    low, high = _at(schedule.log_posterior, timesteps), _at(schedule.log_beta, timesteps)
    log_variance = low + (interpolation + 1) / 2 * (high - low)
    estimate = estimate_clean(noisy, predicted, timesteps, schedule)
    weight = _at(schedule.posterior_clean, timesteps)
    gap = weight * (clean - estimate)  # of the two means: both hold x_t alike
    divergence = 0.5 * (
        log_variance - low - 1 + (low - log_variance).exp() + gap**2 * (-log_variance).exp()
    )
    mean = weight * estimate + _at(schedule.posterior_noisy, timesteps) * noisy
    last = _discrete_surprise(clean, mean, log_variance)
    terms = torch.where(timesteps.reshape(-1, 1, 1, 1) == 0, last, divergence)
    return terms.flatten(1).mean(1) / math.log(2)


def _discrete_surprise(values: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Negative log probability of 8-bit values under a Gaussian."""
    precision, gap = (-0.5 * log_variance).exp(), values - mean
    below = torch.special.ndtr(precision * (gap - _BIN))
    up_to = torch.special.ndtr(precision * (gap + _BIN))
    below = torch.where(values < -_EDGE, 0.0, below)
    up_to = torch.where(values > _EDGE, 1.0, up_to)
    return -(up_to - below).clamp_min(_LEAST_PROBABILITY).log()


def _at(factors: Tensor, timesteps: Tensor) -> Tensor:
    return factors[timesteps].reshape(-1, 1, 1, 1)
