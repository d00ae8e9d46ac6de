"""Weights of anyone: unwrapped from what people save, fitted into a network by name.

What people save: a state_dict as it is, or below a key (``model``, ``state_dict``, ...) beside the
epoch, the optimiser and the script's arguments; with ``module.`` of DataParallel, ``_orig_mod.`` of
torch.compile, ``model.`` of Lightning in front of every name, in any nesting.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import safetensors.torch
from torch import Tensor, nn
from upath import UPath

from raydd.errors import Refused
from raydd.models.networks.convnet import ConvNet
from raydd.store.convnets import own_convnet
from raydd.store.torch_files import StandIn, UnreadableFile, pickled, read_torch

# Where checkpoints keep the weights, in the order of trust; averaged ones only if nothing else.
_KEYS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "teacher"),
    *("module", "weights", "model_ema", "ema", "ema_state_dict", "state_dict_ema"),
)
_NO_WEIGHTS = ("optim", "sched", "lr_sched", "scaler", "amp", "callbacks", "loops")
# Parts of names that wrappers add anywhere: DataParallel, torch.compile, FSDP, checkpointing.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# What counters and profilers leave beside the weights, and what networks of old lack.
_BOOKKEEPING = ("num_batches_tracked", "n_averaged", "total_ops", "total_params", "_extra_state")
_AVERAGE = "ema"
_DEEPEST = 4  # a hostile file may hold itself


def load_weights(network: nn.Module, path: UPath, what: str) -> None:
    """Put the weights of a file into a network, by name.

    Args:
        network: float32; changed in place.
        path: .safetensors, or any file of ``torch.save``.
        what: begins every message, e.g. ``teacher.checkpoint=/data/r18.pth``.
    Raises:
        Refused: see :func:`read_weights`; names or shapes that are not the network's, several
            networks in one file.
    """
    weights = read_weights(path, what)
    named = dict(network.state_dict())
    names = {_plain_name(name): name for name in named}
    if len(names) < len(named):  # a network with parts of a wrapper's name
        names = {name: name for name in named}
    prefix = _find_prefix(names, weights, what)
    held = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    if isinstance(network, ConvNet):
        held = own_convnet(held, network)
    _check_names(names, held, what)
    fitting = {names[name]: value for name, value in held.items() if name in names}
    _check_shapes(fitting, named, what)
    network.load_state_dict(fitting, strict=False)


def read_weights(path: UPath, what: str) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name, on the CPU.

    Args:
        path: .safetensors, or any file of ``torch.save``; read with ``weights_only``, see
            :mod:`raydd.store.torch_files`.
        what: begins every message.
    Returns:
        name -> tensor; what wrappers put into names (``module.``, ``_orig_mod.``) is taken out, a
        prefix that the network has in a larger one (``model.``) is still there.
    Raises:
        Refused: no file, no plain tensors, a pickled network, several networks and no usual key.
    """
    if not path.is_file():
        raise Refused(f"{what} does not exist." if not path.exists() else f"{what} is no file.")
    content = path.read_bytes()
    try:
        if path.suffix == ".safetensors" or content[8:9] == b"{":
            found: Any = safetensors.torch.load(content)
        else:
            found = read_torch(content)
    except (UnreadableFile, safetensors.SafetensorError) as error:
        reason = error if isinstance(error, UnreadableFile) else "is damaged; copy it again"
        raise Refused(f"{what} is not a plain weight file: it {reason}.") from error
    state = _state_dict(found)
    if state is None:
        raise Refused(f"{what} {_no_state(found)}.")
    plain = {_plain_name(name): value for name, value in state.items()}
    return plain if len(plain) == len(state) else state


def _state_dict(found: Any, depth: int = 0) -> dict[str, Tensor] | None:
    """The weights in what a file holds; None where there are none, or several."""
    if not isinstance(found, Mapping) or depth > _DEEPEST:
        return None
    for key in _KEYS:
        if (state := _state_dict(found.get(key), depth + 1)) is not None:
            return state
    tensors = {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if any(value.ndim for value in tensors.values()):  # a lone number is an accuracy
        return tensors
    inner = [v for k, v in found.items() if not str(k).lower().startswith(_NO_WEIGHTS)]
    states = [state for v in inner if (state := _state_dict(v, depth + 1)) is not None]
    return states[0] if len(states) == 1 else None


def _no_state(found: Any) -> str:
    """Why there are no weights in it, in words, with a cure."""
    values = list(found.values()) if isinstance(found, Mapping) else [found]
    foreign = [value.name for value in values if isinstance(value, StandIn)]
    if foreign:
        return f"is not a plain weight file: it {pickled(foreign[0])}"
    cure = "save the network's state_dict and try again"
    if isinstance(found, Mapping) and found:
        return f"holds no weights under any usual key, its keys are {_some(found)}; {cure}"
    return f"holds no weights but {type(found).__name__}; {cure}"


def _plain_name(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _find_prefix(names: Iterable[str], weights: Mapping[str, Tensor], what: str) -> str:
    """What stands before the network's names in the file: the prefix that fits the most of them."""
    wanted = list(names)
    ends = wanted[:1] + wanted[-1:]
    candidates = {key[: -len(end)] for key in weights for end in ends if key.endswith("." + end)}
    covered = {
        prefix: sum(prefix + name in weights for name in wanted) for prefix in {"", *candidates}
    }
    most = max(covered.values())
    best = sorted(prefix for prefix, count in covered.items() if count == most)
    best = [prefix for prefix in best if _AVERAGE not in prefix] or best
    if most and "" not in best and len(best) > 1:
        raise Refused(
            f"{what} holds several networks that fit ({_some(best)}); save the state_dict of the "
            "one that is meant and try again."
        )
    return best[0] if most else ""


def _check_names(names: Mapping[str, str], held: Mapping[str, Tensor], what: str) -> None:
    needed = [name for name in names if not name.endswith(_BOOKKEEPING)]
    missing = [name for name in needed if name not in held]
    unknown = [n for n in held if n not in names and not n.endswith(_BOOKKEEPING)]
    said = []
    if missing:
        said.append(f"{len(missing)} of its {len(needed)} names are not in the file ({missing[0]})")
    if unknown:
        said.append(f"{len(unknown)} in the file are not its own ({unknown[0]})")
    if said:
        raise Refused(
            f"{what} does not fit the network: {' and '.join(said)}; name the network that these "
            "are the weights of."
        )


def _check_shapes(fitting: Mapping[str, Tensor], named: Mapping[str, Tensor], what: str) -> None:
    other = [name for name, value in fitting.items() if value.shape != named[name].shape]
    if not other:
        return
    name = other[0]
    theirs, ours = list(fitting[name].shape), list(named[name].shape)
    said = f"{name} is {theirs} in the file, the network has {ours}"
    last = name.rpartition(".")[0] == list(named)[-1].rpartition(".")[0]
    if last and theirs[1:] == ours[1:]:
        said += f": the file knows {theirs[0]} classes"
    elif len(other) > 1:
        said += f", and {len(other) - 1} more differ"
    raise Refused(f"{what} does not fit the network: {said}.")


def _some(names: Iterable[Any], most: int = 5) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")
