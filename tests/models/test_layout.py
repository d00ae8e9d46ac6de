"""The order of tensors follows the network and the device, and images follow the network."""

import copy

import pytest
import torch

from raydd.models.layout import WideLinear, laid_out, lay_out
from raydd.models.registry import ModelConfig, create_model

CPU = torch.device("cpu")
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def is_last(values):
    return values.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["convnet3", "resnet10_thin", "airnet", "resnet_ap10"])
@pytest.mark.parametrize(
    ("norm", "last"), [("batch", True), ("none", True), ("instance", False), ("group", False)]
)
def test_group_norms_on_cpus_have_channels_first(name, norm, last):
    network = lay_out(create_model(ModelConfig(name, 16, norm), 10, 32), CPU).eval()
    for images in (IMAGES, IMAGES.contiguous(memory_format=torch.channels_last)):
        seen = laid_out(images, network)
        assert is_last(seen) is last
        assert torch.equal(seen, images)
    plain = create_model(ModelConfig(name, 16, norm), 10, 32).eval()
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(network(laid_out(IMAGES, network)), plain(IMAGES))


def test_other_devices_have_channels_last():
    network = create_model(ModelConfig("convnet3", 16, "instance"), 10, 32).to("meta")
    placed = lay_out(network, torch.device("meta"))
    assert all(is_last(weight) for weight in placed.parameters() if weight.ndim == 4)


def test_a_wide_layer_answers_alike_and_learns_alike_piece_by_piece():
    plain = create_model(ModelConfig("convnet2", 8), 9000, 16).eval()
    wide = lay_out(copy.deepcopy(plain), CPU)
    assert [type(module) for module in wide.modules()].count(WideLinear) == 1
    small = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    answers = [network(small) for network in (plain, wide)]
    assert answers[1].shape == (3, 9000)
    torch.testing.assert_close(*answers)
    for found in answers:
        found.square().sum().backward()
    for one, other in zip(plain.parameters(), wide.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)
    assert wide.state_dict().keys() == plain.state_dict().keys()


def test_a_wide_layer_is_one_call_to_whoever_traces_a_network():
    network = lay_out(create_model(ModelConfig("convnet2", 8), 9000, 16), CPU).eval()
    small = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    traced = torch.fx.symbolic_trace(network)
    torch.testing.assert_close(traced(small), network(small))


def test_few_classes_and_other_devices_keep_their_layers():
    assert not has_wide(lay_out(create_model(ModelConfig("convnet2", 8), 100, 16), CPU))
    meta = create_model(ModelConfig("convnet2", 8), 9000, 16).to("meta")
    assert not has_wide(lay_out(meta, torch.device("meta")))


def has_wide(network):
    return any(isinstance(module, WideLinear) for module in network.modules())
