"""Kill it: a synthesis worker, and the driver, in mid-run; the product keeps its bytes.

Four minutes; the fast tests kill a driver too, with its storage on an object store (test_s3.py).
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ray_nodes import ancestors, processes

pytestmark = pytest.mark.slow

SMALL = [
    "method.ipc=6",
    "method.boundaries=[3]",
    "method.synthesis.steps=120",
    "method.synthesis.batch_size=10",
    "method.student.model.width=8",
    "method.student.recipe.epochs=4",
    "teacher.model.width=8",
    "teacher.recipe.epochs=2",
    "evaluate=false",
    "name=killed",
]
TIMEOUT = 240  # seconds


def start(storage: Path, *more: str) -> subprocess.Popen:
    """Start a run whose storage is given as a relative path: workers run in other folders."""
    command = [sys.executable, "-m", "raydd.run", "storage=.", *SMALL, *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=storage
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    return output


def units(storage: Path) -> dict[str, int]:
    return {path.name + path.parent.parent.name: path.stat().st_mtime_ns
            for path in storage.glob("stages/synthesize-*/parts/*.parquet")}  # fmt: skip


def wait_for_units(storage: Path, count: int, process: subprocess.Popen) -> dict[str, int]:
    deadline = time.monotonic() + TIMEOUT
    while len(units(storage)) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no unit was finished in time"
        time.sleep(0.02)
    return units(storage)


def product(storage: Path) -> dict[str, str]:
    root = storage / "killed" / "distilled"
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.glob("data/*.parquet"))}  # fmt: skip


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """Storage of an undisturbed run in one process."""
    storage = tmp_path_factory.mktemp("calm")
    finish(start(storage))
    assert product(storage)
    return storage


def test_a_killed_driver_is_continued_by_the_same_command(calm, tmp_path):
    process = start(tmp_path)
    before = wait_for_units(tmp_path, 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finish(start(tmp_path))
    after = units(tmp_path)
    assert all(after[name] == before[name] for name in before), "a finished unit was made again"
    assert product(tmp_path) == product(calm)


def test_a_killed_worker_is_replaced_and_the_bytes_stay_the_same(calm, tmp_path):
    process = start(tmp_path, "cluster.unit_workers=2")
    before = wait_for_units(tmp_path, 1, process)
    os.kill(synthesis_worker(process.pid), signal.SIGKILL)
    finish(process)
    after = units(tmp_path)
    assert all(after[name] == before[name] for name in before), "a finished unit was made again"
    assert product(tmp_path) == product(calm)


def synthesis_worker(driver: int) -> int:
    """A worker of the driver's private cluster, by the title that Ray gives its process."""
    for pid, title in processes().items():
        if "ray::_Worker.do" in title and driver in ancestors(pid):
            return pid
    raise AssertionError("no worker does a unit")
