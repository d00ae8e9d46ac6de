"""Checks that configurations share."""

from collections.abc import Mapping, Sequence


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
