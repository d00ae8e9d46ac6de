"""The one place where networks are built from their names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from raydd.errors import FULL, Refused
from raydd.models.networks.airnet import AirNet
from raydd.models.networks.convnet import NORMS, ConvNet
from raydd.models.networks.resnet_ap import ResNetAP
from raydd.models.networks.resnet_small import SmallResNet
from raydd.models.networks.wide_resnet import WideResNet16

_SMALL_RESNETS = {"resnet18_small": (2, 2, 2, 2), "resnet10_thin": (1, 1, 1, 1)}
_RESNET_AP, _AIRNET, _WIDE = "resnet_ap10", "airnet", "wrn16"
# raydd's own networks beside ConvNets, and their usual width
_OWN = {"resnet18_small": 64, "resnet10_thin": 32, _RESNET_AP: 64, _AIRNET: 64, _WIDE: 32}
_CONVNET_WIDTH = 128
_VIT, _VIT_OF_TIMM = "vit_tiny", "vit_tiny_patch16_224"
_VIT_PATCHES = 8  # along each side: 64 tokens at any resolution
_LEAST_WIDTH = 8  # oneDNN issue 6035: strided 1x1 convolutions of fewer channels, on AVX2
_TORCHVISION_RESNETS = tuple(f"torchvision/{kind}" for kind in ("resnet", "resnext", "wide_resnet"))
# with instance norms: the last of their norms sees 2 pixels a side
_LEAST_RESOLUTIONS = dict.fromkeys(_OWN, 16) | {_AIRNET: 24, _WIDE: 8}
_LEAST_AIRNET_RESOLUTION = 10
_TORCHVISION_WEIGHTS = "IMAGENET1K_V1"  # the public teachers of the papers are the first version


@dataclass
class ModelConfig:
    """A network by name.

    Attributes:
        name: `convnetD` (D blocks), `resnet18_small` (ResNet-18 with a 3x3 stem, no max-pooling),
            `resnet10_thin` (for CPUs), `airnet` (for 32 pixels, fast and strong), `resnet_ap10`
            (ResNetAP-10: pools instead of strides), `wrn16` (WRN-16-2),
            `vit_tiny` (the smallest ViT of timm, 5.5 million weights, always with 8 x 8 patches),
            `torchvision/NAME`, or any timm name. MobileNets (`mobilenetv3_small_050`) train from
            16 pixels on, in batches of at least two images.
        width: channels of the first stage; None means the usual width of that network. Only for the
            networks of raydd itself.
        norm: "batch", "instance", "group" or "none"; other than "batch" only for raydd's own and
            the residual networks of torchvision (`torchvision/resnet18`).
        pretrained: start from the public ImageNet weights of torchvision or timm.
    """

    name: str = "resnet18_small"
    width: int | None = None
    norm: str = "batch"
    pretrained: bool = False


def create_model(config: ModelConfig, num_classes: int, resolution: int) -> nn.Module:
    """Build a network that maps images float [B, 3, R, R] to logits [B, num_classes].

    Args:
        config: name and variants.
        num_classes: number of outputs; a pretrained head of another size becomes a fresh one.
        resolution: R, pixels; matters to `convnetD` and to transformers and mixers of timm, which
            are built for one resolution.

    Returns:
        The module in training mode, float32, on the CPU, initialised from torch's global generator.

    Raises:
        ValueError: unknown name (with close matches) or a variant the network does not have.
    """
    if config.norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {config.norm!r}")
    convnet = re.fullmatch(r"convnet(\d+)", config.name)
    if convnet is None and config.name not in _OWN:
        return _create_foreign(config, num_classes, resolution)
    _refuse_pretrained(config)
    if config.width is not None and config.width < 1:
        raise ValueError(f"width must be at least 1, got {config.width}")
    if convnet is not None:
        width = config.width or _CONVNET_WIDTH
        return ConvNet(num_classes, resolution, int(convnet[1]), width, config.norm)
    return _create_own(config, num_classes, resolution)


def _create_own(config: ModelConfig, num_classes: int, resolution: int) -> nn.Module:
    width, norm = config.width or _OWN[config.name], NORMS[config.norm]
    if width < _LEAST_WIDTH:
        raise ValueError(
            f"{config.name} needs a width of at least {_LEAST_WIDTH}, got {width}: narrower ones "
            "corrupt memory on some CPUs"
        )
    least = _LEAST_RESOLUTIONS[config.name]
    if config.norm == "instance" and resolution < least:
        raise ValueError(
            f"{config.name} ends as one pixel at a resolution of {resolution}, where an instance "
            f"norm is always 0: use norm=batch or images of {least} pixels"
        )
    if config.name == _AIRNET:
        if resolution < _LEAST_AIRNET_RESOLUTION:
            raise ValueError(
                f"airnet halves its images three times: it needs {_LEAST_AIRNET_RESOLUTION} "
                f"pixels, got {resolution}"
            )
        return AirNet(num_classes, width, norm)
    if config.name == _WIDE:
        return WideResNet16(num_classes, width, norm)
    if config.name == _RESNET_AP:
        return ResNetAP(num_classes, resolution, width=width, norm_layer=norm)
    return SmallResNet(num_classes, _SMALL_RESNETS[config.name], width, norm)


def create_meta_model(config: ModelConfig, num_classes: int, resolution: int) -> nn.Module:
    """Build a network without memory, to check its name and count its sizes; errors as above."""
    with torch.device("meta"):
        return create_model(replace(config, pretrained=False), num_classes, resolution)


def _create_foreign(config: ModelConfig, num_classes: int, resolution: int) -> nn.Module:
    if not config.name.startswith("torchvision/"):
        import timm  # a second to import: only who needs it pays

        if config.name != _VIT and not timm.is_model(config.name):
            raise ValueError(_unknown(config.name, timm.list_models()))
    residual = config.name.startswith(_TORCHVISION_RESNETS)
    if config.width is not None or (config.norm != "batch" and not residual):
        own = ", ".join(["convnetD", *_OWN])
        raise ValueError(
            f"width and norm can be set for {own} only (norm also for torchvision/resnetD), not "
            f"for {config.name!r}"
        )
    if config.name.startswith("torchvision/"):
        return _create_torchvision(config, num_classes)
    if config.name == _VIT:
        return _create_vit(config, num_classes, resolution)
    card = timm.get_pretrained_cfg(config.name)
    size: dict[str, Any] = {"img_size": resolution} if card and card.fixed_input_size else {}
    with _fetching(config.name):
        return timm.create_model(
            config.name, pretrained=config.pretrained, num_classes=num_classes, **size
        )


def _create_vit(config: ModelConfig, num_classes: int, resolution: int) -> nn.Module:
    import timm

    _refuse_pretrained(config)
    if resolution % _VIT_PATCHES:
        raise ValueError(
            f"{_VIT} cuts an image into {_VIT_PATCHES} x {_VIT_PATCHES} patches, which a side of "
            f"{resolution} pixels does not allow: use a resolution divisible by {_VIT_PATCHES}"
        )
    patch = resolution // _VIT_PATCHES
    return timm.create_model(
        _VIT_OF_TIMM, num_classes=num_classes, img_size=resolution, patch_size=patch
    )


def _refuse_pretrained(config: ModelConfig) -> None:
    if config.pretrained:
        raise ValueError(
            f"{config.name} has no public weights: set pretrained=false or use a "
            "torchvision/NAME or timm network"
        )


@contextmanager
def _fetching(name: str) -> Iterator[None]:
    """Say in a sentence that public weights are out of reach."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise
        raise Refused(
            f"the public weights of {name} cannot be fetched ({error}); teacher.checkpoint=FOLDER "
            "takes a network that is here."
        ) from error


def _create_torchvision(config: ModelConfig, num_classes: int) -> nn.Module:
    from torchvision import models

    name = config.name.removeprefix("torchvision/")
    if name not in models.list_models(models):
        names = [f"torchvision/{known}" for known in models.list_models(models)]
        raise ValueError(_unknown(config.name, names))
    if config.norm != "batch" and config.pretrained:
        raise ValueError(f"the public weights of {config.name} fit norm=batch only")
    norm = {"norm_layer": NORMS[config.norm]} if config.norm != "batch" else {}
    model = models.get_model(name, weights=None, num_classes=num_classes, **norm)
    if config.pretrained:
        known = models.get_model_weights(name)
        with _fetching(config.name):
            weights = known[_TORCHVISION_WEIGHTS].get_state_dict(progress=False, check_hash=True)
        own = model.state_dict()
        fitting = {
            key: value
            for key, value in weights.items()
            if key in own and value.shape == own[key].shape
        }
        model.load_state_dict(own | fitting)
    return model


def _unknown(name: str, names: list[str]) -> str:
    candidates = [*_OWN, "convnet3", "convnet4", _VIT, *names]
    close = difflib.get_close_matches(name, candidates, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else "see timm.list_models() for the names."
    return f"there is no network named {name!r}: {hint}"
