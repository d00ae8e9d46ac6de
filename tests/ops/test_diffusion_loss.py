"""The schedule against diffusers', the bound against formulas."""

import math

import pytest
import torch

from raydd.models.diffusion import new_scheduler
from raydd.ops.diffusion_loss import (
    add_noise,
    diffusion_loss,
    estimate_clean,
    noise_schedule,
    variational_bound,
)

SCHEDULER = new_scheduler()
SCHEDULE = noise_schedule(SCHEDULER.betas)
TIMES = torch.tensor([0, 1, 500, 999])


@pytest.fixture
def latents():
    torch.manual_seed(0)
    return torch.rand(4, 2, 4, 4) * 2 - 1, torch.randn(4, 2, 4, 4)


def test_noise_is_added_as_diffusers_does_and_taken_away_again(latents):
    clean, noise = latents
    noisy = add_noise(clean, noise, TIMES, SCHEDULE)
    torch.testing.assert_close(noisy, SCHEDULER.add_noise(clean, noise, TIMES))
    found = estimate_clean(noisy, noise, TIMES, SCHEDULE)
    torch.testing.assert_close(found, clean, atol=1e-3, rtol=0)


def test_the_true_posterior_costs_nothing_but_at_the_last_step(latents):
    clean, noise = latents
    noisy = add_noise(clean, noise, TIMES, SCHEDULE)
    bound = variational_bound(noise, -torch.ones_like(noise), clean, noisy, TIMES, SCHEDULE)
    assert bound[1:].abs().max() < 1e-4
    assert 0 < bound[0] < 8  # bits of one 8-bit pixel


def test_the_bound_is_the_divergence_of_two_gaussians(latents):
    clean, noise = latents
    noisy = add_noise(clean, noise, TIMES, SCHEDULE)
    guess, t = torch.randn_like(noise), 500
    bound = variational_bound(guess, torch.ones_like(noise), clean, noisy, TIMES, SCHEDULE)[2]
    beta, abar = SCHEDULER.betas.double(), SCHEDULER.alphas_cumprod.double()
    weight = beta[t] * abar[t - 1].sqrt() / (1 - abar[t])
    estimate = (noisy[2] - (1 - abar[t]).sqrt() * guess[2]) / abar[t].sqrt()
    low = (beta[t] * (1 - abar[t - 1]) / (1 - abar[t])).sqrt()
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(
        normal(weight * clean[2], low), normal(weight * estimate, beta[t].sqrt())
    ).mean() / math.log(2)
    torch.testing.assert_close(bound.double(), wanted, rtol=1e-4, atol=1e-6)


def test_pixels_of_the_last_step_are_as_probable_as_their_bins():
    """All bins of a pixel together have probability 1."""
    values = (torch.arange(256) / 127.5 - 1).reshape(256, 1, 1, 1)
    zeros = torch.zeros(256, dtype=torch.int64)
    noisy = torch.full_like(values, 0.1)
    bits = variational_bound(
        torch.zeros_like(values), torch.ones_like(values), values, noisy, zeros, SCHEDULE
    )
    torch.testing.assert_close((2.0**-bits).sum(), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_the_bound_moves_the_variance_and_not_the_noise(latents):
    clean, noise = latents
    noisy = add_noise(clean, noise, TIMES, SCHEDULE)
    prediction = torch.randn(4, 4, 4, 4, requires_grad=True)
    loss = diffusion_loss(prediction, clean, noisy, noise, TIMES, SCHEDULE, 1.0)
    (with_bound,) = torch.autograd.grad(loss, prediction)
    loss = diffusion_loss(prediction, clean, noisy, noise, TIMES, SCHEDULE, 0.0)
    (without,) = torch.autograd.grad(loss, prediction)
    assert torch.equal(with_bound[:, :2], without[:, :2])
    assert with_bound[:, 2:].abs().min() > 0
    assert not without[:, 2:].any()
