"""Taps of EDC: what they read equals a plain computation, forward and backward."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raydd.models.observer import ObserverTap, _enlarging, _shrink, running_statistics
from raydd.models.registry import ModelConfig, create_model

PATCH, SIDE = 4, 16


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = create_model(ModelConfig("resnet10_thin", width=8), 10, SIDE)
    network(torch.randn(64, 3, SIDE, SIDE))
    return network.eval()


def plain_statistics(network, images):
    """Inputs of every BatchNorm and convolution in call order, and their statistics by the book."""
    found = []

    def record(module, inputs):
        x = inputs[0].double()
        found.append((x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)))
        if isinstance(module, nn.Conv2d):
            height, width = (-(-s // PATCH) * PATCH for s in x.shape[2:])
            x = F.interpolate(x, (height, width), mode="bilinear", align_corners=False)
            tiles = F.unfold(x, PATCH, stride=PATCH)  # [B, c * p * p, T]
            found.append((tiles.mean((0, 1)), tiles.var((0, 1), unbiased=False)))

    kinds = (nn.BatchNorm2d, nn.Conv2d)
    hooks = [m.register_forward_pre_hook(record) for m in network.modules() if isinstance(m, kinds)]
    network(images)
    for hook in hooks:
        hook.remove()
    return [torch.cat(values) for values in zip(*found, strict=True)]


def test_batch_statistics_and_their_gradient_equal_a_plain_computation(network):
    images = torch.randn(6, 3, SIDE, SIDE, requires_grad=True)
    expected = plain_statistics(network, images)
    tap = ObserverTap(network, SIDE, PATCH)
    _, ours = tap(images)
    weights = [torch.randn_like(value) for value in ours]
    gradients = []
    for pair in (ours, expected):
        loss = sum((w * v.float()).sum() for w, v in zip(weights, pair, strict=True))
        gradients.append(torch.autograd.grad(loss, images, retain_graph=True)[0])
    for value, by_the_book in zip(ours, expected, strict=True):
        torch.testing.assert_close(value, by_the_book.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("side", [7, 14, 28, 56])
def test_the_gradient_of_enlarging_as_matrix_products_is_that_of_the_kernel(side):
    """Layers of 224 pixels, tiles of 16: what a GPU computes instead of its unrepeatable kernel."""
    features = torch.randn(2, 3, side, side, requires_grad=True)
    whole = -(-side // 16) * 16
    larger = F.interpolate(features, (whole, whole), mode="bilinear", align_corners=False)
    slope = torch.randn_like(larger)
    (expected,) = torch.autograd.grad(larger, features, slope)
    matrix = _enlarging(side, whole, slope.device, slope.dtype)
    torch.testing.assert_close(_shrink(slope, matrix, matrix), expected)


def test_the_statistics_of_one_image_are_those_of_a_batch_of_it(network):
    images = torch.randn(3, 3, SIDE, SIDE)
    batch, single = ObserverTap(network, SIDE, PATCH), ObserverTap(network, SIDE, PATCH, True)
    _, of_images = single(images)
    single.close()
    for i in range(3):
        for ours, expected in zip(of_images, batch(images[i : i + 1])[1], strict=True):
            torch.testing.assert_close(ours[i], expected, rtol=1e-4, atol=1e-5)


def test_the_law_of_total_variance_joins_images_to_a_batch(network):
    images = torch.randn(5, 3, SIDE, SIDE)
    tap, single = ObserverTap(network, SIDE, PATCH), ObserverTap(network, SIDE, PATCH, True)
    (mean, var), (batch_mean, batch_var) = single(images)[1], tap(images)[1]
    total = var.mean(0) + mean.var(0, unbiased=False)
    torch.testing.assert_close(mean.mean(0), batch_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(total, batch_var, rtol=1e-3, atol=1e-5)


def test_layers_say_what_is_read_in_call_order(network):
    tap = ObserverTap(network, SIDE, PATCH)
    first, second = tap.layers[:2]
    assert (first.kind, first.channels, first.tiles) == ("conv", 3, (SIDE // PATCH) ** 2)
    assert (second.kind, second.channels, second.tiles) == ("norm", 8, 0)
    assert sum(tap.sizes) == tap(torch.zeros(1, 3, SIDE, SIDE))[1].mean.numel()


def test_running_statistics_are_those_of_the_norms_and_unknown_elsewhere(network):
    tap = ObserverTap(network, SIDE, PATCH)
    known = running_statistics(network, tap.layers)
    begin = 0
    for layer in tap.layers:
        part = known.mean[begin : (begin := begin + sum(layer.sizes))]
        if layer.kind == "conv":
            assert part.isnan().all()
        else:
            assert torch.equal(part, network.get_submodule(layer.name).running_mean)


def test_taps_leave_the_network_as_it_was(network):
    images = torch.randn(2, 3, SIDE, SIDE)
    before = network(images)
    tap = ObserverTap(network, SIDE, PATCH)
    assert torch.equal(tap(images)[0], before)
    tap.close()
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_network_without_such_layers_is_refused():
    with pytest.raises(ValueError, match="BatchNorm or convolution"):
        ObserverTap(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 10)), SIDE, PATCH)
