"""Spaces of a sweep as a command line spells them, and trials as overrides.

The notation is Hydra's for sweeps: ``sweep.space.method.alpha=[0.1,0.2]``, ``interval(0.1,0.4)``,
``tag(log,interval(1e-3,1))``, ``int(interval(1,10))``, ``range(1,10,2)``, ``choice(a,b)``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
from hydra.errors import HydraException

from raydd.engine.sweep_config import Choice, Domain, Interval

PREFIX = "sweep.space."


def split_space(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Take the words ``sweep.space.KEY=DOMAIN`` out of a command line.

    Returns:
        The other words, and the text of each key's domain.
    """
    space = {}
    for word in words:
        if word.startswith(PREFIX):
            key, _, text = word.removeprefix(PREFIX).partition("=")
            space[key] = text
    return [word for word in words if not word.startswith(PREFIX)], space


def parse_space(space: Mapping[str, Any]) -> dict[str, Domain]:
    """Domains of a space.

    Args:
        space: lists, or text in Hydra's notation, by key.
    Raises:
        ValueError: one sentence that names the key.
    """
    return {key: _parse(key, value) for key, value in space.items()}


def spell(key: str, value: Any) -> str:
    """The override that sets a key to a value."""
    return f"{key}={_spell(value)}"


def _parse(key: str, value: Any) -> Domain:
    if isinstance(value, str):
        try:
            value = OverridesParser.create().parse_override(f"x={value}").value()
        except HydraException as error:
            raise ValueError(
                f"{PREFIX}{key} takes a list or interval(low,high), got {value!r}."
            ) from error
    if isinstance(value, IntervalSweep):
        return _interval(key, value)
    if isinstance(value, RangeSweep):
        value = list(value.range())
    if isinstance(value, ChoiceSweep):
        value = [_plain(item) for item in value.list]
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError(f"{PREFIX}{key} has no values.")
    return Choice(tuple(_plain(item) for item in values))


def _interval(key: str, found: IntervalSweep) -> Interval:
    low, high = found.start, found.end
    if low is None or high is None or not low < high:
        raise ValueError(f"{PREFIX}{key}: an interval must rise, got {low} to {high}.")
    if "log" in found.tags and low <= 0:
        raise ValueError(f"{PREFIX}{key}: a logarithmic interval starts above 0, got {low}.")
    return Interval(low, high, "log" in found.tags, isinstance(low, int) and isinstance(high, int))


def _plain(value: Any) -> Any:
    """Quoted strings of Hydra's grammar as strings."""
    return getattr(value, "text", value)


def _spell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_spell(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_spell, value))}]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)
