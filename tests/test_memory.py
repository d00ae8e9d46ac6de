"""Memory that is full: Ray ends a worker; its work is done again, or a sentence says what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MARGIN = 3 << 30  # bytes beyond what is in use now: more than that and Ray ends the worker
HOGS = """
import json
import sys
import time
from pathlib import Path

from raydd.cluster.config import ClusterConfig
from raydd.cluster.connect import connect
from raydd.cluster.pool import run_units
from raydd.cluster.tasks import run_many
from raydd.errors import exit_code

folder, greedy = Path(sys.argv[2]), int(sys.argv[3])  # how often unit 2 asks for too much


def do(unit):
    with (folder / f"{unit}.tries").open("a") as tries:
        tries.write("x")
    if unit == 2 and len((folder / f"{unit}.tries").read_text()) <= greedy:
        held = []
        for _ in range(100):  # 6 GB at most, should nobody interfere
            held.append(b"x" * (64 << 20))
            time.sleep(0.02)
        time.sleep(5)
    (folder / f"{unit}.done").touch()
    return {"unit": unit}


def work():
    resources = connect(ClusterConfig(unit_workers=2, max_failures=1, object_store_mb=100))
    if sys.argv[1] == "units":
        run_units(lambda job: do, None, range(6), resources)
    else:
        run_many(do, range(6), resources)


sys.exit(exit_code(work))
"""


def run(kind: str, folder: Path, greedy: int) -> tuple[subprocess.CompletedProcess, dict[int, int]]:
    """Run six jobs; how often each was tried, of those that were finished."""
    total, available = memory("MemTotal"), memory("MemAvailable")
    threshold = (total - available + MARGIN) / total
    limits = {
        "RAY_memory_usage_threshold": f"{threshold:.3f}",
        "RAY_memory_monitor_refresh_ms": "50",
    }
    done = subprocess.run(
        [sys.executable, "-c", HOGS, kind, str(folder), str(greedy)],
        capture_output=True, text=True, timeout=250, env={**os.environ, **limits},
        cwd=Path(__file__).parents[1], check=False,
    )  # fmt: skip
    tries = {int(path.stem): len(path.with_suffix(".tries").read_text())
             for path in folder.glob("*.done")}  # fmt: skip
    return done, tries


def memory(field: str) -> int:
    """Bytes of this machine's memory."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


@pytest.mark.parametrize("kind", ["units", "tasks"])
def test_what_was_ended_for_memory_is_done_again(kind, tmp_path):
    done, tries = run(kind, tmp_path, greedy=1)
    assert done.returncode == 0, done.stderr
    assert tries == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1, 5: 1}


@pytest.mark.parametrize("kind", ["units", "tasks"])
def test_what_never_fits_ends_in_a_sentence_and_the_rest_is_kept(kind, tmp_path):
    done, tries = run(kind, tmp_path, greedy=99)
    assert done.returncode == 1, json.dumps([done.stdout, done.stderr])
    assert done.stderr.startswith("raydd: memory is full (")
    assert "use smaller batches" in done.stderr
    assert "Traceback" not in done.stderr
    assert 2 not in tries
    assert len(tries) == 5 or kind == "tasks"
