"""Claims about raydd.models.statistics."""

import pytest
import torch
from torch import nn

from raydd.models.registry import ModelConfig, create_model
from raydd.models.statistics import (
    Groups,
    StatisticsTap,
    _BatchStatistics,
    input_statistics,
    statistic_gap,
)


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
    logits, statistics = tap(images)
    norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
    torch.testing.assert_close(logits, expected)
    assert tap.num_layers == len(norms)
    assert statistics.groups.sizes == tuple(norm.num_features for norm in norms)
    assert torch.equal(statistics.running[0], torch.cat([norm.running_mean for norm in norms]))
    assert torch.equal(statistics.running[1], torch.cat([norm.running_var for norm in norms]))
    stem = teacher.conv1(images)
    torch.testing.assert_close(statistics.batch[0, :8], stem.mean((0, 2, 3)))
    torch.testing.assert_close(statistics.batch[1, :8], stem.var((0, 2, 3), correction=0))


def test_a_norm_that_is_called_twice_counts_twice():
    norm = nn.BatchNorm2d(3)
    network = nn.Sequential(norm, nn.ReLU(), norm, nn.BatchNorm2d(3)).eval()
    _, statistics = StatisticsTap(network)(torch.randn(4, 3, 2, 2))
    assert statistics.groups.sizes == (3, 3, 3)
    assert statistics.batch.shape == statistics.running.shape == (2, 9)


def test_taps_do_not_pile_up_and_can_be_closed():
    teacher = _teacher()
    tap = StatisticsTap(teacher)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(tap(images)[1].batch, tap(images)[1].batch)
    tap.close()
    assert tap(images)[1] is None


def test_loss_is_zero_on_the_batch_that_set_the_statistics():
    teacher = _teacher()
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    images = torch.randn(64, 3, 16, 16)
    teacher.train()(images)
    stem = teacher.eval().bn1
    features = teacher.conv1(images)
    mean, var = input_statistics(features, stem)
    count = features.numel() // features.shape[1]
    seen = torch.stack([mean, var * count / (count - 1)])
    running = torch.stack([stem.running_mean, stem.running_var])
    groups = Groups.of([len(mean)], 1, mean.device)
    assert float(statistic_gap(seen, running, groups)) == pytest.approx(0, abs=1e-3)


SIZES = [2, 1, 5]
GROUPS = Groups.of(SIZES, 1, torch.device("cpu"))


def test_the_gap_is_zero_when_statistics_match():
    same = torch.ones(2, 8, requires_grad=True)
    loss = statistic_gap(same, torch.ones(2, 8), GROUPS)
    loss.backward()
    assert loss == 0
    assert torch.equal(same.grad, torch.zeros(2, 8))  # not nan


def test_the_gap_sums_plain_norms_and_weighs_the_first_layer():
    statistics = torch.tensor([[3.0, 4.0, 0.0], [1.0, 1.0, 3.0]])
    target = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    groups = Groups.of([2, 1], 1, torch.device("cpu"))  # mean gaps 5 and 1, variance gaps 0 and 2
    assert statistic_gap(statistics, target, groups) == pytest.approx(10 * 5 + 1 + 2)
    assert statistic_gap(statistics, target, groups, 1.0) == pytest.approx(8)


def test_the_gap_and_its_gradient_equal_a_norm_of_each_group_bit_for_bit():
    statistics, target = torch.randn(2, 2, 8)
    target[:, 2] = statistics[:, 2]  # a group that matches
    slopes = []
    for ours in (True, False):
        leaf = statistics.clone().requires_grad_(True)
        if ours:
            loss = statistic_gap(leaf, target, GROUPS)
        else:
            norms = [part.norm(dim=1).sum() for part in (leaf - target).split(SIZES, dim=1)]
            loss = torch.stack(norms).sum() + 9 * norms[0]
        slopes.append((loss.detach(), *torch.autograd.grad(loss, leaf)))
    assert all(torch.equal(*pair) for pair in zip(*slopes, strict=True))


def test_tokens_of_a_vision_transformer_count_as_samples():
    norm = nn.BatchNorm1d(6)
    tokens = torch.randn(4, 9, 6)
    mean, var = input_statistics(tokens, norm)
    torch.testing.assert_close(mean, tokens.mean((0, 1)))
    torch.testing.assert_close(var, tokens.var((0, 1), correction=0))


def test_a_network_without_batch_norm_has_no_layers():
    network = create_model(ModelConfig("convnet2", width=4, norm="group"), 3, 8)
    assert StatisticsTap(network).num_layers == 0
