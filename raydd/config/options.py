"""Options of a command line, wherever they stand in it, and the help that names every choice."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import raydd
from raydd.config.compose import ConfigError, config_dir

_HELP = ("-h", "--help")
_WIDTH = 100
_BASE = "_base"  # end of a folder of what choices have in common
_INDENT = 38  # columns of a choice's name


def split_options(words: Sequence[str]) -> tuple[list[str], str | None]:
    """Take the options out of a command line.

    Returns:
        The other words, and ``help``, ``version`` or ``cfg`` where one of them is asked for.
    Raises:
        ConfigError: there is no such option.
    """
    kept, found = [], None
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word in _HELP:
            return [], "help"
        if word == "--version":
            return [], "version"
        name, equals, value = word.partition("=")
        if name == "--cfg":
            if not equals and waiting[:1] == ["job"]:
                value = waiting.pop(0)
            if value != "job":
                raise ConfigError("--cfg takes the word job: --cfg job prints every key.")
            found = "cfg"
        elif word.startswith("-"):
            raise ConfigError(f"there is no option {word!r} (--help says what there is).")
        else:
            kept.append(word)
    return kept, found


def describe_option(option: str | None, usage: str, groups: Sequence[str]) -> str | None:
    """What a door prints for ``help`` and ``version``; None for anything else."""
    if option == "help":
        return f"{usage}\n{describe_choices(groups)}"
    return f"raydd {raydd.__version__}" if option == "version" else None


def describe_choices(groups: Sequence[str]) -> str:
    """Every choice of some groups, half a line each.

    Args:
        groups: folders of ``configs/``; one that starts with "+" is added to a run, not chosen.
    """
    return "\n\n".join(_describe_group(group) for group in groups)


def _describe_group(group: str) -> str:
    folder = config_dir() / group.lstrip("+")
    paths = sorted(path for path in folder.rglob("*.yaml") if not path.parent.name.endswith(_BASE))
    names = {path: path.relative_to(folder).with_suffix("").as_posix() for path in paths}
    lines = [f"  {names[path]:<{_INDENT - 2}}{_half_line(path)}".rstrip() for path in paths]
    return "\n".join([f"{group}=", *lines])


def _half_line(path: Path) -> str:
    """The beginning of the comment at a file's top."""
    lines = path.read_text().splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        if "@package" not in line:
            comment.append(line.lstrip("# ").strip())
    sentence = re.split(r"(?<=[^.]{3})\.\s|: (?=[a-z]\w*=)", " ".join(comment))[0].rstrip(".:")
    return textwrap.shorten(sentence, _WIDTH - _INDENT, placeholder=" ...")
