"""Constants are made once; what a step draws arrives as it was sent."""

import torch

from raydd.ops.device import constant, send

CPU = torch.device("cpu")


def test_a_constant_is_made_once_and_serves_trainings_after_passes():
    constant.cache_clear()
    with torch.inference_mode():
        first = constant((1.0, 2.0), CPU)
    assert constant((1.0, 2.0), CPU) is first
    assert torch.equal(first, torch.tensor([1.0, 2.0]))
    (torch.ones(2, requires_grad=True) * first).sum().backward()  # refused for inference tensors


def test_a_constant_has_the_dtype_asked_for():
    assert constant((1.5,), CPU, torch.float64).dtype == torch.float64


def test_a_cpu_gets_the_tensors_themselves():
    values = [torch.rand(3), torch.arange(2)]
    assert all(a is b for a, b in zip(send(values, CPU), values, strict=True))
