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
        ("resnet_ap10", 16),
        ("torchvision/shufflenet_v2_x0_5", 32),
        ("deit_tiny_patch16_224", 32),
        ("airnet", 16),
        ("wrn16", 8),
        ("vit_tiny", 16),
        ("vit_tiny", 64),
        ("mobilenetv3_small_050", 32),
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


@pytest.mark.parametrize(("resolution", "side"), [(64, 8), (128, 8), (160, 5)])
def test_resnet_ap_has_no_stride_and_sees_every_pixel(resolution, side):
    network = create_model(ModelConfig("resnet_ap10", width=8, norm="instance"), 3, resolution)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert {m.stride for m in convolutions} == {(1, 1)}
    assert len(convolutions) == 1 + 4 * 2 + 3  # stem, one block per stage, shortcuts
    images = torch.randn(1, 3, resolution, resolution, requires_grad=True)
    assert network.layers(network.stem(images)).shape == (1, 64, side, side)
    network(images)[0, 0].backward()
    assert (images.grad != 0).float().mean() > 0.99


def test_pooling_first_is_what_a_shortcut_that_pools_last_gives():
    network = create_model(ModelConfig("resnet_ap10", width=8, norm="none"), 3, 32)
    pool, convolution, _ = network.layers[1].shortcut
    features = torch.randn(2, 8, 16, 16)
    torch.testing.assert_close(convolution(pool(features)), pool(convolution(features)))


def test_torchvisions_residual_networks_take_other_norms():
    reference, network = (
        create_model(ModelConfig("torchvision/resnet18", norm=norm), 10, 64)
        for norm in ("batch", "instance")
    )
    assert {type(m) for m in network.modules()} - {type(m) for m in reference.modules()} == {
        nn.GroupNorm
    }
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert network.conv1.kernel_size == (7, 7)
    assert all(m.num_groups == m.num_channels for m in network.modules() if type(m) is nn.GroupNorm)


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
@pytest.mark.parametrize("name", ["convnet2", "resnet10_thin", "resnet_ap10"])
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
        (ModelConfig("resnet_ap10", width=4), "needs a width of at least 8, got 4"),
        (ModelConfig("torchvision/vgg11", norm="instance"), "width and norm can be set for"),
        (ModelConfig("torchvision/resnet18", norm="instance", pretrained=True), "fit norm=batch"),
        (ModelConfig("convnet6"), "choose a smaller depth"),
        (ModelConfig("vit_tini"), "did you mean vit_tiny"),
        (ModelConfig("vit_tiny", width=8), "width and norm can be set for"),
        (ModelConfig("vit_tiny", pretrained=True), "no public weights"),
    ],
)
def test_bad_configs_are_refused_in_one_sentence(config, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        create_model(config, 10, 32)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_vit_tiny_has_64_patches_at_any_resolution(resolution):
    network = create_model(ModelConfig("vit_tiny"), 10, resolution)
    assert network.patch_embed.num_patches == 64
    assert 5.3e6 < sum(weight.numel() for weight in network.parameters()) < 5.6e6


def test_vit_tiny_refuses_an_image_that_its_patches_do_not_fit():
    with pytest.raises(ValueError, match="a side of 28 pixels does not allow") as refusal:
        create_model(ModelConfig("vit_tiny"), 10, 28)
    assert "\n" not in str(refusal.value)


def train_on_colours(name, resolution, count, steps):
    """Images whose class is their colour; the network, the images, the labels and the losses."""
    torch.manual_seed(0)
    labels = torch.arange(count) % 3
    images = 0.3 * torch.randn(count, 3, resolution, resolution)
    images += torch.eye(3)[labels][:, :, None, None]
    network = create_model(ModelConfig(name), 3, resolution)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return network, images, labels, losses


def test_vit_tiny_learns_from_small_images():
    *_, losses = train_on_colours("vit_tiny", 16, 6, 6)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("resolution", [16, pytest.param(32, marks=pytest.mark.slow)])
def test_a_mobilenet_learns_from_images_that_end_as_one_pixel(resolution):
    network, images, labels, losses = train_on_colours("mobilenetv3_small_050", resolution, 30, 25)
    assert losses[-1] < 0.3 * losses[0]
    with torch.no_grad():
        for _ in range(100):  # batch norms learn slowly
            network(images)
        right = network.eval()(images).argmax(1) == labels
    assert right.float().mean() > 0.5  # a third by chance


def test_resnet_ap_refuses_images_that_end_as_one_pixel():
    with pytest.raises(ValueError, match="at least 16 pixels, got 8"):
        create_model(ModelConfig("resnet_ap10"), 10, 8)


def test_an_instance_norm_of_one_pixel_is_refused():
    config = ModelConfig("resnet10_thin", width=8, norm="instance")
    with pytest.raises(ValueError, match="ends as one pixel at a resolution of 8"):
        create_model(config, 10, 8)
    assert create_model(config, 10, 16)(torch.randn(2, 3, 16, 16)).std() > 0


def test_wrn16_has_the_weights_of_wrn_16_2():
    network = create_model(ModelConfig("wrn16"), 10, 32)
    assert sum(weights.numel() for weights in network.parameters()) == 691_674  # 0.7 million


def test_airnet_with_instance_norms_needs_more_than_one_pixel_at_its_end():
    with pytest.raises(ValueError, match="always 0"):
        create_model(ModelConfig("airnet", norm="instance"), 10, 16)
    images = torch.randn(1, 3, 24, 24)
    assert create_model(ModelConfig("airnet", norm="instance"), 10, 24)(images).std() > 0
