"""Runs on several nodes that are lost, join late, or are all gone: ten minutes.

Two workers train, so the product is that of an undisturbed run with two workers anywhere.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from upath import UPath

from ray_nodes import Hosts, Nodes, started_nodes
from raydd.store.journal import read_events

pytestmark = pytest.mark.slow

SMALL = [
    "teacher.model.width=8",
    "teacher.recipe.epochs=20",
    "teacher.recipe.batch_size=128",  # fewer for each of two workers would be one's
    "protocol.recipe.epochs=60",
    "protocol.seeds=2",
    "cluster.num_workers=2",
    "name=run",
]
METHODS = {
    "curricular": [
        "method.ipc=6", "method.boundaries=[3]", "method.synthesis.steps=120",
        "method.synthesis.batch_size=10", "method.student.model.width=8",
        "method.student.recipe.epochs=10",
    ],
    "ccfs": [
        "method=ccfs", "method.ipc=10", "method.synthesis.steps=2000",
        "method.synthesis.batch_size=10", "method.curricula=2",
        "method.filter_model.model.width=8", "method.filter_model.recipe.epochs=10",
    ],
}  # fmt: skip
STAGES = {  # a word in the title of the processes that do it
    "train": "RayTrainWorker",
    "score": "MapWorker",
    "synthesize": "ray::_Worker.do",
    "evaluate": "ray::_task",
}
TIMEOUT = 400  # seconds


def start(storage: Path, method: str, nodes: Nodes | None = None, *more: str) -> subprocess.Popen:
    words = [*SMALL, *METHODS[method], f"storage={storage}", *more]
    command = [sys.executable, "-m", "raydd.run", *words]
    return subprocess.Popen(
        nodes.command(*command) if nodes else command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=nodes.variables if nodes else None,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    return output


def wait_for(nodes: Nodes, title: str, process: subprocess.Popen) -> subprocess.Popen:
    """A node, not the head, where a process of this title runs."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        for node in nodes.working(title).values():
            if node is not nodes.processes[0]:
                return node
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no {title} was seen"
        time.sleep(0.05)


def wait_until_begun(storage: Path, stage: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not list(storage.glob(f"stages/{stage}-*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no {stage} has begun"
        time.sleep(0.05)


def product(storage: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(storage.glob("run/distilled/data/*.parquet"))}  # fmt: skip


def units(storage: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns
            for path in storage.glob("stages/synthesize-*/parts/*.parquet")}  # fmt: skip


def epoch(storage: Path) -> int:
    """The newest epoch of the teacher's training."""
    return max((event.get("epoch", 0) for event in read_events(UPath(storage / "run"))), default=0)


def wait_for_epoch(storage: Path, number: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + TIMEOUT
    while epoch(storage) < number:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the training does not go on"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """Products of undisturbed runs on this machine alone."""
    products = {}
    for method in METHODS:
        storage = tmp_path_factory.mktemp(method)
        finish(start(storage, method, None, "evaluate=false"))
        products[method] = product(storage)
        assert products[method]
    return products


@pytest.mark.parametrize("method", METHODS)
def test_a_node_is_lost_in_every_stage_and_the_bytes_stay(calm, method, tmp_path):
    with started_nodes(tmp_path, 1, 2, 2) as nodes:
        process = start(tmp_path, method, nodes)
        for stage, title in STAGES.items():
            if stage == "evaluate":  # images are fetched by tasks, too
                wait_until_begun(tmp_path, stage, process)
            nodes.kill(wait_for(nodes, title, process))
            nodes.add(2, wait=False)
        finish(process)
    assert product(tmp_path) == calm[method]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make networks")
def test_hosts_with_addresses_of_their_own_give_the_same_bytes(calm, tmp_path):
    """One CPU each, so that the two workers of a training meet across the network."""
    with started_nodes(tmp_path, 1, 1, 1, kind=Hosts) as hosts:
        process = start(tmp_path, "curricular", hosts, "cluster.unit_workers=2")
        for stage in ("train", "synthesize"):
            hosts.kill(wait_for(hosts, STAGES[stage], process))
            hosts.add(1, wait=False)
        finish(process)
    assert product(tmp_path) == calm["curricular"]


def test_a_node_that_joins_late_gets_units(tmp_path):
    with started_nodes(tmp_path, 2) as nodes:
        more = ["cluster.num_workers=0", "cluster.unit_workers=4", "evaluate=false"]
        process = start(tmp_path, "curricular", nodes, *more, "method.synthesis.steps=600")
        while not units(tmp_path):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        nodes.add(2)
        wait_for(nodes, STAGES["synthesize"], process)
        finish(process)


def test_a_training_goes_on_with_fewer_workers_and_takes_those_that_join(tmp_path):
    with started_nodes(tmp_path, 1, 1) as nodes:
        more = ["cluster.min_workers=1", "cluster.unit_workers=0", "evaluate=false"]
        process = start(tmp_path, "curricular", nodes, *more, "teacher.recipe.epochs=500")
        wait_for_epoch(tmp_path, 5, process)
        nodes.kill(wait_for(nodes, STAGES["train"], process))
        wait_for_epoch(tmp_path, epoch(tmp_path) + 5, process)  # on the head alone
        nodes.add(1)
        wait_for(nodes, STAGES["train"], process)
        finish(process)
    (manifest,) = tmp_path.glob("stages/squeeze-*/manifest.json")
    assert json.loads(manifest.read_text())["summary"]["workers"] == [2, 1, 2]


def test_everything_is_lost_and_the_same_command_continues(calm, tmp_path):
    with started_nodes(tmp_path, 1, 2) as nodes:
        process = start(tmp_path, "curricular", nodes)
        while not units(tmp_path):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        for node in nodes.processes.copy():
            nodes.kill(node)
        output, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode != 0, output
        before = units(tmp_path)
        nodes.start_head(1)
        nodes.add(2)
        finish(start(tmp_path, "curricular", nodes))
    after = units(tmp_path)
    assert all(after[name] == before[name] for name in before), "a finished unit was made again"
    assert product(tmp_path) == calm["curricular"]
