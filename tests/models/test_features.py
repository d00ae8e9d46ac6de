"""Claims about raydd.models.features."""

import pytest
import torch
from torch import nn

from raydd.models.ensemble import Ensemble
from raydd.models.features import FeatureTap
from raydd.models.registry import ModelConfig, create_model


@pytest.mark.parametrize(
    ("name", "head", "resolution"),
    [
        ("convnet2", "classifier", 16),
        ("resnet10_thin", "fc", 16),
        ("resnet_ap10", "fc", 16),
        ("torchvision/resnet18", "fc", 32),
        ("resnet10t", "fc", 32),
        ("deit_tiny_patch16_224", "head", 32),
        ("vit_tiny", "head", 16),
        ("mobilenetv3_small_050", "classifier", 16),
    ],
)
def test_the_head_maps_the_features_to_the_logits(name, head, resolution):
    network = create_model(ModelConfig(name), 7, resolution).eval()
    images = torch.randn(2, 3, resolution, resolution)
    logits, features = FeatureTap(network, 7)(images)
    torch.testing.assert_close(network.get_submodule(head)(features), logits)
    assert features.shape[1] != 7


def test_without_a_head_the_logits_are_the_features():
    network = nn.Sequential(nn.Conv2d(3, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    logits, features = FeatureTap(network, 7)(torch.randn(2, 3, 4, 4))
    assert torch.equal(logits, features)


def test_a_layer_of_as_many_outputs_before_the_head_is_no_head():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 7))
    images = torch.randn(2, 3, 2, 2)
    logits, features = FeatureTap(network, 7)(images)
    assert torch.equal(network[3](features), logits)


def test_an_ensemble_shows_its_last_members_features():
    members = [create_model(ModelConfig("convnet2", width=8), 7, 16) for _ in range(2)]
    images = torch.randn(2, 3, 16, 16)
    _, features = FeatureTap(Ensemble(members), 7)(images)
    torch.testing.assert_close(features, members[1].features(images).flatten(1))
