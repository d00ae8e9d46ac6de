"""Options anywhere in a command line, and help that names every choice."""

import pytest

from raydd.config.compose import ConfigError, config_dir
from raydd.config.options import describe_choices, split_options


@pytest.mark.parametrize(
    ("words", "kept", "option"),
    [
        (["dataset=digits", "--cfg", "job", "seed=1"], ["dataset=digits", "seed=1"], "cfg"),
        (["--cfg=job", "seed=1"], ["seed=1"], "cfg"),
        (["seed=1", "--help"], [], "help"),
        (["-h"], [], "help"),
        (["--version", "seed=1"], [], "version"),
        (["seed=-1"], ["seed=-1"], None),
    ],
)
def test_options_stand_anywhere(words, kept, option):
    assert split_options(words) == (kept, option)


@pytest.mark.parametrize("words", [["--plan"], ["--cfg"], ["--cfg", "hydra"]])
def test_an_option_that_is_not_there_is_refused(words):
    with pytest.raises(ConfigError, match=r"there is no option|takes the word job"):
        split_options(words)


def test_every_choice_has_half_a_line():
    groups = ("method", "dataset", "teacher", "protocol", "sweep", "judge", "+experiment")
    lines = describe_choices(groups).splitlines()
    for group in groups:
        folder = config_dir() / group.lstrip("+")
        found = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml")]
        names = {str(path) for path in found if not path.parts[0].endswith("_base")}
        at = lines.index(f"{group}=")
        told = [line.split() for line in lines[at + 1 : at + 1 + len(names)]]
        assert {words[0] for words in told} == names
        assert all(len(words) > 3 for words in told)
    assert max(map(len, lines)) <= 110
