"""Keys whose values are paths: taken literally, whatever Hydra would make of their characters."""

import os
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

PATHS = (
    "storage",
    "dataset.root",
    "dataset.classes_file",
    "dataset.classes",
    "teacher.checkpoint",
    "method.core",
    "method.difficulty.table",
    "method.generator.path",
    "method.generator.vae",
)
_STAND_IN = "path"


def split_paths(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Take the paths out of a command line.

    Returns:
        The words, with a plain one in the place of each path, so that Hydra still sees the key; and
        the path of each key. A ``~`` is the home; quotes around the whole value are taken off;
        null, and a list where a list may stand, are Hydra's.
    """
    kept, paths = [], {}
    for word in words:
        key, equals, value = word.partition("=")
        name = key.lstrip("+")
        if name in PATHS and equals and value not in ("", "null") and not value.startswith("["):
            paths[name] = literal(value)
            word = f"{key}={_STAND_IN}"
        kept.append(word)
    return kept, paths


def literal(value: str) -> str:
    """A path as it is meant: without quotes around it, and with the home for ``~``."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return os.path.expanduser(value)


def put_paths(tree: DictConfig, paths: dict[str, str]) -> None:
    """Put the paths of :func:`split_paths` into the composed tree."""
    for key, path in paths.items():
        OmegaConf.update(tree, key, path.replace("${", r"\${"))
