"""Every key of the command line, read from the typed configuration: ``python docs/keys.py``.

A key is a field of a dataclass beside the component that reads it; what it means stands in that
class's docstring, or in a string below the field. ``docs/conf.py`` puts the text into the site.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import pairwise
from types import UnionType
from typing import Any, get_args, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from raydd.config.tree import RunConfig
from raydd.evaluate import EvaluateConfig

DOORS = {RunConfig: "`raydd run`", EvaluateConfig: "`raydd evaluate`"}


def schemas(group: str) -> list[type]:
    """The dataclasses that a group of the command line may be filled with, as registered."""
    nodes = ConfigStore.instance().repo[group].values()
    return [OmegaConf.get_type(node.node) for node in nodes]


def collect() -> dict[type, list[str]]:
    """Every dataclass of the tree, and the keys below which it is found; the top is ""."""
    places: dict[type, list[str]] = {}

    def walk(schema: type, place: str) -> None:
        if place in places.setdefault(schema, []):
            return
        places[schema].append(place)
        for entry in fields(schema):
            for below, many in _classes_of(schema, entry):
                walk(below, f"{place}{entry.name}{'.N' if many else ''}.")

    for door in DOORS:
        walk(door, "")
    return places


def render_keys() -> str:
    """The page below its introduction, Markdown: a table for each dataclass."""
    return "\n".join(
        line for schema, places in collect().items() for line in _section(schema, places)
    )


def _section(schema: type, places: list[str]) -> Iterator[str]:
    shared = len(places) > 1
    prefix = "" if shared else places[0]
    yield f"\n## {schema.__name__}\n"
    yield _first_sentence(schema) + (f" At the top of {DOORS[schema]}." if schema in DOORS else "")
    if shared:
        yield "\nBelow " + ", ".join(f"`{place[:-1]}`" for place in places) + ":"
    yield "\n| key | type | default | |\n|---|---|---|---|"
    texts = _texts(schema)
    for entry in fields(schema):
        hint = get_type_hints(schema)[entry.name]
        below = ", ".join(
            f"[{one.__name__}](#{one.__name__.lower()})" for one, _ in _classes_of(schema, entry)
        )
        kind = below or f"`{_spell_type(hint)}`"
        cells = (f"`{prefix}{entry.name}`", kind, _default(entry), texts[entry.name])
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _classes_of(schema: type, entry: Field[Any]) -> list[tuple[type, bool]]:
    """Dataclasses that a field holds, and whether it is a list of them."""
    hint = get_type_hints(schema)[entry.name]
    if hint is Any and entry.name in ConfigStore.instance().repo:
        return [(one, False) for one in schemas(entry.name)]
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    found = [(part, False) for part in parts if is_dataclass(part)]
    inner = [arg for part in parts for arg in get_args(part) if is_dataclass(arg)]
    return [*found, *((arg, True) for arg in inner)]  # type: ignore[list-item]


def _texts(schema: type) -> dict[str, str]:
    """What every field means, own and inherited."""
    texts: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if is_dataclass(base):
            texts |= _attributes(inspect.getdoc(base) or "") | _strings_below(base)
    return {entry.name: _markdown(texts[entry.name]) for entry in fields(schema)}


def _attributes(doc: str) -> dict[str, str]:
    """Entries of a docstring's section ``Attributes``."""
    section = re.search(r"^Attributes:\n((?:[ \n].*\n?)*)", doc, re.M)
    text = section[1] if section else ""
    entries = re.findall(r"^    (\w+): ((?:.*\n?)(?:^ {5,}.*\n?)*)", text, re.M)
    return {name: " ".join(text.split()) for name, text in entries}


def _strings_below(schema: type) -> dict[str, str]:
    """Strings that stand below a field, as in ``ClusterConfig``."""
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
    body = found.body if isinstance(found, ast.ClassDef) else []
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def _first_sentence(schema: type) -> str:
    first = " ".join((inspect.getdoc(schema) or "").split("\n\n")[0].split())
    return _markdown(first.split("; see :class:")[0].rstrip(".") + ".")


def _markdown(text: str) -> str:
    """Roles and double backticks of docstrings as Markdown spells them."""
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def _spell_type(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return text.replace("typing.", "").replace("None", "null").replace(" | ", " or ")


def _default(entry: Field[Any]) -> str:
    value = entry.default if entry.default_factory is MISSING else entry.default_factory()
    if is_dataclass(value):
        return ""
    if isinstance(value, list) and value and is_dataclass(value[0]):
        return f"{len(value)} of them"
    if value == "???":
        return "to be given"
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower().replace('none', 'null')}`"
    return f"`{value!r}`" if value != "" else "empty"


if __name__ == "__main__":
    print(render_keys())
