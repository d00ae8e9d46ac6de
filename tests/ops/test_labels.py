"""Compressed soft labels: what is kept is exact in float16, what is not keeps its probability."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydd.ops.labels import CompressedLogits, compress_logits, expand_logits


def draw(batch, classes, scale=4.0, seed=0):
    return scale * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("top_k", [0, 30, 99])
def test_all_classes_are_the_float16_logits_and_nothing_else(top_k):
    logits = draw(7, 30)
    labels = compress_logits(logits, top_k)
    assert (labels.classes, labels.residual) == (None, None)
    assert torch.equal(expand_logits(labels, 30), logits.half().float())


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(1, 59), st.floats(0.1, 30.0), st.integers(0, 10_000))
def test_kept_logits_are_the_largest_and_come_back_exactly(classes, top_k, scale, seed):
    top_k = min(top_k, classes - 1)
    logits = draw(5, classes, scale, seed)
    labels = compress_logits(logits, top_k)
    assert labels.classes is not None
    assert labels.residual is not None
    assert labels.logits.shape == labels.classes.shape == (5, top_k)
    back = expand_logits(labels, classes)
    assert torch.isfinite(back).all()
    assert torch.equal(back.gather(1, labels.classes), labels.logits.float())
    kept = torch.zeros_like(logits, dtype=torch.bool).scatter(1, labels.classes, True)
    assert (logits.masked_fill(kept, math.inf).amin(1) <= logits[kept].view(5, -1).amin(1)).all()
    others = torch.stack([row[~mask] for row, mask in zip(back, kept, strict=True)])
    assert torch.equal(others, others[:, :1].expand_as(others))  # they share equally


def test_probability_of_the_others_is_that_of_the_teacher():
    logits = draw(50, 200)
    labels = compress_logits(logits, 10)
    kept = torch.zeros_like(logits, dtype=torch.bool).scatter(1, labels.classes, True)
    wanted = logits.double().softmax(1).masked_fill(kept, 0.0).sum(1)
    torch.testing.assert_close(labels.residual.double(), wanted, rtol=1e-5, atol=0.0)
    back = expand_logits(labels, 200).double().softmax(1)
    torch.testing.assert_close(back.masked_fill(kept, 0.0).sum(1), wanted, rtol=1e-5, atol=0.0)
    # kept probabilities carry the rounding of float16 logits of about ten: half of 2**-7
    torch.testing.assert_close(back[kept], logits.double().softmax(1)[kept], rtol=8e-3, atol=0.0)


def test_equal_others_lose_nothing():
    logits = torch.full((1, 100), -2.0)
    logits[0, :3] = torch.tensor([5.0, 3.0, 1.0])
    torch.testing.assert_close(
        expand_logits(compress_logits(logits, 3), 100), logits, rtol=0.0, atol=1e-5
    )


def test_certain_and_clueless_teachers_give_finite_labels():
    for logits in (torch.tensor([[200.0, 0.0, -200.0, -200.0]]), torch.zeros(1, 50_000)):
        back = expand_logits(compress_logits(logits, 1), logits.shape[1])
        assert torch.isfinite(back).all()
        assert int(back.argmax()) == int(logits.argmax())


def test_labels_carry_no_gradient():
    labels = compress_logits(draw(3, 20).requires_grad_(True), 5)
    assert not any(part.requires_grad for part in labels)
    residual = labels.residual.clone().requires_grad_(True)
    learnt = CompressedLogits(labels.logits, labels.classes, residual)
    assert not expand_logits(learnt, 20).requires_grad
