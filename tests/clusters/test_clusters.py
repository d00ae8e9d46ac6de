"""The files for `ray up` pass Ray's own schema, and the rules of ours that it cannot know."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "clusters" / f"{name}.yaml" for name in ("aws", "gcp", "local")]
pytestmark = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def test_ray_accepts_the_file(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read(path))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


def test_ray_refuses_a_misspelt_key(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(Exception, match="max_wrkers"):
        validate_config(prepare_config(read(path) | {"max_wrkers": 3}))


def test_no_hyper_parameters(path: Path) -> None:
    from raydd.engine.synthesis.teacher import SynthesisConfig
    from raydd.judge.protocol import ProtocolConfig
    from raydd.methods.curricular import CurricularConfig
    from raydd.ops.recipe import Recipe

    knobs = {
        field.name
        for kind in (ProtocolConfig, SynthesisConfig, CurricularConfig, Recipe)
        for field in dataclasses.fields(kind)
    } - {"name"}
    assert not knobs & set(all_keys(read(path)))


def test_mounted_files_exist(path: Path) -> None:
    local = [
        Path(source) for source in read(path)["file_mounts"].values() if not source.startswith("~")
    ]
    assert {Path("raydd"), Path("configs"), Path("pyproject.toml")} <= set(local)
    missing = [source for source in local if not (ROOT / source).exists()]
    assert not missing, missing


def test_jobs_interface_is_private(path: Path) -> None:
    config = read(path)
    start = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])
    assert "0.0.0.0" not in path.read_text()


def test_the_token_is_made_for_its_owner_only_and_never_written_out(path: Path) -> None:
    text = path.read_text()
    assert "(umask 077; ray get-auth-token --generate > /dev/null)" in text
    assert read(path)["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "RAY_AUTH_TOKEN" not in text


def test_installs_this_project_alone(path: Path) -> None:
    (install,) = [line for line in read(path)["setup_commands"] if "pip install" in line]
    assert '-e "$HOME/raydd[' in install
    assert "ray[" not in install  # which Ray is said in pyproject.toml


def all_keys(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        return [name for key, value in tree.items() for name in (str(key), *all_keys(value))]
    if isinstance(tree, list):
        return [name for item in tree for name in all_keys(item)]
    return []
