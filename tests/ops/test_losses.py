"""Claims about raydd.ops.losses."""

import math

import pytest
import torch
import torch.nn.functional as F

from raydd.ops import losses
from raydd.ops.seeds import generator


def _densification_by_the_book(images, labels, temperature):
    small = F.adaptive_avg_pool2d(images, 32).flatten(1).double()
    total = small.new_zeros(())
    for label in labels.unique():
        own = small[labels == label]
        if len(own) > 1:
            spectrum = torch.linalg.eigvalsh(own @ own.T / own.shape[1])
            target = F.softmax(spectrum.detach() / temperature, dim=0)
            total = total + F.kl_div(F.log_softmax(spectrum, dim=0), target, reduction="sum")
    return total


@pytest.mark.parametrize("side", [16, 32, 40])
def test_densification_and_its_gradient_equal_the_spectrum_of_each_class(side):
    images = 3 * torch.randn(7, 3, side, side, generator=generator("images"))
    images[3] = images[0]  # an eigenvalue of twice the size
    labels = torch.tensor([5, 0, 5, 5, 0, 2, 0])  # three, three and one image
    found = []
    for loss in (losses.densification_loss, _densification_by_the_book):
        leaf = images.clone().requires_grad_(True)
        value = loss(leaf, labels, 4.0)
        found.append((value.detach().float(), *torch.autograd.grad(value, leaf)))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-7)


def test_densification_of_large_and_equal_images_stays_finite():
    images = torch.full((60, 3, 32, 32), 9.0).requires_grad_(True)  # an eigenvalue of 4860
    value = losses.densification_loss(images, torch.zeros(60, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(value, images)
    assert value.isfinite()
    assert gradient.isfinite().all()


def _adversarial_by_the_book(logits, labels, mask, smoothing):
    confidence = F.softmax(logits.double() * mask[:, None], dim=1)
    target = F.one_hot(labels, logits.shape[1]) * (1 - smoothing) + smoothing / logits.shape[1]
    return (-target * torch.log(1 - confidence + 1e-12)).sum(1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_adversarial_loss_equals_its_formula(smoothing):
    logits = 4 * torch.randn(50, 7, generator=generator("logits"))
    labels = torch.arange(50) % 7
    mask = torch.arange(50) % 3 > 0
    ours = losses.adversarial_loss(logits, labels, mask, smoothing)
    expected = _adversarial_by_the_book(logits, labels, mask, smoothing)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_adversarial_gradient_equals_finite_differences(smoothing):
    logits = 3 * torch.randn(6, 5, generator=generator("logits"), dtype=torch.double)
    labels, mask = torch.arange(6) % 5, torch.ones(6, dtype=torch.bool)
    probe = logits.clone().requires_grad_(True)
    losses.adversarial_loss(probe, labels, mask, smoothing).backward()
    step = 1e-3
    for row, column in [(0, 0), (2, 4), (5, 0)]:
        shift = torch.zeros_like(logits)
        shift[row, column] = step
        up = _adversarial_by_the_book(logits + shift, labels, mask, smoothing)
        down = _adversarial_by_the_book(logits - shift, labels, mask, smoothing)
        assert probe.grad[row, column] == pytest.approx(float(up - down) / (2 * step), rel=1e-3)


def test_masked_rows_are_constant_and_without_gradient():
    logits = torch.randn(4, 10, generator=generator("logits")).requires_grad_(True)
    mask = torch.tensor([True, False, True, False])
    losses.adversarial_loss(logits, torch.arange(4), mask).backward()
    assert torch.equal(logits.grad[~mask], torch.zeros(2, 10))
    assert (logits.grad[mask] != 0).any(dim=1).all()
    nothing = losses.adversarial_loss(logits, torch.arange(4), torch.zeros(4, dtype=torch.bool))
    assert float(nothing.detach()) == pytest.approx(-math.log(1 - 1 / 10))


def test_adversarial_loss_falls_with_the_students_confidence():
    values = [
        float(
            losses.adversarial_loss(torch.tensor([[a, 0.0, 0.0]]), torch.tensor([0]), torch.ones(1))
        )
        for a in (6.0, 3.0, 0.0, -3.0)
    ]
    assert values == sorted(values, reverse=True)


def test_a_student_certain_in_float32_still_gets_a_gradient():
    logits = torch.tensor([[25.0, 0.0, 0.0]], requires_grad=True)  # softmax rounds to exactly 1
    losses.adversarial_loss(logits, torch.tensor([0]), torch.ones(1)).backward()
    assert logits.grad[0, 0] == pytest.approx(0.965, abs=0.01)


def test_start_image_loss_is_the_mean_square():
    assert losses.start_image_loss(torch.tensor([1.0, 3.0])) == 5
    assert losses.start_image_loss(torch.zeros(2, 3, 4, 4)) == 0


def test_total_variation_of_a_single_step():
    image = torch.zeros(1, 1, 3, 4)
    image[..., 2:] = 1  # one vertical edge: 3 horizontal and 2 + 2 diagonal differences of 1
    assert losses.total_variation(image) == pytest.approx(math.sqrt(3) + 2 * math.sqrt(2))
    assert losses.total_variation(torch.ones(2, 3, 4, 4)) == 0


def test_l2_prior_is_the_mean_norm():
    images = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)])
    assert losses.l2_prior(images) == pytest.approx((2 + 6) / 2)


def test_distillation_loss_equals_torch_and_vanishes_at_agreement():
    student = torch.randn(8, 5, generator=generator("student"))
    teacher = torch.randn(8, 5, generator=generator("teacher"))
    expected = F.kl_div(
        (student / 4).log_softmax(1), (teacher / 4).softmax(1), reduction="batchmean"
    )
    torch.testing.assert_close(losses.distillation_loss(student, teacher, 4), expected)
    torch.testing.assert_close(losses.distillation_loss(student, teacher, 4, True), 16 * expected)
    assert losses.distillation_loss(student, student, 4) == pytest.approx(0, abs=1e-7)
