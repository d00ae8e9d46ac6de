"""Soft labels that are made ahead."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Products of earlier versions print ``from raydd.engine.labels import open_labels``."""
    if name == "open_labels":
        from raydd.engine.labels.data import open_labels

        return open_labels
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
