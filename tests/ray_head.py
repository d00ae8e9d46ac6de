"""A Ray head of its own for tests of `ray job submit`, and the command that talks to it."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
REPOSITORY = Path(__file__).parent.parent


def environment(**changes: str) -> dict[str, str]:
    """This environment's `ray` and `python` first on the path, for the head's jobs too."""
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **changes}


@contextmanager
def started_head(log: Path, variables: dict[str, str], port: int) -> Iterator[str]:
    """Start a head; it is gone at the end.

    Args:
        log: file for what it says.
        variables: its environment.
        port: the first of three that it takes: its own, +2000 dashboard, +2100 agent.
    Yields:
        The address for jobs.
    """
    command = [
        str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=4", f"--port={port}",
        f"--dashboard-port={port + 2000}", f"--dashboard-agent-listen-port={port + 2100}",
        "--disable-usage-stats", "--object-store-memory=200000000",
    ]  # fmt: skip
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=variables, start_new_session=True
        )
    address = f"http://127.0.0.1:{port + 2000}"
    try:
        deadline = time.monotonic() + 90
        while not answers(f"{address}/api/version"):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield address
    finally:
        # not `ray stop`, which would end every cluster of this machine; gently, it takes half a
        # minute
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)


def answers(url: str) -> bool:
    """Whether somebody is there, be it to refuse."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except OSError:
        return False


def submit(address: str, variables: dict[str, str], *words: str) -> subprocess.CompletedProcess:
    """Submit, again while the head's agent is not up yet (it comes seconds after the dashboard)."""
    command = [str(BIN / "ray"), "job", "submit", "--address", address, *words]
    deadline = time.monotonic() + 90
    while True:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=280, env=variables, cwd=REPOSITORY
        )
        early = "No available agent to submit job" in done.stdout + done.stderr
        if not early or time.monotonic() > deadline:
            return done
        time.sleep(2)
