"""Noise and PGD: closed forms on a linear network, and independence of the batch."""

import pytest
import torch

from raydd.ops.attacks import add_noise, attack_pgd


@pytest.fixture
def images():
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weights():
    return torch.randn(2, 3 * 8 * 8, generator=torch.Generator().manual_seed(1))


LABELS = torch.tensor([0, 1, 0, 1, 1, 0])


@pytest.mark.parametrize("epsilon", [2 / 255, 0.3])
def test_pgd_finds_the_worst_case_of_a_linear_network(images, weights, epsilon):
    def logits(batch):
        return 0.01 * batch.flatten(1) @ weights.T

    found = attack_pgd(logits, images, LABELS, epsilon, 10, epsilon / 4, range(6), "pgd")
    # with two classes the loss rises along one direction: every value goes to its bound
    direction = (weights[1 - LABELS] - weights[LABELS]).sign().view_as(images)
    worst = (images + epsilon * direction).clamp(0, 1)
    torch.testing.assert_close(found, worst, rtol=0, atol=1e-6)
    assert not found.requires_grad


def test_pgd_stays_in_its_box_from_its_random_start(images):
    start = attack_pgd(lambda x: x.flatten(1), images, LABELS, 0.1, 0, 0.1, range(6), "pgd")
    assert ((start - images).abs() <= 0.1 + 1e-6).all()
    assert start.min() >= 0
    assert start.max() <= 1
    assert 0.03 < (start - images).abs().mean() < 0.07  # uniform in the box, partly clipped


def test_nothing_depends_on_the_batches(images, weights):
    def logits(batch):
        hidden = (batch.flatten(1) - 0.5) @ weights.T
        return torch.stack([hidden[:, 0].sin(), hidden[:, 1].cos()], 1)

    def disturb(places):
        attacked = attack_pgd(
            logits, images[places], LABELS[places], 0.1, 3, 0.03, places, 7, "pgd"
        )
        return add_noise(images[places], 0.2, places, 7, "noise"), attacked

    whole = disturb(list(range(6)))
    for split in ([[0], [1, 2, 3], [4, 5]], [[5, 4, 3, 2, 1, 0]]):
        pieces = [disturb(places) for places in split]
        order = torch.tensor([place for places in split for place in places])
        for kind in range(2):
            joined = torch.cat([piece[kind] for piece in pieces])
            torch.testing.assert_close(joined, whole[kind][order], rtol=0, atol=1e-6)


def test_noise_has_its_deviation_and_is_clipped(images):
    grey = torch.full((40, 3, 16, 16), 0.5)
    noise = add_noise(grey, 0.1, range(40), "noise") - 0.5
    assert noise.std() == pytest.approx(0.1, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.002)
    assert not torch.equal(noise[0], noise[1])
    loud = add_noise(images, 5.0, range(6), "noise")
    assert (loud.min(), loud.max()) == (0, 1)


def test_another_seed_is_another_draw(images):
    one, other = (add_noise(images, 0.1, range(6), seed, "noise") for seed in (0, 1))
    assert not torch.equal(one, other)
