"""Diffusion on a device: sampling copies and reads nothing in a step, training copies once."""

from itertools import islice

import pytest
import torch
from upath import UPath

from device.small import SIDE, save_network
from device.virtual import DEVICE, per_step
from raydd.engine.generator.checkpoint import save_generator
from raydd.engine.generator.config import GeneratorRecipe, MinimaxConfig
from raydd.engine.generator.train import GeneratorJob, _Training
from raydd.engine.sampling.config import AdversaryConfig, SampleConfig
from raydd.engine.sampling.energy import AdversarialEnergy, Classifier
from raydd.engine.sampling.sampler import Sampler
from raydd.engine.training.data import Feed
from small_engine import write_images
from small_generator import latent_generator, small_generator

LABELS, SLOTS = [3, 1, 4], [0, 0, 1]


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return [save_network(folder / name, seed) for seed, name in enumerate(("new", "reference"))]


GUIDED = {"scale": 0.5, "window": (0.0, 1.0)}
VARIANTS = {
    "plain": None,
    "anchored, the whole gradient": GUIDED,
    "bounded, the cheap gradient": GUIDED
    | {"gradient": "cheap", "energy": "bounded", "injection": "epsilon"},
    "away from earlier images": GUIDED | {"deviation": 10.0},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_sampling_step_neither_copies_nor_reads_and_gives_the_images_of_the_cpu(name, networks):
    adversary = AdversaryConfig(**(VARIANTS[name] or {"scale": 0.0}))
    generator = latent_generator().eval()
    memory = torch.rand(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def run(steps, device=DEVICE):
        config = SampleConfig(steps=steps, precision="fp32", adversary=adversary)
        judges = [Classifier(UPath(n), "fp32", torch.device(device)) for n in networks]
        energy = AdversarialEnergy(*judges, adversary)
        return Sampler(generator, config, device, energy).run(LABELS, SLOTS, 0, memory)

    step, found = per_step(run, 2, 3)
    assert not step.copies
    assert not step.reads
    expected = run(3, "cpu")
    # attention on a device is another kernel than on a CPU: equal within rounding
    torch.testing.assert_close(found.energies, expected.energies, rtol=1e-4, atol=0)
    torch.testing.assert_close(found.latents, expected.latents, rtol=1e-2, atol=1e-2)
    assert (found.images.int() - expected.images.int()).abs().max() <= 1


def test_a_judge_of_another_size_copies_nothing_after_its_first_image(networks):
    def run(times):
        judge = Classifier(UPath(networks[0]), "fp32", torch.device(DEVICE))
        images = torch.linspace(-1, 1, 2 * 3 * 24 * 24).view(2, 3, 24, 24).to(DEVICE)
        labels = torch.tensor([1, 2]).to(DEVICE)
        for _ in range(times):
            judge.loss(images, labels)

    step, _ = per_step(run)
    assert not step.copies
    assert not step.reads


RECIPES = {
    "dit": GeneratorRecipe(
        steps=9, batch_size=12, learning_rate=1e-3, average_decay=0.9, precision="fp32"
    ),
    "minimax": MinimaxConfig(steps=9, batch_size=12, average_decay=0.9, memory=2, precision="fp32"),
}


@pytest.mark.parametrize(("name", "is_latent"), [("dit", False), ("dit", True), ("minimax", True)])
def test_a_step_of_a_generators_training_copies_once_and_reads_nothing(name, is_latent, tmp_path):
    images = write_images(tmp_path / "images", 60)
    start = tmp_path / "start"
    start.mkdir()
    save_generator(UPath(start), small_generator(latent=is_latent))

    def run(steps, device=DEVICE):
        job = GeneratorJob(
            folder=str(tmp_path), start=str(start), feed=Feed((images,), SIDE, 60, 12, (0, "g")),
            recipe=RECIPES[name], flip=0.5, stage="generator", journal=None, device=device,
        )  # fmt: skip
        training = _Training(job, 0, 1)
        losses = []
        for batch in islice(training.data.batches(0), steps):
            losses.append(training._step(batch))
            training.step += 1
        return torch.stack(losses).cpu()

    step, found = per_step(run)
    assert step.copies.total() <= 1
    assert not step.reads
    torch.testing.assert_close(found, run(2, "cpu"), rtol=1e-4, atol=0)
