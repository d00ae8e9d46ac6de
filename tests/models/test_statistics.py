"""Claims about raydd.models.statistics."""

import pytest
import torch
from torch import nn

from raydd.models.registry import ModelConfig, create_model
from raydd.models.statistics import StatisticsTap, _BatchStatistics, input_statistics
from raydd.ops.losses import batch_norm_loss


def _teacher():
    torch.manual_seed(0)
    network = create_model(ModelConfig("resnet10_thin", width=8), 10, 16)
    network(torch.randn(64, 3, 16, 16))  # moves the running statistics
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("shape", [(6, 3, 4, 5), (9, 3), (4, 3, 7)])
def test_statistics_equal_var_mean(shape):
    features = 3 * torch.randn(shape, dtype=torch.double) + 2
    mean, var = _BatchStatistics.apply(features)
    dims = [0, *range(2, len(shape))]
    expected_var, expected_mean = torch.var_mean(features, dims, correction=0)
    torch.testing.assert_close(mean, expected_mean)
    torch.testing.assert_close(var, expected_var)


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (5, 3), (3, 3, 4)])
def test_gradient_of_statistics_equals_finite_differences(shape):
    features = torch.randn(shape, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(_BatchStatistics.apply, (features,))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_bfloat16_features_are_accumulated_in_float32(memory_format):
    features = (torch.randn(50, 16, 16, 16) + 4).bfloat16().contiguous(memory_format=memory_format)
    mean, var = _BatchStatistics.apply(features)
    expected_var, expected_mean = torch.var_mean(features.double(), (0, 2, 3), correction=0)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), expected_mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(var.double(), expected_var, rtol=1e-3, atol=1e-3)


def test_tap_reads_every_layer_in_module_order_and_leaves_logits_alone():
    teacher = _teacher()
    images = torch.randn(5, 3, 16, 16)
    expected = teacher(images)
    tap = StatisticsTap(teacher)
    logits, layers = tap(images)
    norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
    torch.testing.assert_close(logits, expected)
    assert tap.num_layers == len(layers) == len(norms)
    assert all(a.running_mean is b.running_mean for a, b in zip(layers, norms, strict=True))
    stem = teacher.conv1(images)
    torch.testing.assert_close(layers[0].mean, stem.mean((0, 2, 3)))


def test_taps_do_not_pile_up_and_can_be_closed():
    teacher = _teacher()
    tap = StatisticsTap(teacher)
    images = torch.randn(2, 3, 16, 16)
    assert len(tap(images)[1]) == len(tap(images)[1])
    tap.close()
    assert tap(images)[1] == []


def test_loss_is_zero_on_the_batch_that_set_the_statistics():
    teacher = _teacher()
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    images = torch.randn(64, 3, 16, 16)
    teacher.train()(images)
    stem = teacher.eval().bn1
    features = teacher.conv1(images)
    statistics = input_statistics(features, stem)
    count = features.numel() // features.shape[1]
    unbiased = statistics._replace(var=statistics.var * count / (count - 1))
    assert float(batch_norm_loss([unbiased])) == pytest.approx(0, abs=1e-3)


def test_tokens_of_a_vision_transformer_count_as_samples():
    norm = nn.BatchNorm1d(6)
    tokens = torch.randn(4, 9, 6)
    statistics = input_statistics(tokens, norm)
    torch.testing.assert_close(statistics.mean, tokens.mean((0, 1)))
    torch.testing.assert_close(statistics.var, tokens.var((0, 1), correction=0))


def test_a_network_without_batch_norm_has_no_layers():
    network = create_model(ModelConfig("convnet2", width=4, norm="group"), 3, 8)
    assert StatisticsTap(network).num_layers == 0
