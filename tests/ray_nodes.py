"""Several Ray nodes on this machine, each with its raylet, that come and are killed."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray_head import BIN, environment

_START_SECONDS = 90


class Nodes:
    """A cluster; the first node is its head.

    Args:
        folder: of its logs.
        cpus: logical CPUs of each node.
    """

    def __init__(self, folder: Path, cpus: tuple[int, ...]) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.variables = environment(
            RAY_AUTH_MODE="disabled", RAY_ADDRESS=self.address, RAY_worker_niceness="0"
        )
        self.processes: list[subprocess.Popen] = []
        self.start_head(cpus[0])
        for count in cpus[1:]:
            self.add(count)

    def start_head(self, cpus: int) -> subprocess.Popen:
        """Start a head at the cluster's address, again after :meth:`kill`."""
        return self._start(f"--head --port={self.port} --include-dashboard=false", cpus)

    def add(self, cpus: int, wait: bool = True) -> subprocess.Popen:
        """Start a node; it takes ten seconds to join."""
        return self._start(f"--address={self.address}", cpus, wait)

    def kill(self, node: subprocess.Popen) -> None:
        """Take a machine away: its raylet first, its workers with it."""
        mine = [pid for pid in processes() if node.pid in ancestors(pid)]
        for pid in [*mine, node.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        node.wait(timeout=60)
        self.processes.remove(node)

    def working(self, title: str) -> dict[int, subprocess.Popen]:
        """Processes whose title has a word, and the node of each."""
        return {
            pid: node
            for pid, words in processes().items()
            for node in self.processes
            if title in words and node.pid in ancestors(pid)
        }

    def _start(self, where: str, cpus: int, wait: bool = True) -> subprocess.Popen:
        log = self.folder / f"node-{time.monotonic_ns()}.log"
        command = (
            f"{BIN / 'ray'} start --block {where} --num-cpus={cpus} --disable-usage-stats "
            "--object-store-memory=200000000"
        )
        variables = {k: v for k, v in self.variables.items() if k != "RAY_ADDRESS"}
        with log.open("w") as file:
            process = subprocess.Popen(
                command.split(), stdout=file, stderr=file, env=variables, start_new_session=True
            )
        self.processes.append(process)
        deadline = time.monotonic() + _START_SECONDS
        while wait and "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        return process


@contextmanager
def started_nodes(folder: Path, *cpus: int) -> Iterator[Nodes]:
    """A cluster that is gone at the end."""
    nodes = Nodes(folder, cpus)
    try:
        yield nodes
    finally:
        for node in reversed(nodes.processes.copy()):
            nodes.kill(node)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes() -> dict[int, str]:
    """Command line, or title, of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
    return found


def ancestors(pid: int) -> list[int]:
    """Parent, grandparent and so on."""
    found = []
    while pid > 1:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            break
        pid = int(fields[1])
        found.append(pid)
    return found
