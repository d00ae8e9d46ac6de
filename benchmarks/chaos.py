"""A run whose workers and driver are killed again and again: same bytes, and at what price?

The same command runs twice on a private Ray of this machine: undisturbed, then with a random worker
killed (SIGKILL) every --every seconds and the driver at the times of --driver, started again at
once. The products must have the same sha256. Prints what was killed, the units that were lost
(those in flight in a killed process), and as its last line the wall time of the disturbed run over
that of the calm one. A unit is one image here, so that there are many.

    python benchmarks/chaos.py            # digits, about 25 minutes
    python benchmarks/chaos.py --quick    # digits, two minutes
    python benchmarks/chaos.py --ipc 300 --steps 40 dataset=cifar10 dataset.root=/data/cifar10
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from processes import read_stat

_UNIT = "ray::_Worker.do"
_TITLES = (_UNIT, "ray::_Worker", "ray::MapWorker", "ray::_fetch_part", "ray::_task")


@dataclass
class Toll:
    """What was killed, by title; units that were in flight in it."""

    kills: Counter[str] = field(default_factory=Counter)
    units: int = 0


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ipc", type=int, default=130, help="images per class, ten classes")
    parser.add_argument("--steps", type=int, default=110, help="optimisation steps per image")
    parser.add_argument("--workers", type=int, default=2, help="of the stages of units")
    parser.add_argument("--every", type=float, default=20.0, help="seconds from kill to kill")
    parser.add_argument(
        "--driver",
        type=float,
        nargs="*",
        default=[200.0, 400.0],
        help="seconds at which it is killed",
    )
    parser.add_argument("words", nargs="*", help="more of the run, key=value; before --driver")
    parser.add_argument("--seed", type=int, default=0, help="which worker is killed")
    parser.add_argument("--quick", action="store_true", help="two minutes")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.ipc, chosen.steps, chosen.every, chosen.driver = 8, 60, 12.0, [30.0]
    return chosen


def command(storage: Path, chosen: argparse.Namespace) -> list[str]:
    """The run."""
    words = [
        "method=curricular", f"method.ipc={chosen.ipc}", f"method.boundaries=[{chosen.ipc // 2}]",
        f"method.synthesis.steps={chosen.steps}", "method.synthesis.batch_size=1",
        "method.student.model.width=8", "method.student.recipe.epochs=4",
        "teacher.model.width=8", "teacher.recipe.epochs=4", "evaluate=false",
        f"cluster.unit_workers={chosen.workers}", f"storage={storage}", "name=run", *chosen.words,
    ]  # fmt: skip
    return [sys.executable, "-m", "raydd.run", *words]


def run(storage: Path, chosen: argparse.Namespace, toll: Toll | None) -> float:
    """Run to the end, killing as asked where there is a toll to be taken; returns its seconds."""
    begin = time.perf_counter()
    draws = random.Random(chosen.seed)
    workers = (chosen.every * n for n in range(1, 1 << 30))
    next_worker, drivers = next(workers), list(chosen.driver)
    driver = start(storage, chosen)
    while driver.poll() is None:
        time.sleep(0.02)
        now = time.perf_counter() - begin
        if toll and drivers and now >= drivers[0]:
            drivers.pop(0)
            toll.units += sum(title == _UNIT for title in working(driver.pid).values())
            toll.kills["driver"] += 1
            driver.kill()
            driver.wait()
            driver = start(storage, chosen)
        if toll and now >= next_worker and kill_worker(driver.pid, draws, toll):
            next_worker = next(workers)
    if driver.returncode:
        sys.exit(f"the run failed:\n{Path(f'{storage}.log').read_text()}")
    return time.perf_counter() - begin


def start(storage: Path, chosen: argparse.Namespace) -> subprocess.Popen[bytes]:
    """Start the driver; what it says is kept beside its storage."""
    with Path(f"{storage}.log").open("ab") as log:
        return subprocess.Popen(command(storage, chosen), stdout=log, stderr=log)


def kill_worker(driver: int, draws: random.Random, toll: Toll) -> bool:
    """Kill one of the processes that work now; False where there is none."""
    found = sorted(working(driver).items())
    if not found:
        return False
    pid, title = draws.choice(found)
    os.kill(pid, signal.SIGKILL)
    toll.kills[title] += 1
    toll.units += title == _UNIT
    return True


def working(driver: int) -> dict[int, str]:
    """The driver's processes that do its work now, by the title that Ray gives them."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            title = next((title for title in _TITLES if words.startswith(title)), None)
            if title and driver in ancestors(int(entry.name)):
                found[int(entry.name)] = title
    return found


def ancestors(pid: int) -> list[int]:
    """Parent, grandparent and so on."""
    found = []
    while pid > 1 and (fields := read_stat(pid)):
        pid = int(fields[1])
        found.append(pid)
    return found


def product(storage: Path) -> str:
    """The sha256 over all files of the distilled images."""
    digest = hashlib.sha256()
    for path in sorted(storage.glob("run/distilled/data/*.parquet")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Run both and compare."""
    chosen, toll = options(), Toll()
    with tempfile.TemporaryDirectory() as folder:
        calm, disturbed = Path(folder) / "calm", Path(folder) / "disturbed"
        calm_seconds = run(calm, chosen, None)
        print(f"calm       {calm_seconds:6.0f} s   {product(calm)}", flush=True)
        seconds = run(disturbed, chosen, toll)
        print(f"disturbed  {seconds:6.0f} s   {product(disturbed)}")
        units = len(list(disturbed.glob("stages/synthesize-*/parts/*.parquet")))
        kills = ", ".join(f"{count} x {title}" for title, count in sorted(toll.kills.items()))
        print(f"killed: {kills}")
        print(
            f"units in flight in what was killed: {toll.units} of {units}: {toll.units / units:.1%}"
        )
        if product(calm) != product(disturbed):
            sys.exit("the products differ")
    print(f"value: {seconds / calm_seconds:.2f} times the calm run's wall time")


if __name__ == "__main__":
    main()
