"""Every cluster file says what it costs and how to go up, submit and go down."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "clusters").glob("*.yaml")), ROOT / "clusters" / "slurm.sh"]


def header(path: Path) -> str:
    """The comment at the top of a file."""
    lines = path.read_text().splitlines()
    return "\n".join(line for line in lines[: next(
        number for number, line in enumerate(lines) if not line.startswith("#")
    )])  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_header_says_cost_up_submit_and_down(path: Path) -> None:
    text = header(path)
    for word in ("up", "submit", "down"):
        assert re.search(rf"^#   {word}\s+\S", text, re.M), word
    assert f"clusters/{path.name}" in text
    assert "python -m raydd.run" in text
    assert re.search(r"^# Cost.*approximate", text, re.M)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_run_in_a_header_composes_and_keeps_its_results(path: Path) -> None:
    from raydd.run import main

    runs = re.findall(r"python -m raydd\.run ([^\n.]+=\S.*)", header(path))
    assert runs
    for words in runs:
        assert re.search(r"storage=(/|\w+://)", words), "a job's own folder is temporary"
        assert main(["--cfg", "job", *words.split()]) == 0


def test_one_ray_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pin = next(re.search(r"==(\d+\.\d+)\.", one) for one in project["dependencies"]
               if one.startswith("ray["))  # fmt: skip
    assert pin
    texts = {path.name: path.read_text() for path in (ROOT / "clusters").iterdir()}
    said = {name: set(re.findall(r"ray\[default\]==([\d.]+)\.\*", text)) | set(
            re.findall(r"(?:rayproject/ray:|rayVersion: \")(\d+\.\d+)", text))
            for name, text in texts.items()}  # fmt: skip
    assert {name: versions for name, versions in said.items() if versions - {pin[1]}} == {}
    assert all(said[name] for name in ("aws.yaml", "gcp.yaml", "local.yaml", "kuberay.yaml"))


def test_every_command_of_the_guide_is_one_that_exists() -> None:
    from ray.dashboard.modules.job.cli import job_cli_group
    from ray.scripts.scripts import cli

    text = (ROOT / "clusters" / "README.md").read_text()
    for group, word in re.findall(r"(?:^|`|\(|; )ray (job )?([a-z-]+)", text, re.M):
        assert word in (job_cli_group if group else cli).commands, word
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert (ROOT / "clusters" / link).exists(), link
