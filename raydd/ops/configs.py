"""What configurations share: checks, and fields that are younger than the stages of users.

A stage's key is a hash of its configuration. A field that is added later, and at its default is
what was done before, is left out of the key where it has that default: finished stages stay found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any

LATER = {"later": True}  # metadata of a field with a default_factory


def later(default: Any) -> Any:
    """A field of a configuration that was added later; ``default`` is what was done before."""
    return field(default=default, metadata=LATER)


def settled(value: Any) -> Any:
    """A configuration as json values, without :func:`later` fields that have their default."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = [f for f in fields(value) if not (f.metadata.get("later") and _is_default(value, f))]
        return {f.name: settled(getattr(value, f.name)) for f in kept}
    if isinstance(value, Mapping):
        return {key: settled(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [settled(item) for item in value]
    return value


def _is_default(value: Any, entry: Any) -> bool:
    default = entry.default if entry.default is not MISSING else entry.default_factory()
    return settled(getattr(value, entry.name)) == settled(default)


def check_choices(config: object, choices: Mapping[str, Sequence[str]]) -> None:
    """Refuse a configuration with a field that holds none of its allowed values.

    Args:
        config: with an attribute for each of the choices.
        choices: allowed values by name of the field.

    Raises:
        ValueError: names the field, what is allowed and what was found.
    """
    for name, allowed in choices.items():
        if (value := getattr(config, name)) not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_at_least_one(config: object, *names: str) -> None:
    """Refuse a configuration whose counts are below 1; errors as in :func:`check_choices`."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")
