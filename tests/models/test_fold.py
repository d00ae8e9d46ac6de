"""Claims about raydd.models.fold."""

import pytest
import torch
from torch import nn

from raydd.models.answers import answer
from raydd.models.fold import fold_batch_norm
from raydd.models.layout import WideLinear, lay_out
from raydd.models.registry import ModelConfig, create_model

CPU = torch.device("cpu")


def _batch_norms(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", ["convnet2", "resnet10_thin", "torchvision/mobilenet_v2"])
def test_folded_network_has_no_norms_and_the_same_outputs(name):
    torch.manual_seed(0)
    network = create_model(ModelConfig(name), 5, 32)
    network(torch.randn(32, 3, 32, 32))
    network.eval()
    for norm in _batch_norms(network):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    folded = fold_batch_norm(network)
    images = torch.randn(4, 3, 32, 32)
    assert _batch_norms(network)
    assert not _batch_norms(folded)
    torch.testing.assert_close(folded(images), network(images), rtol=1e-3, atol=1e-3)


def test_folding_leaves_the_original_alone_and_freezes_the_copy():
    network = create_model(ModelConfig("convnet2", width=4), 3, 8).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_batch_norm(network)
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_a_wide_layer_stays_whole():
    """Else its images would no longer be known to be shown at once."""
    network = lay_out(create_model(ModelConfig("convnet2", 8), 9000, 16), CPU).eval()
    folded = fold_batch_norm(network)
    assert not _batch_norms(folded)
    assert any(isinstance(module, WideLinear) for module in folded.modules())
    images = torch.rand(70, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(answer(folded, images), answer(network, images))


def test_a_network_without_norms_is_not_traced():
    network = create_model(ModelConfig("convnet3", 8, "instance"), 3, 16)
    assert type(fold_batch_norm(network)) is type(network)


def test_a_shared_convolution_is_not_folded():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, images):
            return self.norm(self.conv(self.conv(images)))

    network = Shared().eval()
    network.norm.running_mean += 1
    images = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(fold_batch_norm(network)(images), network(images))


def test_a_network_that_cannot_be_traced_is_copied():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, images):
            return self.norm(self.conv(images)) if images.sum() > 0 else images

    network = Branching().eval()
    images = torch.ones(2, 3, 4, 4)
    torch.testing.assert_close(fold_batch_norm(network)(images), network(images))
