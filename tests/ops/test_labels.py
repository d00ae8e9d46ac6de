"""Compressed soft labels: what is kept is exact in float16, what is not keeps its probability."""

import math

import numpy as np
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
    logits = draw(3, 20).requires_grad_(True)
    assert not any(part.requires_grad for part in compress_logits(logits, 5, "int8"))
    labels = compress_logits(logits, 5)
    residual = labels.residual.clone().requires_grad_(True)
    learnt = CompressedLogits(labels.logits, labels.classes, residual)
    assert not expand_logits(learnt, 20).requires_grad


def reference_int8(kept):
    """Values, scale and offset of one view in plain numpy, and the logits that they stand for."""
    offset = np.float16((kept.min() + kept.max()) / 2)
    centred = kept - np.float32(offset)
    scale = np.float16(max(np.abs(centred).max() / 127, 2.0**-14))
    values = np.clip(np.rint(centred / np.float32(scale)), -127, 127).astype(np.int8)
    return values, scale, offset, values * np.float32(scale) + np.float32(offset)


@pytest.mark.parametrize("top_k", [0, 10])
@pytest.mark.parametrize(("spread", "level"), [(4.0, 0.0), (0.3, 25.0), (30.0, -7.0)])
def test_int8_logits_are_those_of_the_formula_and_off_by_half_a_scale_at_most(top_k, spread, level):
    logits = draw(20, 60, spread) + level
    labels = compress_logits(logits, top_k, "int8")
    back = expand_logits(labels, 60)
    kept = logits if labels.classes is None else logits.gather(1, labels.classes)
    found = back if labels.classes is None else back.gather(1, labels.classes)
    assert (labels.logits.dtype, labels.scale.dtype) == (torch.int8, torch.float16)
    for row in range(20):
        values, scale, offset, wanted = reference_int8(kept[row].numpy())
        assert np.array_equal(labels.logits[row].numpy(), values)
        assert (labels.scale[row].item(), labels.offset[row].item()) == (scale, offset)
        assert np.array_equal(found[row].numpy(), wanted)
    # half a scale, and the rounding of a float32 of this size
    bound = labels.scale.float() / 2 + 1e-6 * (abs(level) + kept.abs().amax(1))
    assert ((found - kept).abs().amax(1) <= bound).all()
    assert labels.logits.abs().amax(1).eq(127).all()


@settings(max_examples=40, deadline=None)
@given(st.floats(-300, 300), st.floats(0, 1e-2), st.integers(2, 50))
def test_int8_logits_that_are_nearly_equal_come_back_within_half_a_scale(level, spread, classes):
    logits = level + draw(3, classes, spread)
    labels = compress_logits(logits, 0, "int8")
    error = (expand_logits(labels, classes) - logits).abs().amax(1)
    assert (error <= labels.scale.float() / 2 + 1e-6 * abs(level)).all()


@pytest.mark.parametrize("top_k", [0, 10])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_int8_labels_teach_what_float16_ones_do(top_k, temperature):
    logits = draw(50, 100) + 3.0
    soft, byte = (
        expand_logits(compress_logits(logits, top_k, dtype), 100) for dtype in ("float16", "int8")
    )
    logs = [(labels / temperature).log_softmax(1) for labels in (byte, soft)]
    divergence = torch.nn.functional.kl_div(*logs, log_target=True, reduction="none").sum(1)
    assert divergence.amax() < 1e-3 / temperature**2
    # the level of the logits is kept for the mean squared error
    torch.testing.assert_close(byte.mean(1), soft.mean(1), rtol=0.0, atol=0.02)
