"""The command ``raydd``, also as ``python -m raydd``: its first word names what is done.

raydd run method=ccfs dataset=cifar10 dataset.root=/data/cifar10
raydd evaluate runs/mine/distilled
raydd browse runs
"""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

import raydd
from raydd.errors import exit_code

DOORS = {
    "run": "distil a data set, judge the product and write a report; without words the digits",
    "evaluate": "judge any distilled set beside real images of the same size",
    "browse": "one HTML page of runs and sweeps, finished or not",
}
USAGE = "\n".join(
    [
        "usage: raydd COMMAND [words ...]",
        "",
        *(f"  {name:<10} {what}" for name, what in DOORS.items()),
        "",
        "raydd COMMAND --help says more; raydd --version says which one this is.",
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand the words to a door; returns its exit code (2 for a command that is not there)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code(lambda: _carry_out(words))


def _carry_out(words: Sequence[str]) -> int:
    if words[:1] == ["--version"]:
        print(f"raydd {raydd.__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    if words[0] not in DOORS:
        print(f"raydd: {_meant(words)}", file=sys.stderr)
        return 2
    code: int = import_module(f"raydd.{words[0]}").main(words[1:])
    return code


def _meant(words: Sequence[str]) -> str:
    if "=" in words[0]:
        return f"name the command first: raydd run {' '.join(words)}"
    close = difflib.get_close_matches(words[0], DOORS, n=1)
    meant = f", did you mean {close[0]!r}?" if close else f"; choose one of {', '.join(DOORS)}."
    return f"there is no command {words[0]!r}{meant}"


if __name__ == "__main__":
    sys.exit(main())
