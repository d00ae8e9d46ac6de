"""Files of ``torch.save``, read without running or importing anything that they name.

Always ``weights_only=True``. A checkpoint of a training script often holds more than tensors: the
script's ``argparse.Namespace``, a metric of numpy's, a configuration. weights_only refuses the
whole file for one such class. Then it is read again with an inert stand-in in the place of every
class that the file names: nothing foreign is allowed, the foreign objects come out empty. Names
that only an attack needs are refused all the same.
"""

import io
import pickletools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

_ZIP = b"PK\x03\x04"  # torch.save since 1.6; a row of pickles before
_LEGACY_PICKLES = 4  # magic number, protocol, machine, content
_NEVER = {
    *("builtins", "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "importlib"),
    *("runpy", "ctypes", "pty", "code", "webbrowser"),
}
# Types that configurations mention; as stand-ins they are as empty as any other class.
_TYPES = (
    dict,
    list,
    tuple,
    set,
    frozenset,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    bool,
    object,
)
_HARMLESS = {"builtins.long", *(f"builtins.{kind.__name__}" for kind in _TYPES)}


class UnreadableFile(ValueError):
    """Not a file of plain tensors; the text says why, with a cure, behind the file's name."""


class StandIn:
    """In the place of an object whose class is not known here: no content, no behaviour.

    Attributes:
        name: of the class that the file names.
    """

    name = ""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Forget the state."""


def read_torch(content: bytes) -> Any:
    """The object that ``torch.save`` wrote, on the CPU; foreign objects in it are ``StandIn``.

    Args:
        content: the whole file.
    Raises:
        UnreadableFile: no such file, damaged, or it asks for what no weights need.
    """
    _refuse_other_kinds(content)
    try:
        return _load(content)
    except Exception as error:  # a hostile file meets almost any exception here
        names = _foreign_names(content)
        if not names:
            raise UnreadableFile(_damage(error)) from error
    for make in (_stand_in, _stand_in_mapping):
        try:
            with safe_globals([(make(name), name) for name in names]):
                return _load(content)
        except Exception:
            continue
    raise UnreadableFile(pickled(min(names, key=lambda name: name.startswith("builtins."))))


def pickled(name: str) -> str:
    """What is wrong with a file whose content is an object of the class ``name``."""
    return (
        f"holds a whole pickled network or object ({name}), which is never run; save the network's "
        "state_dict and try again"
    )


def _load(content: bytes) -> Any:
    with warnings.catch_warnings():  # of old protocols and scripts: what follows says it
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _refuse_other_kinds(content: bytes) -> None:
    if content.startswith(b"version https://git-lfs"):
        raise UnreadableFile("is a pointer of Git LFS, not the file itself; run git lfs pull")
    if content[:200].lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise UnreadableFile("is a web page, not the file behind it; download it again")


def _foreign_names(content: bytes) -> list[str]:
    """Dotted names of all classes and functions that weights_only does not know, sorted."""
    try:
        found = _names_in_zip(content) if content.startswith(_ZIP) else _names_in_pickles(content)
    except Exception:  # neither of the two formats
        return []
    names = sorted(found)
    for name in names:
        if name.partition(".")[0] in _NEVER and name not in _HARMLESS:
            raise UnreadableFile(
                f"asks to run {name}, which no weights need; take it from a source that you trust"
            )
    return names


def _names_in_zip(content: bytes) -> Sequence[str]:
    return get_unsafe_globals_in_checkpoint(io.BytesIO(content))


def _names_in_pickles(content: bytes) -> set[str]:
    stream, names = io.BytesIO(content), set[str]()
    for _ in range(_LEGACY_PICKLES):
        for operation, argument, _ in pickletools.genops(stream):
            if operation.name == "GLOBAL":
                name = str(argument).replace(" ", ".")
                names.add(name.replace("__builtin__.", "builtins."))  # as Python 2 called it
    return {name for name in names if not name.startswith(("torch.", "collections.OrderedDict"))}


def _stand_in(name: str) -> Callable[..., Any]:
    if name == "collections.defaultdict":  # filled item by item: only a plain dict may be
        return _empty_dict
    return type("StandIn", (StandIn,), {"name": name})


def _empty_dict(*arguments: Any) -> dict[Any, Any]:
    return {}


def _stand_in_mapping(name: str) -> Callable[..., Any]:
    """For classes derived from dict, as configurations are; numpy's states are no dicts."""
    return _stand_in(name) if name.startswith("numpy") else type("Mapping", (_Mapping,), {})


class _Mapping:
    def __new__(cls, *arguments: Any) -> Any:
        return OrderedDict()  # the only type that weights_only fills with items and with a state


def _damage(error: Exception) -> str:
    if "TorchScript" in str(error):
        return "is a TorchScript program, not weights; save its state_dict and try again"
    return "is damaged, cut off or no file of torch.save; copy or save it again"
