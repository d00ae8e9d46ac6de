"""A network's answers, a few images at a time on CPUs."""

import pytest
import torch
from torch import nn

from raydd.models.answers import answer
from raydd.models.features import FeatureTap
from raydd.models.layout import lay_out
from raydd.models.registry import ModelConfig, create_model

CPU = torch.device("cpu")


class Counting(nn.Module):
    """Notes how many images it sees at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, images):
        self.seen.append(len(images))
        return images.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("count", "seen"), [(0, [0]), (1, [1]), (64, [64]), (65, [33] * 2), (200, [50] * 4)]
)
def test_every_pass_but_a_small_one_has_one_size(count, seen):
    network, images = Counting(), torch.randn(count, 3, 2, 2)
    found = answer(network, images)
    assert network.seen == seen
    torch.testing.assert_close(found, images.flatten(1).sum(1, keepdim=True))


@torch.inference_mode()
def test_an_image_is_answered_alike_wherever_it_stands():
    network = lay_out(create_model(ModelConfig("convnet3", 16), 10, 16).eval(), CPU)
    images = torch.randn(150, 3, 16, 16)
    order = torch.randperm(150)
    assert torch.equal(answer(network, images[order]), answer(network, images)[order])
    torch.testing.assert_close(answer(network, images), network(images), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_features_beside_the_logits_have_the_same_rows():
    tap = FeatureTap(create_model(ModelConfig("resnet10_thin", 8), 10, 16).eval(), 10)
    images = torch.randn(70, 3, 16, 16)
    for found, wanted in zip(answer(tap, images), tap(images), strict=True):
        assert found.shape == wanted.shape
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_layer_of_many_classes_sees_all_images_at_once():
    """Its weights would be read again for every few of them."""
    network = nn.Sequential(Counting(), nn.Linear(1, 5000))
    counting = network[0]
    answer(lay_out(network, CPU), torch.randn(100, 3, 2, 2))
    assert counting.seen == [100]
