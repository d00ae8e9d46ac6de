"""Optimisers without the compiler are torch's own, to the bit."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raydd.ops.optimizers import SGD, Adam, AdamW

KINDS = {
    "adamw": (AdamW, torch.optim.AdamW, {"lr": 0.01}),
    "sgd": (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
}


def steps(make, options, state=None):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))
    images, labels = torch.randn(16, 4), torch.arange(16) % 3
    groups = [{"params": list(network.parameters()), "weight_decay": 0.01}]
    optimizer = make(groups, fused=True, **options)
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(state))  # it would go on in its tensors
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return [weight.detach() for weight in network.parameters()], optimizer


@pytest.mark.parametrize("name", KINDS)
def test_steps_are_those_of_torchs_own(name):
    ours, theirs, options = KINDS[name]
    weights, optimizer = steps(ours, options)
    expected, other = steps(theirs, options)
    assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True))
    assert all(not weight.grad_fn for weight in weights)
    # a training that either has begun is continued by the other
    for make in (ours, theirs):
        for state in (optimizer.state_dict(), other.state_dict()):
            continued, _ = steps(make, options, state)
            wanted, _ = steps(theirs, options, other.state_dict())
            assert all(torch.equal(a, b) for a, b in zip(continued, wanted, strict=True))


@pytest.mark.parametrize("name", KINDS)
def test_the_learning_rate_of_a_group_is_what_a_step_takes(name):
    ours, _, options = KINDS[name]
    weight = nn.Parameter(torch.ones(2))
    optimizer = ours([{"params": [weight], "weight_decay": 0.0}], fused=True, **options)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    weight.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(2))


def test_steps_on_pixels_are_those_of_torchs_adam():
    draws = torch.Generator().manual_seed(0)
    values = torch.randn(4, 3, 8, 8, generator=draws)
    ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    adam = Adam(ours, (0.5, 0.9))
    reference = torch.optim.Adam([theirs], betas=(0.5, 0.9), fused=True)
    for step in range(20):
        gradient = torch.randn(values.shape, generator=draws)
        reference.param_groups[0]["lr"] = 0.1 / (step + 1)
        theirs.grad = gradient
        reference.step()
        adam.step(gradient, 0.1 / (step + 1))
        assert torch.equal(ours, theirs)
    assert not torch.equal(ours, values)
