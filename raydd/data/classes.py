"""Class order: the one silent mistake that ruins a distilled set, so it is checked out loud.

The order of the class names is stored in every artifact; wherever two artifacts meet, their
orders are compared here. Tiny-ImageNet alone is in circulation in two different orders.
"""

import codecs
import hashlib
import json
import re
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
    """Read an ordered class list, known by its content.

    - text with one name per line (a byte-order mark is left out);
    - ``synset_words.txt``: ``n01440764 tench, Tinca tinca``, of which the WordNet id is the name;
    - json: a list of names, ``class_to_idx.json`` (``{name: index}``),
      ``imagenet_class_index.json`` (``{"0": ["n01440764", "tench"]}``, of which again the id is
      the name) or ``{"0": name}``.

    Raises:
        ValueError: missing file, none of these, no name, or a name given twice.
    """
    file = UPath(path)
    what = f"The class list {file}"
    try:
        text = _decoded(file.read_bytes())
        is_json = file.suffix == ".json" or re.match(r'\s*(\{|\[\s*")', text)
        lines = _names_of_json(json.loads(text), what) if is_json else _names_of_lines(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{what} cannot be read: {error}.") from error
    return unique_names([name.strip() for name in lines if name.strip()], what)


def _decoded(content: bytes) -> str:
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_wide else "utf-8-sig")


def _names_of_lines(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    synsets = [re.match(r"\s*(n\d{8})\s+\S", line) for line in lines]
    return [found[1] for found in synsets if found] if all(synsets) else lines


def _names_of_json(content: object, what: str) -> list[str]:
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content
    if not isinstance(content, dict):
        raise ValueError(f"{what} must be a json list of names, or an object {{name: index}}.")
    if all(isinstance(value, int) for value in content.values()):
        numbered = {index: name for name, index in content.items()}
    else:
        numbered = {int(key): _first_text(value) for key, value in content.items() if _digits(key)}
    names = [numbered.get(index) for index in range(len(content))]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"{what} must number its {len(names)} names from 0 to {len(names) - 1}, each once."
        )
    return [str(name) for name in names]


def _digits(key: str) -> bool:
    return key.isascii() and key.isdecimal()


def _first_text(value: object) -> object:
    return value[0] if isinstance(value, list) and value else value


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
