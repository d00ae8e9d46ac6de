"""The cluster files pass Ray's own schema, and the rules of ours that it cannot know."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "clusters").glob("*.yaml"))
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
    from raydd.engine.evaluate import ProtocolConfig
    from raydd.engine.recover_config import SynthesisConfig
    from raydd.methods.curricular import CurricularConfig
    from raydd.ops.recipe import Recipe

    knobs = {
        field.name
        for kind in (ProtocolConfig, SynthesisConfig, CurricularConfig, Recipe)
        for field in dataclasses.fields(kind)
    } - {"name"}
    assert not knobs & set(all_keys(read(path)))


def test_header_says_up_submit_down_and_cost(path: Path) -> None:
    header = path.read_text().partition("cluster_name:")[0]
    for words in (
        "ray up -y clusters/",
        "ray job submit",
        "python -m raydd.run",
        "ray down -y clusters/",
        "Cost:",
    ):
        assert words in header, words
    assert f"clusters/{path.name}" in header


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


def test_aws_machines_use_roles_and_a_named_group(path: Path) -> None:
    config = read(path)
    if config["provider"]["type"] != "aws":
        pytest.skip("not on AWS")
    for node in config["available_node_types"].values():
        # without SecurityGroupIds Ray makes a group that opens port 22 to the world
        assert node["node_config"]["SecurityGroupIds"]
        assert node["node_config"]["IamInstanceProfile"]["Name"].startswith("raydd-")
    assert (
        config["available_node_types"]["gpu_worker"]["node_config"]["InstanceMarketOptions"][
            "MarketType"
        ]
        == "spot"
    )


def test_aws_machine_descriptions_are_known_to_ec2(path: Path) -> None:
    loaders = pytest.importorskip("botocore.loaders", reason="needs botocore (boto3)")
    config = read(path)
    if config["provider"]["type"] != "aws":
        pytest.skip("not on AWS")
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    model = ServiceModel(loaders.Loader().load_service_model("ec2", "service-2"))
    shape = model.operation_model("RunInstances").input_shape
    types = set(model.shape_for("InstanceType").enum)
    for node in config["available_node_types"].values():
        request = node["node_config"] | {"MinCount": 1, "MaxCount": 1}
        report = ParamValidator().validate(request, shape)
        assert not report.has_errors(), report.generate_report()
        assert set(node["node_config"]) <= set(shape.members)
        assert node["node_config"]["InstanceType"] in types


def all_keys(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        return [name for key, value in tree.items() for name in (str(key), *all_keys(value))]
    if isinstance(tree, list):
        return [name for item in tree for name in all_keys(item)]
    return []
