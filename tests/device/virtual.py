"""A virtual accelerator: tensors that say they are on device "virt" and compute on the CPU.

Operations that mix host and device raise as they do on CUDA. Copies to the device, reads of its
values and kernels are counted: a copy or a read in a step makes the host wait for the device. It
cannot see autocast (see :mod:`.fake_cuda`), kernels of CUDA, several devices, memory or time, and
nothing saved on it can be loaded again. Made in a backward pass, a tensor of no other is refused.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

if not (
    hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
    and hasattr(torch._C, "_set_only_lift_cpu_tensors")
):
    pytest.skip("this torch takes no backends written in Python", allow_module_level=True)

DEVICE = "virt:0"
# No kernel: they change what is known about memory, or reserve it.
_FREE = {
    "view", "reshape", "expand", "permute", "transpose", "t", "select", "slice", "unsqueeze",
    "squeeze", "detach", "alias", "as_strided", "split", "split_with_sizes", "chunk", "unbind",
    "_unsafe_view", "_reshape_alias", "diagonal", "lift_fresh", "lift", "unfold", "unsafe_split",
    "is_same_size", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided",
    "set_", "resize_", "_fused_sdp_choice", "is_pinned",
}  # fmt: skip
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
# The size of the result, or the result itself, is known only when the device has computed it.
_READING = {
    "nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "bincount", "equal",
    "_local_scalar_dense", "_linalg_eigh", "linalg_eigh", "linalg_eigvalsh",
}  # fmt: skip
# Kernels that take no scalar from the host beside tensors on the device.
_ALL_THERE = {"cat", "stack", "gather", "scatter", "index_select", "mm", "bmm", "addmm"}


class MixedDevices(RuntimeError):
    """An operation on tensors of the host and of the device."""


@dataclass
class Counts:
    """What a loop did, by the place in raydd that asked for it."""

    copies: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)  # by the operation's name


def per_step(run: Callable[[int], Any], few: int = 1, many: int = 2) -> tuple[Counts, Any]:
    """What each step of a loop does: of a long run less a short one, which pays what is paid once.

    Args:
        run: does so many steps.
        few: steps of the short run.
        many: steps of the long run; what a step does must be the same in each.

    Returns:
        The counts, and what the long run has returned.
    """
    with virtual() as short:
        run(few)
    with virtual() as long:
        result = run(many)
    more = [
        Counter({place: number / (many - few) for place, number in (b - a).items()})
        for a, b in zip(vars(short).values(), vars(long).values(), strict=True)
    ]
    return Counts(*more), result


_counts = Counts()


@contextmanager
def virtual() -> Iterator[Counts]:
    """The device exists here; what was done on it is counted."""
    global _counts
    _register()
    before, _counts = _counts, Counts()
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(device=) copies, as with CUDA
    try:
        with _Mode():
            yield _counts
    finally:
        _counts = before
        torch._C._set_only_lift_cpu_tensors(lifts)


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})


class VirtualTensor(torch.Tensor):
    """A tensor on the device; ``payload`` has its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, payload: Tensor) -> VirtualTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            payload.size(),
            strides=payload.stride(),
            storage_offset=payload.storage_offset(),
            dtype=payload.dtype,
            device=torch.device(DEVICE),
        )
        made.payload = payload
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> VirtualTensor:
        made = VirtualTensor(self.payload.clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            made._is_param = True
        memo[id(self)] = made
        return made

    def __repr__(self) -> str:
        return f"VirtualTensor({self.payload})"

    def tolist(self) -> Any:
        _counts.reads[_place()] += 1
        return self.payload.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert a tensor of the device to numpy: use Tensor.cpu() first")

    __array__ = numpy


def _set_data(self: VirtualTensor, other: VirtualTensor) -> None:
    torch.Tensor.data.__set__(self, other)
    self.payload = other.payload


# Module.to(memory_format=...) assigns it
VirtualTensor.data = property(lambda self: torch.Tensor.data.__get__(self), _set_data)


def _dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Count an operation, refuse a mixed one, compute it on the payloads."""
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [leaf for leaf in leaves if isinstance(leaf, VirtualTensor)]
    target = kwargs.get("device")
    goes_there = target is not None and torch.device(target).type == "virt"
    if not there and not goes_there:
        return func(*args, **kwargs)
    name = func._schema.name.split("::")[1]
    if name == "_has_compatible_shallow_copy_type":
        return False
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        with _Mode():  # inference mode hands these on whole
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
    if name in ("_to_copy", "copy_"):
        comes_back = _count_copy(name, args, target, goes_there)
    else:
        comes_back = name in ("equal", "_local_scalar_dense")
        _count_kernel(name, func, args, leaves)
    known = {id(leaf.payload): leaf for leaf in there}  # what is changed in place comes back
    found = _compute(func, args, kwargs, goes_there)
    if comes_back:
        return args[0] if name == "copy_" else found

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else VirtualTensor(value)

    if func.is_view and torch.is_inference_mode_enabled() and not there[0].is_inference():
        with torch.inference_mode(False):  # torch keeps such a view's history too
            return tree_map(wrap, found)
    return tree_map(wrap, found)


def _compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], goes_there: bool) -> Any:
    plain_args, plain = tree_map(
        lambda value: value.payload if isinstance(value, VirtualTensor) else value, (args, kwargs)
    )
    if goes_there:
        plain["device"] = torch.device("cpu")
    found = func(*plain_args, **plain)
    is_same = isinstance(found, Tensor) and bool(plain_args) and found is plain_args[0]
    if is_same and func._schema.name == "aten::_to_copy":
        return found.clone()  # another device has memory of its own
    return found


def _count_copy(name: str, args: tuple[Any, ...], target: Any, goes_there: bool) -> bool:
    """Note a copy; True where its result is on the host."""
    if name == "copy_":
        ends = [isinstance(value, VirtualTensor) for value in args[:2]]
        to_host, to_device = ends == [False, True], ends == [True, False]
    else:
        is_there = isinstance(args[0], VirtualTensor)
        to_host = is_there and target is not None and not goes_there
        to_device = not is_there
    if to_host:
        _counts.reads[_place()] += 1
    elif to_device:
        _counts.copies[_place()] += 1
    else:
        _counts.launches[name] += 1
    return to_host


def _count_kernel(name: str, func: Any, args: tuple[Any, ...], leaves: list[Tensor]) -> None:
    host = [leaf for leaf in leaves if not isinstance(leaf, VirtualTensor)]
    if name in _INDEXING:
        indices = [i for i in tree_leaves(args[1]) if isinstance(i, Tensor)]
        for index in indices:
            if not isinstance(index, VirtualTensor):
                _counts.copies[_place()] += 1
            if index.dtype == torch.bool:  # how many are set?
                _counts.reads[_place()] += 1
        host = [leaf for leaf in host if all(leaf is not index for index in indices)]
    alone = name in _ALL_THERE or name.startswith("_fused")
    if any(leaf.dim() > 0 or alone for leaf in host):
        shapes = [tuple(leaf.shape) for leaf in host]
        raise MixedDevices(f"{func} on the device takes tensors {shapes} of the host, {_place()}")
    if name in _READING:
        _counts.reads[_place()] += 1
    if name not in _FREE and name != "_local_scalar_dense":
        _counts.launches[name] += 1


def _place() -> str:
    """File and line in raydd that asked for the current operation."""
    frame = sys._getframe(1)
    while frame:
        path = frame.f_code.co_filename
        if "/raydd/" in path and "/tests/" not in path and "site-packages" not in path:
            return f"{path.rsplit('/raydd/', 1)[1]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


class _Backend:
    """What torch asks of a backend."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Draws on the device are none of raydd's."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


@cache
def _register() -> None:
    """Make the backend known to torch; it stays so until the process ends."""
    backend_registration._setup_privateuseone_for_python_backend("virt", backend_module=_Backend())
