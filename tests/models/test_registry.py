"""Claims about raydd.models.registry and the networks it builds."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from raydd.models.registry import ModelConfig, create_model


@pytest.mark.parametrize(
    ("name", "resolution"),
    [
        ("convnet2", 8),
        ("convnet3", 32),
        ("resnet18_small", 32),
        ("resnet10_thin", 16),
        ("torchvision/shufflenet_v2_x0_5", 32),
        ("deit_tiny_patch16_224", 32),
    ],
)
def test_every_kind_of_name_gives_logits(name, resolution):
    network = create_model(ModelConfig(name), 7, resolution).eval()
    assert network(torch.randn(2, 3, resolution, resolution)).shape == (2, 7)


def test_resnet18_small_is_torchvisions_with_another_stem():
    reference = resnet18(num_classes=5)
    reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    network = create_model(ModelConfig("resnet18_small"), 5, 32)
    network.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network.eval()(images), reference.eval()(images))


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
@pytest.mark.parametrize("name", ["convnet2", "resnet10_thin"])
def test_norms_and_widths_can_be_chosen(name, norm):
    network = create_model(ModelConfig(name, width=8, norm=norm), 3, 16)
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 3)
    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert has_batch_norm == (norm == "batch")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (ModelConfig("resnet18_smal"), "did you mean resnet18_small"),
        (ModelConfig("torchvision/resnt18"), "did you mean torchvision/resnet18"),
        (ModelConfig("torchvision/resnet18", width=8), "width and norm can be set for"),
        (ModelConfig("convnet3", norm="layer"), "norm must be one of"),
        (ModelConfig("convnet3", pretrained=True), "no public weights"),
        (ModelConfig("convnet3", width=0), "width must be at least 1"),
        (ModelConfig("resnet10_thin", width=4), "needs a width of at least 8, got 4"),
        (ModelConfig("convnet6"), "choose a smaller depth"),
    ],
)
def test_bad_configs_are_refused_in_one_sentence(config, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        create_model(config, 10, 32)
    assert "\n" not in str(refusal.value)
