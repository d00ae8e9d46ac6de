"""Memory of a process and of everything it started, Ray's daemons and workers included.

A helper of the other scripts here; Linux only, for it reads /proc. A thread sums, every few tenths
of a second, the proportional set size (PSS: a page that n processes map counts 1/n in each) of the
root process, its descendants and whatever they left behind. Pages of Ray's object store that no
process maps any more are still memory: what the store's file holds beyond its mapped pages is
added. Pages shared with processes outside the tree (another Python with the same libraries) count
only in part, so measure on a machine that is otherwise quiet.

    with Sampler() as sampler:
        work()
    print(sampler.table())
    print(sampler.peak().total)
"""

import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
_HELPERS = {
    "gcs_server": "gcs",
    "raylet/raylet": "raylet",
    "_private/monitor.py": "helper monitor",
    "dashboard/dashboard.py": "helper dashboard",
    "_private/log_monitor.py": "helper log monitor",
    "dashboard/agent.py": "helper dashboard agent",
    "runtime_env/agent": "helper runtime-env agent",
    "ray::DashboardAgent": "helper dashboard agent",
    "ray::RuntimeEnvAgent": "helper runtime-env agent",
    "default_worker.py": "worker starting",
    "ray::IDLE": "worker idle",
}
_ACTOR = re.compile(r"ray::(MapWorker\(.*\)|_?[A-Z]\w*)(\.\w+)?$")


@dataclass(frozen=True)
class Process:
    """Memory of one process in bytes.

    Attributes:
        pid: its number.
        role: driver, raylet, gcs, helper ..., actor NAME, task NAME, worker idle.
        pss: proportional set size.
        rss: resident set size, shared pages counted in full.
        anonymous: the part of ``pss`` that is no file: heap, stacks, tensors.
        shared: the part of ``pss`` in shared memory: mapped pages of the object store.
    """

    pid: int
    role: str
    pss: int
    rss: int
    anonymous: int
    shared: int


@dataclass(frozen=True)
class Sample:
    """One moment.

    Attributes:
        seconds: since the sampler started.
        clock: seconds since the epoch, as in ``metrics.jsonl``.
        processes: all of them.
        store: bytes that the files of the object stores occupy.
        unmapped: the part of ``store`` that no process maps.
        progress: of the work, [0, 1], as far as the sampler was told how to see it.
        cpu: seconds of processor time that the tree has used so far; other people's load on the
            machine stretches the wall time, but hardly this.
    """

    seconds: float
    clock: float
    processes: tuple[Process, ...]
    store: int
    unmapped: int
    progress: float
    cpu: float

    @property
    def total(self) -> int:
        """Memory of the whole tree, every page once."""
        return sum(process.pss for process in self.processes) + self.unmapped

    @property
    def driver(self) -> Process | None:
        """The root process."""
        return next((p for p in self.processes if p.role == "driver"), None)

    @property
    def biggest_worker(self) -> Process | None:
        """The largest actor or task."""
        workers = [p for p in self.processes if p.role.split()[0] in ("actor", "task", "worker")]
        return max(workers, key=lambda p: p.pss, default=None)

    def by_role(self) -> dict[str, tuple[int, int, int]]:
        """Role -> (processes, PSS, anonymous part) in bytes, largest first."""
        groups: dict[str, list[Process]] = defaultdict(list)
        for process in self.processes:
            groups[process.role].append(process)
        rows = {
            role: (len(group), sum(p.pss for p in group), sum(p.anonymous for p in group))
            for role, group in groups.items()
        }
        if self.unmapped:
            rows["object store pages that no process maps"] = 1, self.unmapped, 0
        return dict(sorted(rows.items(), key=lambda row: -row[1][1]))


@dataclass
class Sampler:
    """Samples in the background between ``with`` and its end.

    Attributes:
        root: process whose tree is measured; this one by default.
        interval: seconds between samples.
        progress: tells how much of the work is done, [0, 1].
        samples: what was seen.
    """

    root: int = field(default_factory=os.getpid)
    interval: float = 0.5
    progress: Callable[[], float] | None = None
    samples: list[Sample] = field(default_factory=list)

    def __enter__(self) -> "Sampler":
        self._started = time.time()
        self._known: dict[int, str] = {}  # pid -> start time: survivors of a dead parent
        self._ticks: dict[tuple[int, str], int] = {}  # of every process ever seen
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def peak(self) -> Sample:
        """The sample with the largest total."""
        return max(self.samples, key=lambda sample: sample.total)

    def between(self, low: float, high: float) -> list[Sample]:
        """Samples of a part of the work, or of the time where nobody tells the progress."""
        if self.progress:
            return [s for s in self.samples if low <= s.progress <= high]
        end = self.samples[-1].seconds
        return [s for s in self.samples if low * end <= s.seconds <= high * end]

    def table(self, rows: int = 20) -> str:
        """Memory over time in MiB, about ``rows`` lines."""
        step = max(1, len(self.samples) // rows)
        lines = ["t [s]  done  total PSS  driver PSS  driver RSS  store  biggest worker [MiB]"]
        for sample in self.samples[::step]:
            driver, worker = sample.driver, sample.biggest_worker
            lines.append(
                f"{sample.seconds:5.0f}"
                f"{f'{sample.progress:.0%}' if self.progress else '':>6}{mib(sample.total):11.0f}"
                f"{mib(driver.pss if driver else 0):12.0f}{mib(driver.rss if driver else 0):12.0f}"
                f"{mib(sample.store):7.0f}  "
                + (f"{mib(worker.pss):.0f} {worker.role}" if worker else "-")
            )
        return "\n".join(lines)

    def _run(self) -> None:
        while not self._stop.is_set():
            begin = time.time()
            sample = self._sample(begin)
            if sample.processes:
                self.samples.append(sample)
            self._stop.wait(max(0.05, self.interval - (time.time() - begin)))

    def _sample(self, clock: float) -> Sample:
        processes = []
        stores: dict[tuple[int, int], int] = {}
        for pid in self._tree():
            process = _measure(pid, "driver" if pid == self.root else _role(pid))
            if process:
                processes.append(process)
                if process.role == "raylet":
                    stores |= _store_files(pid)
        store = sum(stores.values())
        unmapped = max(0, store - sum(p.shared for p in processes))
        done = self.progress() if self.progress else 0.0
        cpu = sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")
        return Sample(clock - self._started, clock, tuple(processes), store, unmapped, done, cpu)

    def _tree(self) -> list[int]:
        """The root, its descendants, and those seen earlier whose parent is gone."""
        children: dict[int, list[int]] = defaultdict(list)
        started: dict[int, str] = {}
        ticks: dict[int, int] = {}
        for entry in os.listdir("/proc"):
            if entry.isdecimal() and (words := read_stat(int(entry))):
                children[int(words[1])].append(int(entry))
                started[int(entry)] = words[19]
                ticks[int(entry)] = int(words[11]) + int(words[12])
        alive = [pid for pid, start in self._known.items() if started.get(pid) == start]
        found: dict[int, str] = {}
        waiting = [self.root, *alive]
        while waiting:
            pid = waiting.pop()
            if pid in started and pid not in found:
                found[pid] = started[pid]
                waiting += children[pid]
        self._known = found
        self._ticks |= {(pid, start): ticks[pid] for pid, start in found.items()}
        return sorted(found)


def mib(size: float) -> float:
    """Bytes as MiB."""
    return size / MIB


def role_table(sample: Sample) -> str:
    """Who holds what at one moment."""
    return "\n".join(
        f"{mib(size):8.0f} MiB ({mib(anonymous):5.0f} of it anonymous)  {count:2d} x {role}"
        for role, (count, size, anonymous) in sample.by_role().items()
    )


def quarters_table(sampler: Sampler) -> str:
    """Mean memory by group in each quarter of the work (or of the time), MiB."""
    quarters = [sampler.between(q / 4, (q + 1) / 4) for q in range(4)]
    lines = [f"{'mean [MiB]':<24}" + "".join(f"{f'quarter {q}':>12}" for q in (1, 2, 3, 4))]
    for name, size in GROUPS.items():
        means = "".join(f"{mib(mean(samples, size)):12.1f}" for samples in quarters)
        lines.append(f"{name:<24}{means}")
    return "\n".join(lines)


def mean(samples: Sequence[Sample], size: Callable[[Sample], float]) -> float:
    """Mean of a size over samples."""
    return sum(map(size, samples)) / max(len(samples), 1)


def _private(sample: Sample, kinds: Sequence[str]) -> int:
    """PSS without shared memory of the processes whose role begins with one of the words."""
    return sum(p.pss - p.shared for p in sample.processes if p.role.split()[0] in kinds)


GROUPS: dict[str, Callable[[Sample], float]] = {
    "all processes": lambda s: s.total,
    "driver RSS": lambda s: s.driver.rss if s.driver else 0,
    "driver": lambda s: _private(s, ["driver"]),
    "actors, tasks, idle": lambda s: _private(s, ["actor", "task", "worker"]),
    "raylet": lambda s: _private(s, ["raylet"]),
    "gcs and helpers": lambda s: _private(s, ["gcs", "helper"]),
    "object store": lambda s: s.store,
}


def read_stat(pid: int) -> list[str] | None:
    """/proc/PID/stat from its third field on: 1 parent, 11 and 12 ticks used, 19 start time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _role(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "gone"
    for mark, role in _HELPERS.items():
        if mark in command:
            return role
    if found := _ACTOR.match(command):
        return f"actor {found[1]}"
    if command.startswith("ray::"):
        return f"task {command.removeprefix('ray::')}"
    return f"child {' '.join(command.split()[:3])[:60]}"


def _measure(pid: int, role: str) -> Process | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:  # ended meanwhile
        return None
    size = {name: int(rest.split()[0]) << 10 for name, _, rest in (s.partition(":") for s in lines)}
    if not size:
        return None
    anonymous, shared = size.get("Pss_Anon", 0), size.get("Pss_Shmem", 0)
    return Process(pid, role, size["Pss"], size["Rss"], anonymous, shared)


def _store_files(pid: int) -> dict[tuple[int, int], int]:
    """(device, inode) -> occupied bytes of the object store files that a raylet holds open."""
    files = {}
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            if "/plasma" in os.readlink(entry.path):
                status = os.stat(entry.path)
                files[status.st_dev, status.st_ino] = status.st_blocks * 512
    except OSError:
        pass
    return files
