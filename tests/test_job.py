"""`ray job submit`: a run on a started head shows the progress and result of a plain one."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
REPOSITORY = Path(__file__).parent.parent
OPTIONS = [
    "method.ipc=2", "method.boundaries=[]", "method.synthesis.steps=5", "teacher.model.width=8",
    "teacher.recipe.epochs=2", "protocol.seeds=1", "protocol.recipe.epochs=2",
]  # fmt: skip


def environment() -> dict[str, str]:
    """This environment's `ray` and `python` first on the path, for the head's jobs too."""
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "RAY_AUTH_MODE": "disabled"}


@pytest.fixture
def head(tmp_path):
    command = [
        str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=4", "--port=46379",
        "--dashboard-port=48265", "--dashboard-agent-listen-port=48365", "--disable-usage-stats",
        "--object-store-memory=200000000",
    ]  # fmt: skip
    with (tmp_path / "head.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment(), start_new_session=True
        )
    deadline = time.monotonic() + 90
    while not answers("http://127.0.0.1:48265/api/version"):
        assert time.monotonic() < deadline, (tmp_path / "head.log").read_text()
        time.sleep(0.5)
    yield "http://127.0.0.1:48265"
    # not `ray stop`, which would end every cluster of this machine; gently, it takes half a minute
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


def submit(command: list[str]) -> subprocess.CompletedProcess:
    """Submit, again while the head's agent is not up yet (it comes seconds after the dashboard)."""
    deadline = time.monotonic() + 90
    while True:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=280, env=environment(), cwd=REPOSITORY
        )
        early = "No available agent to submit job" in done.stdout + done.stderr
        if not early or time.monotonic() > deadline:
            return done
        time.sleep(2)


def test_a_submitted_job_completes_and_its_log_shows_progress_and_result(head, tmp_path):
    command = [
        str(BIN / "ray"), "job", "submit", "--address", head, "--working-dir", ".", "--",
        "python", "-m", "raydd.run", f"storage={tmp_path}", "name=job", *OPTIONS,
    ]  # fmt: skip
    done = submit(command)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert "synthesize curriculum 1" in text
    assert "distilled images" in text
    assert "random real images" in text
    assert (tmp_path / "job" / "distilled" / "raydd.json").is_file()
    assert (tmp_path / "job" / "report.html").is_file()
