"""The Ray that a door starts by itself: nobody else can reach it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

START = """
import json
from ipaddress import ip_address

import ray
from raydd.cluster.connect import connect, connect_when_needed
from raydd.cluster.config import ClusterConfig

config = ClusterConfig(object_store_mb=100)
expected, begin = connect_when_needed(config)
was_started = ray.is_initialized()
begin()
resources = connect(config)
import psutil  # Ray's own copy
from ray._raylet import AuthenticationMode, get_authentication_mode

ray.get(ray.remote(lambda: 1).remote())  # a worker listens, too
family = [psutil.Process(), *psutil.Process().children(recursive=True)]
sockets = [s for one in family for s in one.net_connections("inet") if s.status == "LISTEN"]
hosts = {ip_address(s.laddr.ip.removeprefix("::ffff:")) for s in sockets}
print(json.dumps({
    "was_started": was_started,
    "as_expected": resources == expected,
    "sockets": len(sockets),
    "outer": [str(host) for host in hosts if not host.is_loopback],
    "token": get_authentication_mode() == AuthenticationMode.TOKEN,
    "commands": [" ".join(one.cmdline()) for one in family],
}))
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, timeout=200,
        env={**kept, "HOME": str(home)}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), home, done.stdout + done.stderr


def test_nothing_listens_beyond_this_machine(started):
    found, _, _ = started
    assert found["sockets"] >= 5  # driver, GCS, raylet, agent, worker
    assert found["outer"] == []


def test_it_starts_with_the_first_work_and_is_as_expected(started):
    found, _, _ = started
    assert not found["was_started"]
    assert found["as_expected"]


def test_the_token_is_asked_for_and_never_said(started):
    found, home, text = started
    assert found["token"]
    token = (home / ".ray" / "auth_token").read_text()
    assert len(token) >= 32
    assert token not in text


def test_nobody_shows_or_grows_a_cluster_of_one_machine(started):
    """A dashboard, an autoscaler and a collector of logs are three more processes of Python."""
    commands = "\n".join(started[0]["commands"])
    assert "gcs_server" in commands
    assert not any(name in commands for name in ("dashboard.py", "monitor.py", "log_monitor.py"))
