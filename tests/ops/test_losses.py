"""Claims about raydd.ops.losses."""

import math

import pytest
import torch
import torch.nn.functional as F

from raydd.ops import losses
from raydd.ops.losses import LayerStatistics
from raydd.ops.seeds import generator


def _layer(mean, var, running_mean, running_var):
    return LayerStatistics(*(torch.tensor(v) for v in (mean, var, running_mean, running_var)))


def test_batch_norm_loss_is_zero_when_statistics_match():
    same = torch.tensor([1.0, 2.0], requires_grad=True)
    layer = LayerStatistics(same, same, same.detach(), same.detach())
    loss = losses.batch_norm_loss([layer, layer])
    loss.backward()
    assert loss == 0
    assert torch.equal(same.grad, torch.zeros(2))


def test_batch_norm_loss_sums_plain_norms_and_weighs_the_stem():
    stem = _layer([3.0, 4.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0])  # mean gap 5
    second = _layer([0.0], [3.0], [1.0], [1.0])  # mean gap 1, variance gap 2
    assert losses.batch_norm_loss([stem, second]) == pytest.approx(10 * 5 + 1 + 2)
    assert losses.batch_norm_loss([stem, second], first_multiplier=1) == pytest.approx(8)


def test_batch_norm_loss_needs_a_layer():
    with pytest.raises(ValueError, match="no BatchNorm"):
        losses.batch_norm_loss([])


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
