"""How a command line becomes a typed configuration tree: Hydra composes, a dataclass checks.

What is wrong with the words is said in one sentence.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from raydd.config.paths import put_paths, split_paths
from raydd.config.sweep import split_space
from raydd.errors import Refused

Schema = TypeVar("Schema")

# scheme://name:password@..., where digits and a slash after the colon are a port
_PASSWORD = re.compile(r"\w://[^/\s@]*:(?!\d+/)[^@\s]+@")


_ADDED = ("experiment",)  # groups that no run has by itself


class ConfigError(Refused):
    """The command line does not describe a run; the text is one sentence."""


def config_dir() -> Path:
    """Folder of the YAML files: inside an installed package, else at the top of the checkout."""
    package = Path(__file__).parent.parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def compose_tree(overrides: Sequence[str], primary: str = "config") -> DictConfig:
    """Compose the tree that ``--cfg job`` prints.

    Args:
        overrides: of the command line.
        primary: YAML file that lists the groups; its schema must be registered.
    Raises:
        ConfigError: unknown key or group, or a value of a wrong type.
    """
    words, space = split_space(overrides)
    words, paths = split_paths(words)
    if space and not any(word.startswith("sweep=") for word in words):
        words = [*words, "sweep=grid"]
    try:
        with initialize_config_dir(str(config_dir().resolve()), version_base=None):
            tree = compose(primary, overrides=words)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_sentence(error, primary)) from error
    except AttributeError as error:  # OmegaConf's own, of keys below one that is null
        null = re.search(r"full_key: (\S+)", str(error))
        if null is None:
            raise
        raise ConfigError(
            f"{null[1]} is null here and takes no keys: choose a preset or experiment that has it."
        ) from error
    put_paths(tree, paths)
    with open_dict(tree):
        for key, text in space.items():  # in a notation that only a sweep may use
            tree.sweep.space[key] = text
    return tree


def to_typed(tree: DictConfig, schema: type[Schema]) -> Schema:
    """Check a composed tree.

    Args:
        tree: of :func:`compose_tree`.
        schema: dataclass at its top.
    Raises:
        ConfigError: a key without a value, a value that cannot run, or a URI with a password.
    """
    refuse_passwords(OmegaConf.to_container(tree))
    try:
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        raise ConfigError(_sentence(error)) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(_located(tree, str(error))) from error
    assert isinstance(config, schema)
    return config


def _located(node: DictConfig, text: str, key: str = "") -> str:
    """The error of a node with its key, of which the dataclass that raised it knows the end."""
    for name in map(str, node):
        child = None if OmegaConf.is_missing(node, name) else node._get_node(name)
        if isinstance(child, DictConfig) and child._metadata.object_type is not dict:
            try:
                OmegaConf.to_object(child)
            except OmegaConfBaseException:
                continue
            except (ValueError, TypeError) as error:
                return _located(child, str(error), f"{key}{name}.")
    if not key or key in text:
        return text
    return f"{key}{text}" if re.split(r"\W", text)[0] in node else f"{key[:-1]}: {text}"


def refuse_passwords(node: Any, key: str = "") -> None:
    """Refuse URIs with a password: what is configured is kept in folders, reports and logs."""
    if isinstance(node, str) and _PASSWORD.search(node):
        raise ConfigError(
            f"{key} holds a password before the '@'; leave it out and give credentials as the "
            "store's client finds them by itself (for S3: AWS_PROFILE, or the machine's role)."
        )
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node if isinstance(node, list) else ())
    )
    for name, value in items:
        refuse_passwords(value, f"{key}.{name}" if key else str(name))


def _sentence(error: Exception, primary: str = "config") -> str:
    """Say in one sentence what Hydra or OmegaConf found wrong, and what would be right."""
    text = f"{error}\n{error.__cause__ or ''}"
    if found := re.search(r"Could not override '([^']+)'", text):
        if found[1] in _ADDED:
            return f"{found[1]} is added to what a run has: write +{found[1]}=NAME."
        close = _close(found[1], primary)
        return (
            f"there is no key {found[1]!r}{close} (--cfg job prints all keys, --help all choices)."
        )
    if found := re.search(r"Could not find '(\w+)/([^']+)'", text):
        choices = sorted(path.stem for path in (config_dir() / found[1]).glob("*.yaml"))
        return f"there is no {found[1]} {found[2]!r}; choose one of {', '.join(choices)}."
    key = re.search(r"full_key: (\S+)", text)
    if found := re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", text):
        return f"{key[1] if key else 'a key'} takes {found[2].lower()} values, got {found[1]!r}."
    if found := re.search(r"Error parsing override '([^']*)'", text):
        return f"{found[1]!r} is not of the form key=value."
    if "LexerNoViableAlt" in text or "no viable alternative" in text or "mismatched input" in text:
        return f"a value does not end: {str(error).splitlines()[0]}; quote it, and close brackets."
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _close(key: str, primary: str) -> str:
    def flatten(node: Any, prefix: str = "") -> list[str]:
        if not isinstance(node, DictConfig):
            return [prefix[:-1]]
        return [
            name for k in map(str, node) for name in flatten(node._get_node(k), f"{prefix}{k}.")
        ]

    groups = [path.name for path in config_dir().iterdir() if path.is_dir()]
    known = groups + flatten(compose_tree([], primary))
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    return f", did you mean {close[0]!r}?" if close else ""
