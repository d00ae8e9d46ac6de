"""raydd: dataset distillation on Ray.

Importing the package is cheap: torch and ray are imported by the parts that use them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raydd.engine.labels.data import open_labels
    from raydd.store.dataset import load

__version__ = "0.1.0"
__all__ = ["__version__", "load", "open_labels"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from raydd.store.dataset import load

        return load
    if name == "open_labels":
        from raydd.engine.labels.data import open_labels

        return open_labels
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
