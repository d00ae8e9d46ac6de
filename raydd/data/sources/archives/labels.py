"""From the bytes of a sample's label members to a class index."""

import json
import re
from collections.abc import Mapping
from typing import Any

from raydd.data.sources.archives.names import LABEL_NAMES
from raydd.data.sources.base import resolve_label

MAX_LABEL_BYTES = 1 << 20
JSON_KEYS = ("label", "cls", "class", "class_index", "class_name")
_NUMBER = re.compile(r"(-?[0-9]{1,18})(\.0*)?")  # 3, and 3.0 as numpy writes it


def class_of(labels: Mapping[str, bytes], index: Mapping[str, int]) -> tuple[int, str | None]:
    """Turn label members into a class index.

    Args:
        labels: name in ``LABEL_NAMES`` -> content; the most trusted one decides.
        index: class name -> class index, all classes.
    Returns:
        (class_index, None), or (-1, reason) where there is no label or it means no class.
    """
    name = next((name for name in LABEL_NAMES if name in labels), None)
    if name is None:
        return -1, "there is no label beside it (.cls, .label, .txt or .json)"
    if name == "json":
        return _json_class(labels[name], index)
    return resolve_label(_value(labels[name].decode("utf-8-sig", errors="replace")), index)


def class_of_folder(
    folder: tuple[str, ...], depth: int, index: Mapping[str, int]
) -> tuple[int, str | None]:
    """(class_index, None) of the folder at a depth of a member's path, or (-1, reason)."""
    if len(folder) <= depth:
        return -1, "it lies in no class folder of its archive"
    if folder[depth] not in index:
        return -1, f"the folder {folder[depth][:99]!r} is not a class name"
    return index[folder[depth]], None


def _value(text: str) -> int | str:
    text = text.strip()
    number = _NUMBER.fullmatch(text)
    return int(number[1]) if number else text


def _json_class(content: bytes, index: Mapping[str, int]) -> tuple[int, str | None]:
    """The class that ``JSON_KEYS`` say; where they disagree there is none."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return -1, "the .json member is not valid json"
    if not isinstance(record, dict):
        return -1, "the .json member holds no label"
    stored = [record[key] for key in JSON_KEYS if record.get(key) is not None]
    if not stored:
        return -1, f"the .json member holds no label (none of {', '.join(JSON_KEYS)})"
    found = [resolve_label(_plain(value), index) for value in stored]
    classes = sorted({position for position, reason in found if reason is None})
    if len(classes) > 1:
        return -1, f"the .json member means the classes {classes[0]} and {classes[1]}"
    return (classes[0], None) if classes else found[0]


def _plain(value: Any) -> Any:
    """What json has in place of an integer: true, 3.0, "3"."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return _value(value) if isinstance(value, str) else value
