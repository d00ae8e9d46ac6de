"""A node and the driver of a large run are killed: same bytes, and what was done twice?

    python benchmarks/rehearsal_kills.py FOLDER --images 700000 [--classes 21841]
    python benchmarks/rehearsal_kills.py FOLDER --method curricular --images 14197122 --redo 20
    python benchmarks/rehearsal_kills.py FOLDER --quick

FOLDER is that of ``rehearsal.py``, whose calm run this one is compared with; it is made where it is
not there. Three raylets of this machine are one cluster. One of them is killed (SIGKILL, its
workers with it) when the first pass has written parts, the driver when the second has; then the
same command runs again. With ``--redo`` the run begins where each pass of the calm one had all but
so many parts: what lies between them is found finished, what follows them is made again. Prints
what each had finished by then, what the second start found finished, and whether the products and
the tables of the passes have the same sha256. Last line: wall time over the calm run's, where that
was made now.
"""

import argparse
import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import rehearsal
from memory import Stage, follow

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from ray_nodes import Nodes, started_nodes
from raydd.store.artifacts import MANIFEST

PASSES = {
    "ccfs": ("score teacher", "score filter 1"),
    "curricular": ("score teacher", "score student 1"),
}


class Run:
    """A run whose lines are printed, and whose stages are noted, by a thread."""

    def __init__(self, words: list[str], variables: Mapping[str, str]) -> None:
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(variables)
        )
        self.stages: list[Stage] = []  # that it works on
        self.reader = threading.Thread(target=follow, args=(self.process, self.stages))
        self.reader.start()

    def wait_for(self, storage: Path, stage: str) -> int:
        """Wait until a pass has more parts than it began with; how many there are."""
        begun = None
        while self.process.poll() is None:
            if any(known.label == stage for known in self.stages):
                folder = max(storage.glob("stages/score-*"), key=lambda path: path.stat().st_mtime)
                parts = len(list(folder.glob("parts/*.parquet")))
                begun = parts if begun is None else begun
                if parts > begun:
                    return parts
            time.sleep(0.2)
        raise SystemExit(f"the run ended before {stage!r} had another part")

    def end(self) -> float:
        """Wait for the end; its seconds."""
        code = self.process.wait()
        self.reader.join()
        if code:
            raise SystemExit(f"the run failed with exit code {code}")
        return time.monotonic() - self.begin


def begin_late(calm: Path, storage: Path, redo: int) -> None:
    """Copy the calm run's stages up to its second pass, both passes without their last parts."""

    def finished(stage: Path) -> float:
        return (stage / MANIFEST).stat().st_mtime

    stages = sorted(calm.glob("stages/*"), key=finished)
    passes = [stage for stage in stages if stage.name.startswith("score-")][:2]
    for stage in stages[: stages.index(passes[1]) + 1]:
        left_out = ["*.lock"]
        if stage in passes:
            last = sorted(path.name for path in stage.glob("parts/*.parquet"))[-redo:]
            left_out += [MANIFEST, "rejected.parquet", *last]
        ignore = shutil.ignore_patterns(*left_out)
        shutil.copytree(stage, storage / "stages" / stage.name, ignore=ignore)


def tables(storage: Path) -> str:
    """Start of the sha256 over the tables of all passes."""
    digest = hashlib.sha256()
    for path in sorted(storage.glob("stages/score-*/parts/*.parquet")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def disturbed(words: list[str], storage: Path, nodes: Nodes, passes: tuple[str, str]) -> float:
    """Run, kill both, run again; seconds of all."""
    first = Run(words, nodes.variables)
    parts = first.wait_for(storage, passes[0])
    lost = nodes.processes[-1]
    nodes.kill(lost)
    print(f"killed a node when {passes[0]!r} had {parts} parts", flush=True)
    parts = first.wait_for(storage, passes[1])
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    first.reader.join()
    print(f"killed the driver when {passes[1]!r} had {parts} parts", flush=True)
    passed = time.monotonic() - first.begin
    return passed + Run(words, nodes.variables).end()


def main() -> None:
    """Calm, then disturbed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=700_000)
    parser.add_argument("--classes", type=int, default=21_841)
    parser.add_argument("--method", choices=sorted(PASSES), default="ccfs")
    parser.add_argument("--redo", type=int, default=0, help="parts of each pass; 0 is all")
    parser.add_argument("--quick", action="store_true", help="400,000 images of 500 classes")
    options = parser.parse_args()
    if options.quick:
        options.images, options.classes = 400_000, 500
    folder = options.folder.resolve()
    rehearsal.write_all(folder, options.images, options.classes)
    with tempfile.TemporaryDirectory() as logs, started_nodes(Path(logs), 2, 1, 1) as nodes:
        name = f"killed-{time.time_ns()}"
        method, classes = options.method, options.classes
        calm = Run(rehearsal.command(folder, method, classes, "runs", ()), nodes.variables)
        calm_seconds = calm.end()
        if options.redo:
            begin_late(folder / "runs", folder / name, options.redo)
        words = rehearsal.command(folder, method, classes, name, ())
        seconds = disturbed(words, folder / name, nodes, PASSES[method])
    storages = folder / "runs", folder / name
    for what, found in (
        ("products", [rehearsal.content(storage / method) for storage in storages]),
        ("tables", [tables(storage) for storage in storages]),
    ):
        print(f"sha256 of the {what}: {found[0]} and {found[1]}")
        if found[0] != found[1]:
            raise SystemExit(f"the {what} differ")
    if calm.stages and calm.stages[0].label.startswith("squeeze"):
        print(f"value: {seconds / calm_seconds:.2f} times the calm run's wall time")
    else:
        print(f"value: {seconds:.0f} s; the calm run was begun before")


if __name__ == "__main__":
    main()
