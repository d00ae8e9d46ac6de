"""What every command's tests ask of a refusal."""

from collections.abc import Callable, Sequence

import pytest


def refuse_by(
    main: Callable[[Sequence[str]], int], capsys: pytest.CaptureFixture[str], *words: str
) -> str:
    """The one sentence with which a command's ``main`` refuses ``words``."""
    capsys.readouterr()
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("raydd: ")
    assert error.count("\n") == 1
    return error
