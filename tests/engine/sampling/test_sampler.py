"""Claims about raydd.engine.sampling.sampler: DiT's sampling, and what an energy adds to it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raydd.engine.sampling.config import AdversaryConfig, SampleConfig
from raydd.engine.sampling.sampler import SampledBatch, Sampler
from raydd.models.registry import ModelConfig, create_model
from raydd.models.sampling_steps import sampling_steps
from raydd.ops.diffusion import epsilon_share, match_scale
from raydd.ops.seeds import generator as new_generator
from small_generator import CLASSES, SIDE, latent_generator, pixel_generator

ONE_STEP = (0.49, 0.51)  # of ten steps, only k = 5
CONFIG = SampleConfig(steps=10, precision="fp32", decode_batch=4)
LABELS, SLOTS = [3, 1, 4, 1, 5, 9], [0, 0, 0, 1, 0, 2]


@pytest.fixture(scope="module")
def latent():
    return latent_generator().eval()


@pytest.fixture(scope="module")
def energy():
    torch.manual_seed(1)
    network = create_model(ModelConfig("resnet10_thin", width=8), CLASSES, SIDE)
    network(torch.randn(64, 3, SIDE, SIDE))
    network.eval().requires_grad_(False)
    return lambda images, labels: F.cross_entropy(network(images), labels, reduction="none")


class Affine(nn.Module):
    """A transformer whose noise is an affine function of its input, other for every class."""

    def __init__(self, slope, shape):
        super().__init__()
        self.slope = slope
        shifts = torch.randn(CLASSES + 1, *shape, generator=new_generator("shifts"))
        self.register_buffer("shifts", shifts)

    def forward(self, noisy, timesteps, class_ids, return_dict):
        noise = self.slope * noisy + self.shifts[class_ids]
        return (torch.cat([noise, torch.zeros_like(noise)], dim=1),)


def _guided(**changes):
    return replace(CONFIG, adversary=AdversaryConfig(**{"energy": "plain", **changes}))


def _run(generator, config=CONFIG, energy=None, labels=LABELS, slots=SLOTS, **more):
    return Sampler(generator, config, "cpu", energy).run(labels, slots, 0, **more)


def _judge(energy, sampled, labels=LABELS):
    return energy(sampled.images.float() / 127.5 - 1, torch.tensor(labels))


def _by_the_book(generator, steps, labels, slots):
    """DiT's sampling as specified, float64, image by image."""
    network = copy.deepcopy(generator).double().eval()
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    abar = abar[[round(k * 999 / (steps - 1)) for k in range(steps)]]
    images = []
    for label, slot in zip(labels, slots, strict=True):
        draws = new_generator(0, "sample", label, slot)
        draws = torch.randn(steps, *generator.latent_shape, generator=draws).double()[:, None]
        x = draws[0]
        for k in reversed(range(steps)):
            t = torch.tensor([round(k * 999 / (steps - 1))])
            with torch.no_grad():
                known = network(x, t, torch.tensor([network.card.class_ids[label]]))
                unknown = network(x, t, torch.tensor([network.null_class]))
            eps, v = known[:, :4].clone(), (known[:, 4:] + 1) / 2
            eps[:, :3] = unknown[:, :3] + 4 * (known[:, :3] - unknown[:, :3])
            before = abar[k - 1] if k else 1.0
            beta = 1 - abar[k] / before
            x0 = (x - np.sqrt(1 - abar[k]) * eps) / np.sqrt(abar[k])
            x = (
                np.sqrt(before) * beta / (1 - abar[k]) * x0
                + np.sqrt(1 - beta) * (1 - before) / (1 - abar[k]) * x
            )
            if k:
                small = np.log(beta * (1 - before) / (1 - abar[k]))
                x = x + torch.exp((v * np.log(beta) + (1 - v) * small) / 2) * draws[steps - k]
        images.append(x)
    return torch.cat(images)


def test_the_steps_are_those_of_the_specification():
    steps = sampling_steps(50)
    times = {step.number: step.timestep for step in steps}
    assert [step.number for step in steps] == list(range(49, -1, -1))
    assert (times[0], times[10], times[30], times[45], times[49]) == (0, 204, 612, 917, 999)
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose([s.alpha for s in steps], [abar[s.timestep] for s in steps], 1e-5)
    assert [s.previous for s in steps[:-1]] == [s.alpha for s in steps[1:]]
    assert steps[-1].previous == 1


def test_sampling_is_dits_in_float64(latent):
    expected = _by_the_book(latent, CONFIG.steps, LABELS, SLOTS)
    sampled = _run(latent)
    error = (sampled.latents.double() - expected).abs().max()
    assert error < 2e-3 * expected.square().mean().sqrt()  # float16
    with torch.no_grad():
        decoded = copy.deepcopy(latent).double().decode(expected)
    pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round()
    assert (sampled.images - pixels).abs().max() <= 1
    assert pixels.std() > 5


@pytest.mark.parametrize("guided", [False, True])
def test_an_image_does_not_depend_on_the_batch(latent, energy, guided):
    config = _guided() if guided else CONFIG
    whole = _run(latent, config, energy)
    again = _run(latent, config, energy, LABELS[::-1], SLOTS[::-1])
    assert (again.images.flip(0).int() - whole.images.int()).abs().max() <= 1
    single = _run(latent, config, energy, LABELS[2:3], SLOTS[2:3])
    assert (single.images[0].int() - whole.images[2].int()).abs().max() <= 1
    assert not torch.equal(whole.images[1], whole.images[3])  # another slot


def test_a_scale_of_zero_is_unguided_to_the_bit_and_asks_no_energy(latent):
    def refuse(images, labels):
        raise AssertionError("asked")

    guided = _run(latent, _guided(scale=0.0), refuse)
    plain = _run(latent)
    assert torch.equal(guided.images, plain.images)
    assert torch.equal(guided.latents, plain.latents)
    assert len(guided.energies) == 0


@pytest.mark.parametrize("gradient", ["full", "cheap"])
@pytest.mark.parametrize("injection", ["shift", "epsilon"])
def test_one_guided_step_raises_the_energy(latent, energy, gradient, injection):
    config = _guided(gradient=gradient, injection=injection, window=ONE_STEP, scale=0.02)
    pushed, plain = _run(latent, config, energy), _run(latent)
    assert len(pushed.energies) == 1
    assert (_judge(energy, pushed) - _judge(energy, plain)).mean() > 0


def test_more_guided_steps_raise_the_energy_further(latent, energy):
    short = _run(latent, _guided(window=ONE_STEP), energy)
    long = _run(latent, _guided(window=(0.2, 0.9)), energy)
    assert len(long.energies) == 8
    assert _judge(energy, long).mean() > _judge(energy, short).mean()


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_cheap_and_full_agree_where_the_noise_is_a_multiple_of_the_input(latent, energy, slope):
    network = copy.deepcopy(latent)
    network.transformer = Affine(slope, network.latent_shape)
    full, cheap = (
        _run(network, _guided(gradient=gradient, scale=0.1, window=ONE_STEP), energy).latents
        for gradient in ("full", "cheap")
    )
    moved = (full - _run(network).latents).float().square().mean().sqrt()
    assert (full - cheap).float().square().mean().sqrt() < 0.02 * moved


def test_both_forms_agree_after_the_conversion_factor(latent, energy):
    step = sampling_steps(10)[4]
    scale, share = 0.2, epsilon_share(step.alpha, step.previous)
    assert step.number == 5
    epsilon = _guided(injection="epsilon", window=ONE_STEP, scale=scale)
    shift = _guided(injection="shift", window=ONE_STEP, scale=scale * share)
    epsilon, shift = (_run(latent, config, energy).latents.float() for config in (epsilon, shift))
    moved = (shift - _run(latent).latents.float()).square().mean().sqrt()
    assert (epsilon - shift).square().mean().sqrt() < 0.05 * moved


def test_the_full_gradient_is_that_of_the_whole_chain(latent, energy):
    network = copy.deepcopy(latent).double()
    step = sampling_steps(10)[4]
    noisy = torch.randn(3, *latent.latent_shape, generator=new_generator("noisy"))
    labels = torch.tensor(LABELS[:3])
    sampler = Sampler(latent, _guided(gradient="full"), "cpu", energy)
    ids = sampler.class_ids[labels]
    noise, _, gradient, _ = sampler.differentiate(
        noisy, step, SampledBatch(labels, ids, None), energy
    )

    x = noisy.double().requires_grad_(True)
    times = torch.full((3,), step.timestep)
    known = network(x, times, ids)[:, :4]
    unknown = network(x, times, torch.full_like(ids, network.null_class))[:, :4]
    eps = torch.cat([(unknown + 4 * (known - unknown))[:, :3], known[:, 3:]], dim=1)
    x0 = (x - (1 - step.alpha) ** 0.5 * eps) / step.alpha**0.5
    (expected,) = torch.autograd.grad(energy(network.decode(x0).float(), labels).sum(), x)
    torch.testing.assert_close(noise.double(), eps.detach(), rtol=1e-4, atol=1e-4)
    cosines = F.cosine_similarity(gradient.flatten(1), expected.float().flatten(1))
    assert cosines.min() > 0.999
    torch.testing.assert_close(
        gradient.flatten(1).norm(dim=1), expected.float().flatten(1).norm(dim=1), rtol=1e-2, atol=0
    )
    assert match_scale(gradient, noise).isfinite().all()


def test_the_cheap_gradient_keeps_no_activations_of_the_transformer():
    network = pixel_generator()
    labels = torch.tensor([0, 1])
    noisy = torch.randn(2, *network.latent_shape)

    def count(gradient):
        kept = []
        sampler = Sampler(network, _guided(gradient=gradient), "cpu")
        step = sampler.steps[5]
        batch = SampledBatch(labels, sampler.class_ids[labels], None)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            # no VAE, and a sum keeps nothing: what is kept is the transformer's
            sampler.differentiate(noisy, step, batch, lambda images, _: images.flatten(1).sum(1))
        return len(kept)

    assert count("cheap") == 0
    assert count("full") > 20


def test_the_deviation_leads_away_from_what_is_remembered(latent):
    plain = _run(latent)
    memory = torch.randn(len(LABELS), 1, *latent.latent_shape, generator=new_generator("memory"))
    assert torch.equal(_run(latent, memory=memory).images, plain.images)
    away = _run(latent, _guided(deviation=500.0), memory=memory)
    before, after = (
        F.cosine_similarity(sampled.latents.float().flatten(1), memory.flatten(1))
        for sampled in (plain, away)
    )
    assert (after < before - 1e-3).all()


def test_without_class_guidance_the_network_is_asked_once(latent):
    shapes = []
    config = replace(CONFIG, guidance_scale=1.0)
    sampler = Sampler(latent, config, "cpu")
    sampler.generator.transformer.register_forward_hook(
        lambda module, inputs, output: shapes.append(len(inputs[0]))
    )
    sampler.run([0, 1], [0, 0], 0)
    assert shapes == [2] * config.steps


def test_bf16_stays_close_to_fp32(latent):
    exact = _run(latent).latents.float().flatten(1)
    rough = _run(latent, replace(CONFIG, precision="bf16")).latents.float().flatten(1)
    assert F.cosine_similarity(exact, rough).min() > 0.99


def test_a_sampling_that_diverges_says_so(latent):
    with pytest.raises(FloatingPointError, match="sampling diverged"):
        _run(latent, _guided(), lambda images, labels: images.flatten(1).sum(1) * float("nan"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": 1}, r"steps must lie in \[2, 1000\]"),
        ({"batch_size": 0}, "at least 1"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"guidance_scale": -1.0}, "guidance_scale must be at least 0"),
        ({"guided_channels": -1}, "guided_channels must be at least 0"),
    ],
)
def test_samplers_that_cannot_run_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        SampleConfig(**change)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"energy": "free"}, "energy must be one of"),
        ({"gradient": "half"}, "gradient must be one of"),
        ({"injection": "ddim"}, "injection must be one of"),
        ({"scale": -0.1}, "scale must be at least 0"),
        ({"deviation": -1.0}, "deviation must be at least 0"),
        ({"bound": 0.0}, "bound must be above 0"),
        ({"window": (0.9, 0.3)}, "window must rise"),
        ({"window": (0.3, 1.2)}, "window must rise"),
    ],
)
def test_guidance_that_cannot_run_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        AdversaryConfig(**change)
