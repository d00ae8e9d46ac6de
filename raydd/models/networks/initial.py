"""How the convolutions of raydd's own residual networks begin."""

from torch import nn


def initialise_convolutions(network: nn.Module) -> None:
    """Draw all kernels by He's rule; those of the meta device, which have no values, are left."""
    for module in network.modules():
        # drawing there does nothing, but imports a compiler for seconds
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
