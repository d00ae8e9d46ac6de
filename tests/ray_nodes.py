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

    host = "127.0.0.1"  # of the head

    def __init__(self, folder: Path, cpus: tuple[int, ...]) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"{self.host}:{self.port}"
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

    def command(self, *words: str) -> list[str]:
        """A command of the driver, at the head."""
        return list(words)

    def close(self) -> None:
        """End all nodes, the head last."""
        for node in reversed(self.processes.copy()):
            self.kill(node)

    def _place(self) -> tuple[str, str]:
        """How a node's command begins and ends."""
        return "", ""

    def _start(self, where: str, cpus: int, wait: bool = True) -> subprocess.Popen:
        log = self.folder / f"node-{time.monotonic_ns()}.log"
        begin, end = self._place()
        command = (
            f"{begin} {BIN / 'ray'} start --block {where} --num-cpus={cpus} --disable-usage-stats "
            f"--object-store-memory=200000000 {end}"
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


class Hosts(Nodes):
    """The same, each node with a network and an address of its own, joined by a bridge."""

    host = "10.77.0.1"

    def __init__(self, folder: Path, cpus: tuple[int, ...]) -> None:
        self.bridge, self.spaces = f"rdbr{os.getpid()}", list[str]()
        _ip(f"link add {self.bridge} type bridge")
        _ip(f"link set {self.bridge} up")
        try:
            super().__init__(folder, cpus)
        except BaseException:
            self.close()
            raise

    def command(self, *words: str) -> list[str]:
        """See :meth:`Nodes.command`."""
        return f"ip netns exec {self.spaces[0]}".split() + list(words)

    def close(self) -> None:
        """End all nodes, then take their networks away."""
        super().close()
        for space in self.spaces:
            _ip(f"netns del {space}")
        _ip(f"link del {self.bridge}")

    def _place(self) -> tuple[str, str]:
        number = len(self.spaces) + 1
        space, cable = f"raydd-{os.getpid()}-{number}", f"rd{os.getpid()}-{number}"
        _ip(f"netns add {space}")
        self.spaces.append(space)
        _ip(f"link add {cable} type veth peer name eth0 netns {space}")
        _ip(f"link set {cable} master {self.bridge} up")
        for command in (
            f"addr add 10.77.0.{number}/24 dev eth0",
            "link set eth0 up",
            "link set lo up",
            "route add default via 10.77.0.254",  # nobody is there: Ray finds its address by it
        ):
            _ip(f"-n {space} {command}")
        return f"ip netns exec {space}", f"--node-ip-address=10.77.0.{number}"


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


@contextmanager
def started_nodes(folder: Path, *cpus: int, kind: type[Nodes] = Nodes) -> Iterator[Nodes]:
    """A cluster that is gone at the end."""
    nodes = kind(folder, cpus)
    try:
        yield nodes
    finally:
        nodes.close()


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
