"""ConvNets of other code (DC, DM, MTT, RDED) as ours: other names, and a bias before each norm."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from raydd.models.networks.convnet import ConvNet

_BLOCK = 4  # convolution, norm, activation, pooling
_OF_RDED = re.compile(r"layers\.(conv|norm)\.([0-9]+)\.(.+)")


def own_convnet(weights: Mapping[str, Tensor], network: ConvNet) -> dict[str, Tensor]:
    """Weights under our names and without biases that a norm takes out again.

    A batch norm subtracts its running mean: a bias before it is moved there, which changes no
    output in evaluation. An instance norm subtracts the mean of each channel, with the bias in it.

    Args:
        weights: of any of these networks; others are returned as they are.
        network: the one that they are for.
    """
    own = {_own_name(name): value for name, value in weights.items()}
    for index in range(0, len(network.features), _BLOCK):
        bias, mean = f"features.{index}.bias", f"features.{index + 1}.running_mean"
        norm = network.features[index + 1]
        if bias not in own or network.features[index].bias is not None:
            continue
        if isinstance(norm, nn.BatchNorm2d) and mean in own:
            own[mean] = own[mean] - own.pop(bias)
        elif isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels:
            del own[bias]
    return own


def _own_name(name: str) -> str:
    match = _OF_RDED.fullmatch(name)
    if match is None:
        return name
    return f"features.{_BLOCK * int(match[2]) + (match[1] == 'norm')}.{match[3]}"
