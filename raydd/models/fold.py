"""Fold frozen BatchNorm layers into the convolutions before them."""

from __future__ import annotations

import copy
import logging
from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from raydd.models.layout import WideLinear

_log = logging.getLogger(__name__)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a frozen copy in eval mode whose BatchNorm layers are folded where possible.

    Args:
        network: any network; it is not changed.

    Returns:
        A copy with the same outputs (up to rounding). A network that torch.fx cannot trace, a norm
        that does not follow a convolution, and a shared layer are copied as they are.
    """
    frozen = copy.deepcopy(network).eval().requires_grad_(False)
    if not any(type(module) is nn.BatchNorm2d for module in frozen.modules()):
        return frozen
    try:
        traced = fx.GraphModule(frozen, _Tracer().trace(frozen))
    except Exception as error:  # tracing fails in as many ways as there are networks
        _log.info("network is not folded, torch.fx cannot trace it: %s", error)
        return frozen
    modules: dict[Any, Any] = dict(traced.named_modules())
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    for node in list(traced.graph.nodes):
        pair = _convolution_before(node, modules)
        if pair is None or calls.count(node.target) > 1 or calls.count(pair.target) > 1:
            continue
        folded = fuse_conv_bn_eval(modules[pair.target], modules[node.target])
        traced.set_submodule(str(pair.target), folded.requires_grad_(False))
        node.replace_all_uses_with(pair)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


class _Tracer(fx.Tracer):
    """Leaves our own kind of layer whole, as it does torch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, WideLinear) or super().is_leaf_module(m, module_qualified_name)


def _convolution_before(node: fx.Node, modules: dict[Any, Any]) -> fx.Node | None:
    """Return the convolution whose only reader is this BatchNorm node, if it is one."""
    if node.op != "call_module" or type(modules[node.target]) is not nn.BatchNorm2d:
        return None
    source = node.args[0]
    if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
        return None
    return source if type(modules[source.target]) is nn.Conv2d else None
