"""Workers of a training meet where nobody else can reach them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TRAIN = """
import json
import sys
from ipaddress import ip_address

from upath import UPath

from raydd.cluster.connect import connect
from raydd.cluster.config import ClusterConfig
from raydd.cluster.fit import fit, rank_and_world


def loop(arguments):
    import os

    import psutil  # Ray's own copy
    import torch

    total = torch.ones(1)
    torch.distributed.all_reduce(total)
    hosts = [s.laddr.ip for s in psutil.Process().net_connections("inet") if s.status == "LISTEN"]
    everyone = [None, None]
    torch.distributed.all_gather_object(everyone, hosts)
    return {"sum": float(total), "world": rank_and_world()[1], "hosts": sum(everyone, [])}


resources = connect(ClusterConfig(num_workers=2, object_store_mb=100))
found = fit(loop, {}, resources, UPath(sys.argv[1]))
outer = [h for h in found["hosts"] if not ip_address(h.removeprefix("::ffff:")).is_loopback]
print(json.dumps({**found, "outer": outer}))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(tmp_path_factory.mktemp("stage"))],
        capture_output=True, text=True, timeout=200, env=dict(os.environ),
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_two_workers_of_a_private_cluster_add_up(trained):
    assert (trained["sum"], trained["world"]) == (2.0, 2)


def test_nobody_outside_can_reach_them(trained):
    assert len(trained["hosts"]) >= 4  # each worker's Ray and its Gloo
    assert trained["outer"] == []
