"""A node and the driver of a large run are killed: same bytes, and what was done twice?

    python benchmarks/rehearsal_kills.py FOLDER --images 700000 [--classes 21841]
    python benchmarks/rehearsal_kills.py FOLDER --quick

FOLDER is that of ``rehearsal.py --method ccfs``, whose calm run this one is compared with; it is
made where it is not there. Three raylets of this machine are one cluster. One of them is killed
(SIGKILL, its workers with it) when the first pass has written its first parts, the driver when the
second has; then the same command runs again. Prints what each had finished by then, what the second
start found finished, and whether the products have the same sha256. Last line: wall time over the
calm run's, where that was made now.
"""

import argparse
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

PASSES = "score teacher", "score filter 1"


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
        """Wait until a pass has parts, and some are missing; how many there are."""
        while self.process.poll() is None:
            if any(begun.label == stage for begun in self.stages):
                folder = max(storage.glob("stages/score-*"), key=lambda path: path.stat().st_mtime)
                parts = len(list(folder.glob("parts/*.parquet")))
                if parts:
                    return parts
            time.sleep(0.2)
        raise SystemExit(f"the run ended before {stage!r} had a part")

    def end(self) -> float:
        """Wait for the end; its seconds."""
        code = self.process.wait()
        self.reader.join()
        if code:
            raise SystemExit(f"the run failed with exit code {code}")
        return time.monotonic() - self.begin


def disturbed(words: list[str], storage: Path, nodes: Nodes) -> float:
    """Run, kill both, run again; seconds of all."""
    first = Run(words, nodes.variables)
    parts = first.wait_for(storage, PASSES[0])
    lost = nodes.processes[-1]
    nodes.kill(lost)
    print(f"killed a node when {PASSES[0]!r} had {parts} parts", flush=True)
    parts = first.wait_for(storage, PASSES[1])
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    first.reader.join()
    print(f"killed the driver when {PASSES[1]!r} had {parts} parts", flush=True)
    passed = time.monotonic() - first.begin
    return passed + Run(words, nodes.variables).end()


def main() -> None:
    """Calm, then disturbed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=700_000)
    parser.add_argument("--classes", type=int, default=21_841)
    parser.add_argument("--quick", action="store_true", help="400,000 images of 500 classes")
    options = parser.parse_args()
    if options.quick:
        options.images, options.classes = 400_000, 500
    folder = options.folder.resolve()
    rehearsal.write_all(folder, options.images, options.classes)
    with tempfile.TemporaryDirectory() as logs, started_nodes(Path(logs), 2, 1, 1) as nodes:
        name = f"killed-{time.time_ns()}"
        calm = Run(rehearsal.command(folder, "ccfs", options.classes, "runs", ()), nodes.variables)
        calm_seconds = calm.end()
        words = rehearsal.command(folder, "ccfs", options.classes, name, ())
        seconds = disturbed(words, folder / name, nodes)
    products = [rehearsal.content(folder / storage / "ccfs") for storage in ("runs", name)]
    print(f"sha256 {products[0]} and {products[1]}")
    if products[0] != products[1]:
        raise SystemExit("the products differ")
    if calm.stages and calm.stages[0].label.startswith("squeeze"):
        print(f"value: {seconds / calm_seconds:.2f} times the calm run's wall time")
    else:
        print(f"value: {seconds:.0f} s; the calm run was begun before")


if __name__ == "__main__":
    main()
