"""The order of tensors follows the network and the device, and images follow the network."""

import pytest
import torch

from raydd.models.layout import laid_out, lay_out
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
