"""The command ``raydd``: its doors, its help, and what it says to a mistyped word."""

import re
import subprocess
import sys

import pytest

import raydd
from raydd.__main__ import DOORS, main
from raydd.errors import exit_code
from raydd.run import main as run_main


@pytest.mark.parametrize("words", [["--version"], ["run", "--version"], ["evaluate", "--version"]])
def test_the_version(capsys, words):
    assert main(words) == 0
    assert capsys.readouterr().out == f"raydd {raydd.__version__}\n"


def test_without_a_command_all_are_named(capsys):
    assert main([]) == 2
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {door} +\w", text, re.MULTILINE) for door in DOORS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rum"], "did you mean 'run'?"),
        (["distil"], "choose one of run, evaluate, browse"),
        (["method=ccfs"], "raydd run method=ccfs"),
    ],
)
def test_a_word_that_is_no_command(capsys, words, said):
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_a_door_gets_the_rest_of_the_line(capsys):
    assert main(["run", "seed=7", "--cfg", "job"]) == 0
    assert "\nseed: 7\n" in capsys.readouterr().out


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "raydd", "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"raydd {raydd.__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["metod=ccfs"], "did you mean 'method'?"),
        (["protocoll=dc"], "did you mean 'protocol'?"),
        (["experiment=cudd_cifar10_cpu"], "write +experiment=NAME"),
        (["dataset=digits", "--plan"], "there is no option '--plan'"),
    ],
)
def test_a_mistyped_group_is_answered_like_a_mistyped_key(capsys, words, said):
    assert run_main(words) == 2
    assert said in capsys.readouterr().err


def unread(*words, lines=0):
    """Exit code and stderr of a command whose reader takes some lines and leaves."""
    with subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        taken = [process.stdout.readline() for _ in range(lines)]
        process.stdout.close()
        said = process.stderr.read()
    assert all(taken)
    return process.returncode, said


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--version"],
        ["run", "--help"],
        ["run", "--cfg", "job"],
        ["evaluate", "--help"],
        ["browse", "--help"],
    ],
)
def test_help_ends_quietly_when_its_reader_leaves(words):
    assert unread("-m", "raydd", *words) == (141, "")


def test_a_run_whose_reader_leaves_says_how_to_go_on():
    work = (
        "from raydd.errors import exit_code; from raydd.store.progress import Progress\n"
        "def act():\n"
        "    progress = Progress(verbose=True)\n"
        "    while True:\n"
        "        with progress.stage('squeeze', 1): pass\n"
        "raise SystemExit(exit_code(act))"
    )
    code, said = unread("-c", work, lines=2)
    assert code == 141
    assert said == (
        "raydd: nobody reads the output any more. What is finished is kept; run the same command "
        "to continue.\n"
    )


def test_another_pipe_that_breaks_keeps_its_traceback():
    def act():
        raise BrokenPipeError("of a store")

    with pytest.raises(BrokenPipeError, match="of a store"):
        exit_code(act)
