"""Claims about sampling.energy: adversarial energies, and how networks see decoded images."""

import math

import pytest
import torch
import torch.nn.functional as F
from upath import UPath

from raydd.data.preprocessing import Preprocessing
from raydd.engine.sampling.config import AdversaryConfig
from raydd.engine.sampling.energy import AdversarialEnergy, Classifier
from raydd.models.preprocess import normalise
from raydd.models.registry import create_model
from raydd.store.checkpoint import CheckpointCard, save_checkpoint
from small_engine import PREPROCESSING, TINY

CPU = torch.device("cpu")


def _classifier(folder, seed, preprocessing=PREPROCESSING):
    torch.manual_seed(seed)
    network = create_model(TINY, 10, preprocessing.resolution)
    network(torch.randn(64, 3, preprocessing.resolution, preprocessing.resolution))
    card = CheckpointCard(TINY, tuple("abcdefghij"), preprocessing)
    (folder / str(seed)).mkdir()
    save_checkpoint(UPath(folder / str(seed)), network, card)
    return Classifier(UPath(folder / str(seed)), "fp32", CPU), network.eval()


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judges")
    return [_classifier(folder, seed)[0] for seed in (0, 1)]


def _images(side=16):
    torch.manual_seed(3)
    pixels = torch.randint(0, 256, (6, 3, side, side), dtype=torch.uint8)
    return pixels, pixels / 127.5 - 1, torch.arange(6)


def test_a_network_sees_what_it_would_see_of_the_stored_image(tmp_path):
    judge, network = _classifier(tmp_path, 0)
    pixels, images, labels = _images()
    with torch.no_grad():
        logits = network(normalise(pixels, PREPROCESSING.mean, PREPROCESSING.std))
    expected = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(judge.loss(images, labels), expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_another_resolution_sees_resized_images_with_gradients(tmp_path):
    other = Preprocessing(24, 24, PREPROCESSING.mean, PREPROCESSING.std)
    judge, network = _classifier(tmp_path, 0, other)
    _, images, labels = _images(32)
    images.requires_grad_(True)
    loss = judge.loss(images, labels)
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
    smaller = F.interpolate((images + 1) * 127.5, size=24, mode="bilinear", antialias=True)
    logits = network(normalise(smaller, other.mean, other.std))
    expected = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-3)


def test_the_anchored_energy_takes_the_references_loss_off(judges):
    _, images, labels = _images()
    plain = AdversarialEnergy(*judges, AdversaryConfig(energy="plain"))(images, labels)
    anchored = AdversarialEnergy(*judges, AdversaryConfig(anchor_weight=0.3))(images, labels)
    torch.testing.assert_close(plain, judges[0].loss(images, labels))
    torch.testing.assert_close(anchored, plain - 0.3 * judges[1].loss(images, labels))


@pytest.mark.parametrize("default", [True, False])
def test_the_bounded_energy_leaves_an_image_alone_that_is_hard_enough(judges, default):
    _, images, labels = _images()
    images.requires_grad_(True)
    loss = judges[0].loss(images, labels)
    limit = math.log(10) if default else float(loss.detach().mean())
    config = AdversaryConfig(energy="bounded", bound=None if default else limit)
    energy = AdversarialEnergy(*judges, config)
    energies = energy(images, labels)
    (gradient,) = torch.autograd.grad(energies.sum(), images)
    hard = loss >= limit
    assert 0 < hard.sum() < len(hard)
    assert torch.equal(energies == torch.tensor(limit), hard)
    assert torch.equal(gradient.flatten(1).norm(dim=1) == 0, hard)


def test_an_anchor_without_a_reference_is_refused(judges):
    with pytest.raises(ValueError, match="needs a reference"):
        AdversarialEnergy(judges[0], None, AdversaryConfig())
