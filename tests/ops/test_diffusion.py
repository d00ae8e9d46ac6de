"""Claims about raydd.ops.diffusion."""

import math

import pytest
import torch
import torch.nn.functional as F

from raydd.models.diffusion import new_scheduler
from raydd.ops.diffusion import (
    ancestral_step,
    epsilon_share,
    guide_classes,
    match_scale,
    predict_clean,
    similarity_gradient,
    window_steps,
)
from raydd.ops.seeds import generator

ALPHA, PREVIOUS = 0.31, 0.42


def _normal(*shape):
    """Draws that are others for another shape."""
    return torch.randn(shape, dtype=torch.float64, generator=generator(*shape))


def test_the_window_of_the_specification_is_k_15_to_45_of_50():
    assert window_steps((0.3, 0.9), 50) == range(15, 46)
    assert window_steps((0.0, 1.0), 50) == range(50)
    assert list(window_steps((0.49, 0.51), 10)) == [5]


def test_guidance_works_on_the_first_channels_only():
    given, none = _normal(2, 4, 3, 3), _normal(1, 4, 3, 3).repeat(2, 1, 1, 1)
    guided = guide_classes(given, none, 4.0, 3)
    torch.testing.assert_close(guided[:, :3], none[:, :3] + 4 * (given - none)[:, :3])
    assert torch.equal(guided[:, 3:], given[:, 3:])
    torch.testing.assert_close(guide_classes(given, none, 4.0, 0), none + 4 * (given - none))


def test_the_clean_image_is_found_in_its_noisy_one():
    clean, noise = _normal(2, 3, 4, 4), _normal(1, 3, 4, 4)
    noisy = math.sqrt(ALPHA) * clean + math.sqrt(1 - ALPHA) * noise
    torch.testing.assert_close(predict_clean(noisy, noise, ALPHA), clean)


def test_a_step_draws_from_the_posterior_of_the_clean_image_found():
    """Bayes: x_{t-1} ~ N(sqrt(previous) x_0, 1 - previous), x_t | x_{t-1} ~ N(sqrt(1-b) ., b)."""
    clean, noise, draw = _normal(2, 3, 4, 4), _normal(1, 3, 4, 4), _normal(1, 1, 4, 4)
    noisy = math.sqrt(ALPHA) * clean + math.sqrt(1 - ALPHA) * noise
    beta = 1 - ALPHA / PREVIOUS
    precision = 1 / (1 - PREVIOUS) + (1 - beta) / beta
    weighted = math.sqrt(PREVIOUS) * clean / (1 - PREVIOUS) + math.sqrt(1 - beta) * noisy / beta
    low, high = torch.full_like(noisy, -1), torch.full_like(noisy, 1)
    step = lambda mix, draw: ancestral_step(noisy, noise, mix, draw, ALPHA, PREVIOUS)  # noqa: E731
    torch.testing.assert_close(step(low, None), weighted / precision)
    spread = (step(low, draw) - step(low, None)) / draw
    torch.testing.assert_close(spread.square(), torch.full_like(spread, 1 / precision))
    spread = (step(high, draw) - step(high, None)) / draw
    torch.testing.assert_close(spread.square(), torch.full_like(spread, beta))


@pytest.mark.parametrize("number", [0, 10, 45])
def test_a_step_is_that_of_diffusers(number):
    scheduler = new_scheduler()
    scheduler.set_timesteps(50)
    times = scheduler.timesteps.flip(0).tolist()
    alpha = float(scheduler.alphas_cumprod[times[number]])
    previous = float(scheduler.alphas_cumprod[times[number - 1]]) if number else 1.0
    noisy, noise = _normal(2, 4, 8, 8).float(), _normal(1, 4, 8, 8).float().repeat(2, 1, 1, 1)
    mix = torch.rand_like(noisy) * 2 - 1
    output = torch.cat([noise, mix], dim=1)
    draws = [torch.Generator().manual_seed(i) for i in range(2)]
    expected = scheduler.step(output, times[number], noisy, generator=draws).prev_sample
    draw = torch.stack(
        [torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    )
    ours = ancestral_step(noisy, noise, mix, draw if number else None, alpha, previous)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_gradient_gets_the_size_of_the_noise_image_by_image():
    gradient, noise = _normal(3, 4, 8, 8) * 1e-6, _normal(1, 4, 8, 8).repeat(3, 1, 1, 1)
    gradient[1] *= 1000
    gradient[2] = 0
    scaled = match_scale(gradient, noise)
    sizes = scaled.flatten(1).norm(dim=1)
    torch.testing.assert_close(sizes[:2], noise.flatten(1).norm(dim=1)[:2])
    assert F.cosine_similarity(scaled[0].flatten(), gradient[0].flatten(), dim=0) > 0.9999
    assert (scaled[2] == 0).all()


def test_the_epsilon_form_is_the_share_of_the_shift_form_that_is_promised():
    noisy, noise, push = _normal(2, 4, 8, 8), _normal(1, 4, 8, 8), _normal(1, 1, 8, 8)
    step = lambda noise: ancestral_step(noisy, noise, noise, None, ALPHA, PREVIOUS)  # noqa: E731
    share = epsilon_share(ALPHA, PREVIOUS)
    scaled = math.sqrt(1 - ALPHA) * push
    torch.testing.assert_close(step(noise - scaled), step(noise) + share * scaled)


def test_the_share_is_that_of_the_specification():
    scheduler = new_scheduler()
    scheduler.set_timesteps(50)
    alphas = scheduler.alphas_cumprod[scheduler.timesteps.flip(0)].tolist()
    shares = [epsilon_share(alphas[k], alphas[k - 1]) for k in (15, 30, 45)]
    assert shares == pytest.approx([0.16, 0.25, 0.37], abs=0.01)


def test_the_similarity_gradient_is_that_of_the_nearest_cosine():
    noisy, memory = _normal(2, 4, 3, 3).requires_grad_(True), _normal(2, 5, 4, 3, 3)
    cosines = F.cosine_similarity(noisy.flatten(1)[:, None], memory.flatten(2), dim=2)
    (expected,) = torch.autograd.grad(cosines.amax(dim=1).sum(), noisy)
    torch.testing.assert_close(similarity_gradient(noisy.detach(), memory), expected)
