"""clusters/gcp.yaml: names that Compute Engine knows, one account per role, nothing open."""

from pathlib import Path
from typing import Any

import pytest
import yaml

PATH = Path(__file__).resolve().parents[2] / "clusters" / "gcp.yaml"
TYPES = yaml.safe_load(PATH.read_text())["available_node_types"]

# Of Compute Engine's instances.insert, v1: the fields used here and the types of their values.
DISK = {"boot": bool, "autoDelete": bool, "type": str, "initializeParams": {
    "diskSizeGb": int, "sourceImage": str}}  # fmt: skip
FIELDS = {
    "machineType": str,
    "disks": [DISK],
    "networkInterfaces": [{"subnetwork": str, "accessConfigs": [{"name": str, "type": str}]}],
    "serviceAccounts": [{"email": str, "scopes": [str]}],
    "scheduling": {"provisioningModel": str, "instanceTerminationAction": str,
                   "onHostMaintenance": str, "automaticRestart": bool},
}  # fmt: skip


def misfits(value: Any, kind: Any, where: str = "") -> list[str]:
    """Dotted names of what is unknown to a table of fields, or of another type."""
    if isinstance(kind, dict) and isinstance(value, dict):
        unknown = [f"{where}.{key}" for key in value.keys() - kind.keys()]
        return unknown + [bad for key in value.keys() & kind.keys()
                          for bad in misfits(value[key], kind[key], f"{where}.{key}")]  # fmt: skip
    if isinstance(kind, list) and isinstance(value, list):
        return [bad for item in value for bad in misfits(item, kind[0], where)]
    return [] if isinstance(kind, type) and type(value) is kind else [where]


@pytest.mark.parametrize("name", TYPES)
def test_machine_descriptions_are_known_to_compute_engine(name: str) -> None:
    config = TYPES[name]["node_config"]
    assert misfits(config, FIELDS) == []
    assert misfits({**config, "machineTyp": "x"}, FIELDS) == [".machineTyp"]
    disks = [{**config["disks"][0], "autoDelete": "yes"}]
    assert misfits({**config, "disks": disks}, FIELDS) == [".disks.autoDelete"]


def test_workers_are_spot_machines_that_leave_nothing_behind() -> None:
    scheduling = TYPES["gpu_worker"]["node_config"]["scheduling"]
    assert scheduling["provisioningModel"] == "SPOT"
    assert scheduling["instanceTerminationAction"] == "DELETE"
    assert "scheduling" not in TYPES["head"]["node_config"]
    disks = [disk for kind in TYPES.values() for disk in kind["node_config"]["disks"]]
    assert all(disk["autoDelete"] for disk in disks)
    assert 0 < TYPES["gpu_worker"]["min_workers"] < TYPES["gpu_worker"]["max_workers"]
    assert TYPES["head"]["resources"] == {"CPU": 0}


def test_workers_have_a_role_of_their_own_and_all_stand_in_a_closed_network() -> None:
    (account,) = TYPES["gpu_worker"]["node_config"]["serviceAccounts"]
    assert account["email"].startswith("raydd-worker@")
    for kind in TYPES.values():
        (interface,) = kind["node_config"]["networkInterfaces"]
        # without it Ray takes the first network of the project, `default`, open at port 22
        assert interface["subnetwork"].endswith("/subnetworks/raydd")
    rules = [line for line in PATH.read_text().splitlines() if "firewall-rules create" in line]
    assert len(rules) == 2
    assert all("--source-ranges=" in rule and "0.0.0.0" not in rule for rule in rules)
