"""Torch's optimisers without its compiler.

Their methods tell the compiler where its graphs end, and bring it along for that: some 100 MB and
two seconds of every process that trains. Nothing here is compiled, so the methods below are those
inside.
"""

import inspect

import torch


def _uncompiled(kind: type[torch.optim.Optimizer]) -> dict[str, object]:
    """The methods of an optimiser that would import the compiler, as they are inside."""
    wrapped = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in wrapped}
    return {**methods, "step": torch.no_grad()(methods["step"])}


# made by `type`: a class statement would list methods of which none differs in what it does
AdamW: type[torch.optim.AdamW] = type("AdamW", (torch.optim.AdamW,), _uncompiled(torch.optim.AdamW))
SGD: type[torch.optim.SGD] = type("SGD", (torch.optim.SGD,), _uncompiled(torch.optim.SGD))
