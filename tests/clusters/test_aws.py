"""clusters/aws.yaml: known to EC2, and carried through `ray up` against a mock of it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_nodes import free_port

boto3 = pytest.importorskip("boto3", reason="needs boto3")
pytest.importorskip("moto.server", reason="needs moto[server]")

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "clusters" / "aws.yaml").read_text())
TYPES = CONFIG["available_node_types"]
REGION = CONFIG["provider"]["region"]
BIN = Path(sys.executable).parent

# As the head's monitor launches what the cluster needs: the same class of Ray's, the configuration
# that `ray up` completed.
LAUNCH_WORKER = """
import json, sys
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config
import yaml

config = _bootstrap_config(prepare_config(yaml.safe_load(open(sys.argv[1]))), no_config_cache=True)
provider = AWSNodeProvider(config["provider"], config["cluster_name"])
kind = config["available_node_types"]["gpu_worker"]["node_config"]
tags = {"ray-node-type": "worker", "ray-user-node-type": "gpu_worker"}
provider.create_node(kind, tags, 1)
"""


def test_machines_use_roles_and_a_named_group() -> None:
    for name, node in TYPES.items():
        # without SecurityGroupIds Ray makes a group that opens port 22 to the world
        assert node["node_config"]["SecurityGroupIds"]
        role = node["node_config"]["IamInstanceProfile"]["Name"]
        assert role == ("raydd-head" if name == "head" else "raydd-worker")
    assert TYPES["head"]["resources"] == {"CPU": 0}
    assert 0 < TYPES["gpu_worker"]["min_workers"] < TYPES["gpu_worker"]["max_workers"]


@pytest.mark.parametrize("name", TYPES)
def test_machine_descriptions_are_known_to_ec2(name: str) -> None:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    model = ServiceModel(Loader().load_service_model("ec2", "service-2"))
    shape = model.operation_model("RunInstances").input_shape
    node = TYPES[name]["node_config"]
    report = ParamValidator().validate(node | {"MinCount": 1, "MaxCount": 1}, shape)
    assert not report.has_errors(), report.generate_report()
    assert set(node) <= set(shape.members)
    assert node["InstanceType"] in model.shape_for("InstanceType").enum


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a laptop with a token, whose cloud is a server on this machine.

    `ssh` and `rsync` are stubs that log what they are called with: nothing answers at the
    addresses that the mock invents.
    """
    port = free_port()
    for name in ("ssh", "rsync"):
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/remote.log\n')
        stub.chmod(0o755)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a-token-that-nobody-shall-see")
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("AWS_", "RAY_A"))}  # fmt: skip
    environment = {
        **kept, "HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:{BIN}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-key-that-nobody-shall-see",
        "AWS_EC2_METADATA_DISABLED": "true", "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**kept, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield environment
    server.kill()
    server.wait()


def client(kind: str, environment: dict[str, str]) -> Any:
    return boto3.client(
        kind, region_name=REGION, endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="x", aws_secret_access_key="x",
    )  # fmt: skip


def prepare_account(environment: dict[str, str]) -> str:
    """What the header asks for once per account; returns the security group's id."""
    iam, ec2 = client("iam", environment), client("ec2", environment)
    trust = {"Version": "2012-10-17", "Statement": []}
    for name in ("raydd-head", "raydd-worker"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    group = ec2.create_security_group(
        GroupName="raydd", Description="raydd", VpcId=vpc["VpcId"]
    )["GroupId"]  # fmt: skip
    ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]},
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22,
             "IpRanges": [{"CidrIp": "192.0.2.1/32"}]},
        ],
    )  # fmt: skip
    return group


def write_config(folder: Path, group: str, environment: dict[str, str]) -> Path:
    """The file as a user edits it; the mock knows no images by their parameter's name."""
    image = client("ec2", environment).describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    text = (ROOT / "clusters" / "aws.yaml").read_text().replace("sg-REPLACE_ME", group)
    (line,) = {one for one in text.splitlines() if one.strip().startswith("ImageId:")}
    path = folder / "aws.yaml"
    path.write_text(text.replace(line, f"      ImageId: {image}"))
    return path


def call(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def machines(environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Running machines by node type."""
    found = client("ec2", environment).describe_instances(
        Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    )["Reservations"]
    tags = [({tag["Key"]: tag["Value"] for tag in one["Tags"]}, one)
            for reservation in found for one in reservation["Instances"]]  # fmt: skip
    return {names["ray-user-node-type"]: {**one, "tags": names} for names, one in tags}


@pytest.mark.slow
def test_ray_up_launches_what_the_file_says_and_ray_down_ends_it(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    group = prepare_account(surroundings)
    path = write_config(tmp_path, group, surroundings)
    said = call([str(BIN / "ray"), "up", "-y", "--no-config-cache", str(path)], surroundings)
    said += call([sys.executable, "-c", LAUNCH_WORKER, str(path)], surroundings)

    running = machines(surroundings)
    assert running.keys() == {"head", "gpu_worker"}
    for name, machine in running.items():
        asked = TYPES[name]["node_config"]
        assert machine["InstanceType"] == asked["InstanceType"]
        assert machine["tags"]["ray-cluster-name"] == CONFIG["cluster_name"]
        profile = asked["IamInstanceProfile"]["Name"]
        assert machine["IamInstanceProfile"]["Arn"].endswith(f"/{profile}")
        assert [one["GroupId"] for one in machine["SecurityGroups"]] == [group]
    assert running["head"]["tags"]["ray-node-status"] == "up-to-date"
    assert running["gpu_worker"].get("InstanceLifecycle") == "spot"
    assert "InstanceLifecycle" not in running["head"]
    assert_closed(surroundings)

    remote = (tmp_path / "remote.log").read_text()
    assert "ray start --head" in remote
    assert "--dashboard-host=127.0.0.1" in remote
    for secret in ("a-token-that-nobody-shall-see", "a-key-that-nobody-shall-see"):
        assert secret not in said + remote

    call([str(BIN / "ray"), "down", "-y", str(path)], surroundings)
    assert machines(surroundings) == {}


def assert_closed(environment: dict[str, str]) -> None:
    """No group of any machine lets the world in, and Ray has made none of its own."""
    groups = client("ec2", environment).describe_security_groups()["SecurityGroups"]
    assert not [one for one in groups if "ray-autoscaler" in one["GroupName"]]
    (ours,) = [one for one in groups if one["GroupName"] == "raydd"]
    sources = [source["CidrIp"] for rule in ours["IpPermissions"] for source in rule["IpRanges"]]
    assert sources == ["192.0.2.1/32"]
