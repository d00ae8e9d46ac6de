"""A disk that is full and a store that is out of reach: a sentence, nothing lost, and on."""

import contextlib
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from upath import UPath

from raydd.errors import exit_code, known_trouble
from raydd.store.files import write_atomic

SMALL = [
    "method.ipc=10", "method.boundaries=[]", "method.synthesis.steps=60",
    "method.synthesis.batch_size=10", "teacher.model.width=8", "teacher.recipe.epochs=2",
    "evaluate=false", "name=run",
]  # fmt: skip


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 16 MB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a small file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take what is free."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
    return ballast


def test_a_file_that_does_not_fit_leaves_nothing_and_is_named(small_disk):
    path = small_disk / "manifest.json"
    path.write_text("before")
    fill(small_disk)
    with pytest.raises(OSError, match=r"No space left on device: '.*manifest\.json'") as error:
        write_atomic(UPath(path), bytes(1 << 16))
    assert error.value.errno == errno.ENOSPC
    assert sorted(file.name for file in small_disk.iterdir()) == ["ballast", "manifest.json"]
    assert path.read_text() == "before"


def test_trouble_is_found_behind_other_errors():
    full = OSError(errno.ENOSPC, "No space left on device", "x.parquet")
    behind = RuntimeError("a worker died")
    behind.__cause__ = full
    assert known_trouble(behind).startswith("the disk is full ([Errno 28] No space")
    assert known_trouble(OSError(errno.EACCES, "no")) is None
    assert known_trouble(ConnectionError("no Ray is running")) is None


def test_a_full_gpu_is_said_in_a_sentence():
    import torch

    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    assert known_trouble(error).startswith("memory is full (CUDA out of memory. Tried to allocate")


def test_what_nobody_expects_keeps_its_traceback():
    def fail() -> int:
        raise RuntimeError("odd")

    with pytest.raises(RuntimeError, match="odd"):
        exit_code(fail)


@pytest.mark.slow
def test_a_run_on_a_full_disk_stops_with_a_sentence_and_continues(small_disk):
    run = [sys.executable, "-m", "raydd.run", *SMALL, f"storage={small_disk}"]
    run.append("cluster.unit_workers=1")  # the error comes from a worker
    process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (before := units(small_disk)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    ballast = fill(small_disk)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "raydd: the disk is full ([Errno 28] No space left on device" in said
    assert "run the same command to continue" in said
    ballast.unlink()
    done = subprocess.run(run, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    after = units(small_disk)
    assert len(after) == 10
    assert all(after[name] == before[name] for name in before), "a finished unit was made again"
    assert not list(small_disk.rglob("*.partial"))


def units(disk: Path) -> dict[str, int]:
    return {path.name: os.stat(path).st_mtime_ns
            for path in disk.glob("stages/synthesize-*/parts/*.parquet")}  # fmt: skip
