"""What leaves this machine names no place on it: local paths in what a product tells of its run."""

import re
from collections.abc import Mapping
from os import PathLike
from typing import Any

LOCAL = "(local)"
# Absolute on any system, a home folder, or a local path behind a URI's scheme.
_ABSOLUTE = re.compile(r"(?:(?:file|local):/*|~|/|[A-Za-z]:[\\/]|\\\\)")


def without_local_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration in which absolute local paths are cut to their last part.

    Args:
        config: nested as json is; it may hold path objects.
    Returns:
        The same keys. ``/data/me/cifar10`` is ``cifar10``; a path without a last part (``/``,
        ``~``) is ``(local)``. URIs and relative paths stay as they are; of a chained URI
        (``zip://x::/data/a.zip``) each link is looked at.
    """
    return {key: _cut(value) for key, value in config.items()}


def _cut(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_local_paths(value)
    if isinstance(value, list | tuple):
        return [_cut(item) for item in value]
    if isinstance(value, PathLike):
        value = str(value)
    if isinstance(value, str):
        return "::".join(_cut_link(link) for link in value.split("::"))
    return value


def _cut_link(text: str) -> str:
    if not _ABSOLUTE.match(text):
        return text
    parts = [part for part in re.split(r"[\\/]+", text) if part and not part.endswith(":")]
    if text.startswith("~"):
        parts = parts[1:]  # the home folder, maybe with a name in it
    return parts[-1] if parts else LOCAL
