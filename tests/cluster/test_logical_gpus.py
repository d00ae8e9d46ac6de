"""GPUs that only Ray believes in: who holds one, who waits, and that nobody waits for ever.

A process of its own has a Ray with more GPUs than this machine; what computes there is told to use
the CPU. Two GPUs beside two CPUs is the case that hangs where whoever holds a GPU holds a CPU, too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from logical_gpus import CLUSTERS, METHODS
from raydd.cluster.tasks import fitting_tasks

ROOT = Path(__file__).parents[2]
SCENES = """
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import ray
import ray.data as rd
import torch
from upath import UPath

from raydd.cluster.config import ClusterConfig
from raydd.cluster.connect import private_cluster
from raydd.cluster.fit import fit
from raydd.cluster.gpus import check_gpus, wait_for_gpus
from raydd.cluster.pool import run_units
from raydd.cluster.resources import resolve
from raydd.cluster.tasks import run_many
from raydd.engine.passes.feed import map_actors
from raydd.errors import Refused

folder = Path(sys.argv[1])


def held(job=None):
    # what a process of Ray holds, long enough for others to start beside it
    time.sleep(1)
    assigned = ray.get_runtime_context().get_assigned_resources()
    return ray.get_gpu_ids(), assigned.get("GPU", 0), assigned.get("CPU", 0)


def crowded(number):
    tries = folder / f"tries-{number}"
    with tries.open("a") as file:
        file.write("x")
    if number == 2 and tries.read_text() == "x":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    return held()


class Actor:
    def __init__(self):
        (folder / f"actor-{os.getpid()}").touch()

    def __call__(self, rows):
        gpus, share, cpus = held()
        deadline = time.monotonic() + 60
        while len(list(folder.glob("actor-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)  # the first would take all rows before the second is there
        count = rows.num_rows
        return pa.table({"gpu": gpus * count, "share": [share] * count, "cpus": [cpus] * count})


def load(job):
    return lambda unit: (folder / f"unit-{unit}").write_text(json.dumps(held()))


def refusal(act):
    try:
        act()
    except Refused as error:
        return str(error)


with private_cluster():
    ray.init(address="local", num_cpus=2, num_gpus=2,
             object_store_memory=100 << 20, log_to_driver=False, logging_level="ERROR")
resources = replace(resolve(ClusterConfig(), ray.cluster_resources()), device="cpu")
rd.DataContext.get_current().enable_progress_bars = False
rows = map_actors(rd.range(4, override_num_blocks=4), Actor, (), 1, resources)
found = {
    "pass": sorted({tuple(row.values()) for row in rows.take_all()}),
    "tasks": run_many(held, range(2), resources),
    "cpu": run_many(held, range(2), resources, on_cpu=True),
    "shared": run_many(crowded, range(3), replace(resources, tasks_per_gpu=2)),
    "tries": len((folder / "tries-2").read_text()),
    "alone": fit(held, {}, replace(resources, num_workers=1), UPath(folder)),
}
run_units(load, None, range(2), resources)
found["units"] = [json.loads(path.read_text()) for path in sorted(folder.glob("unit-*"))]
found["broken"] = refusal(lambda: check_gpus(ask=lambda: "the driver is too old"))
found["works"] = check_gpus(ask=lambda: "")
lines = []
wait_for_gpus(lines.append)
found["lines"] = lines
print(json.dumps(found))
"""


def start(words: list[str], timeout: float) -> Any:
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=timeout, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return start(["-c", SCENES, str(tmp_path_factory.mktemp("scenes"))], 280)


def test_an_actor_of_a_pass_holds_a_gpu_and_no_cpu(scenes):
    """With a CPU each, the readers of their rows would have none, and wait without a word."""
    assert scenes["pass"] == [[0, 1, 0], [1, 1, 0]]


def test_a_task_holds_a_gpu_and_no_cpu(scenes):
    assert [share for _, share, _ in scenes["tasks"]] == [1, 1]
    assert {tuple(gpus) for gpus, _, _ in scenes["tasks"]} == {(0,), (1,)}
    assert {cpus for _, _, cpus in scenes["tasks"]} == {0}


def test_work_for_cpus_holds_no_gpu(scenes):
    assert scenes["cpu"] == [[[], 0, 1]] * 2


def test_tasks_share_a_gpu_and_one_that_finds_it_full_is_done_again_alone(scenes):
    assert [share for _, share, _ in scenes["shared"]] == [0.5, 0.5, 1]
    assert {(len(gpus), cpus) for gpus, _, cpus in scenes["shared"]} == {(1, 0)}
    assert scenes["tries"] == 2


def test_a_training_of_one_worker_holds_a_gpu(scenes):
    assert scenes["alone"][1:] == [1, 0]


def test_a_worker_of_units_holds_a_gpu_and_no_cpu(scenes):
    assert len(scenes["units"]) == 2
    assert {(share, cpus) for _, share, cpus in scenes["units"]} == {(1, 0)}


def test_gpus_that_torch_cannot_use_are_refused_with_the_key_that_leaves_them(scenes):
    assert "the driver is too old; install" in scenes["broken"]
    assert scenes["broken"].endswith("or use cluster.use_gpu=false.")
    assert scenes["works"]


def test_a_cluster_that_has_gpus_is_not_waited_for(scenes):
    assert scenes["lines"] == []


@pytest.mark.parametrize(
    ("peak", "cores", "tasks"),
    [(1 << 30, 16, 8), (10 << 30, 16, 7), (10 << 30, 3, 3), (60 << 30, 16, 1), (90 << 30, 16, 1),
     (0, 16, 8), (1 << 30, 0, 1)],
)  # fmt: skip
def test_as_many_tasks_share_a_gpu_as_its_memory_holds_and_cores_feed(peak, cores, tasks):
    assert fitting_tasks(peak, 80 << 30, cores) == tasks


GPU_STAGES = (  # what computes with networks; the others read, decode, choose or copy
    "squeeze", "train", "score", "statistics", "synthesize", "crop", "embed", "relabel", "sample",
    "generator training", "diagnose", "evaluate",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_method_ends_and_every_stage_holds_what_it_should(cluster, tmp_path):
    found = start([str(ROOT / "tests" / "logical_gpus.py"), str(tmp_path), cluster, *METHODS], 1780)
    for method in METHODS:
        assert found[method]["results"] == 4, method
        for label, held in found[method]["held"].items():
            on_gpu = label.startswith(GPU_STAGES)
            assert (held["GPU"] > 0) == on_gpu, f"{method}: {label} held {held}"
    assert found["gpus"] == (2 if "1 GPU" not in cluster else 1)
