"""Class order: the one silent mistake that ruins a distilled set, so it is checked out loud.

The order of the class names is stored in every artifact; wherever two artifacts meet, their
orders are compared here. Tiny-ImageNet alone is in circulation in two different orders.
"""

import hashlib
import json
from collections.abc import Sequence

from upath import UPath


def check_class_order(expected: Sequence[str], found: Sequence[str], what: str) -> None:
    """Compare two class orders.

    Args:
        expected: class names of the artifact that sets the order.
        found: class names of the artifact that joins it.
        what: the joining artifact in words, e.g. "the teacher checkpoint"; begins the message.
    Raises:
        ValueError: the orders differ; names the first position that does.
    """
    for position, (wanted, got) in enumerate(zip(expected, found, strict=False)):
        if wanted != got:
            raise ValueError(
                f"The class order of {what} differs at position {position}: expected {wanted!r}, "
                f"found {got!r}; use artifacts that were made with one class list."
            )
    if len(expected) != len(found):
        position = min(len(expected), len(found))
        longer = "found" if len(found) > len(expected) else "expected"
        extra = (found if longer == "found" else expected)[position]
        raise ValueError(
            f"The class order of {what} differs at position {position}: expected {len(expected)} "
            f"classes, found {len(found)} ({extra!r} is only in the {longer} list); "
            "use artifacts that were made with one class list."
        )


def class_order_digest(class_names: Sequence[str]) -> str:
    """Return the sha256 (hex) of the ordered names: equal if and only if the orders are."""
    text = json.dumps(list(class_names), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_class_names(path: str | UPath) -> tuple[str, ...]:
    """Read an ordered class list: a ``.json`` list of names, or text with one name per line.

    Raises:
        ValueError: missing file, not a list of names, no name, or a name given twice.
    """
    file = UPath(path)
    try:
        text = file.read_text(encoding="utf-8")
        names = json.loads(text) if file.suffix == ".json" else text.splitlines()
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"The class list {file} cannot be read: {error}.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"The class list {file} must be a json list of names.")
    return unique_names([name.strip() for name in names if name.strip()], f"The class list {file}")


def unique_names(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the names as a tuple.

    Raises:
        ValueError: there is none, one occurs twice, or one is not UTF-8 text.
    """
    if not names:
        raise ValueError(f"{what} holds no class name.")
    for name in names:
        if any("\ud800" <= character <= "\udfff" for character in name):  # bytes of a file name
            raise ValueError(f"{what} names the class {name!r}, which is not UTF-8; rename it.")
    if len(set(names)) != len(names):
        twice = next(name for position, name in enumerate(names) if name in names[:position])
        raise ValueError(f"{what} names the class {twice!r} twice; every class needs its own name.")
    return tuple(names)
