"""Among 10,000 hostile files every good image is scored and every bad one is rejected.

    python benchmarks/hostile.py [--bad 10000] [--good 2000] [--quick]

The script writes an image folder, parquet files and tar shards into a temporary folder: good images
and, among them, bad ones of every kind that `tests/data/hostile_sets.py` knows, a third in each.
Two good images measure 49 megapixels, just under the cap. The real score stage of the engine then
passes over each set, on a private local Ray. It prints what became of every kind: rows rejected and
why, images used. "flipped" images that Pillow still decodes cannot be told from good ones; they may
be used. It also prints how many images were lost without being counted anywhere. The script fails
unless every good image has its row in the score table, every bad one its reason in
`rejected.parquet`, and no process died (only then would a pass be tried again).

Memory is the high-water mark of the resident set that Linux keeps for each process, pages of the
object store included; a pass over the good images alone comes first, for comparison. Last line: the
largest worker.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from engines import fresh_checkpoint, make_engine
from processes import Sample, Sampler
from ray._private.state import state
from ray.core.generated import common_pb2, gcs_pb2

from raydd.cluster.config import ClusterConfig
from raydd.cluster.connect import connect
from raydd.cluster.resources import Resources
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import open_source
from raydd.engine.passes.score import score
from raydd.engine.passes.stream import DataConfig
from raydd.models.registry import ModelConfig
from raydd.store.artifacts import Artifact
from raydd.store.tables import part_files, read_table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data"))
from hostile_images import image_at_the_cap
from hostile_ledger import Account, Ledger, account
from hostile_sets import CLASSES, WRITERS

PREPROCESSING = Preprocessing(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
WORKERS = ("actor", "task", "worker")
ENDS = {
    common_pb2.WorkerExitType.Value(name) for name in ("INTENDED_SYSTEM_EXIT", "INTENDED_USER_EXIT")
}


@dataclass
class HighWater(Sampler):
    """Keeps the largest resident set of each worker.

    Attributes:
        earlier: processes that are left out: actors of an earlier pass that are still ending.
        peaks: pid -> (role, KiB).
    """

    earlier: frozenset[int] = frozenset()
    peaks: dict[int, tuple[str, int]] = field(default_factory=dict)

    def _sample(self, clock: float) -> Sample:
        sample = super()._sample(clock)
        for process in sample.processes:
            if process.role.split()[0] in WORKERS and process.pid not in self.earlier:
                self.peaks[process.pid] = process.role, _high_water(process.pid)
        return sample

    def actors(self) -> frozenset[int]:
        """Processes that this pass had to itself."""
        return frozenset(pid for pid, (role, _) in self.peaks.items() if role.startswith("actor"))

    def largest(self) -> tuple[float, str]:
        """MiB and role of the largest worker."""
        role, size = max(self.peaks.values(), key=lambda peak: peak[1])
        return size / 1024, role


def _high_water(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # ended meanwhile
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def died() -> int:
    """Ray processes that ended and were not meant to, since the cluster started."""
    table = state._connect_and_get_accessor().get_worker_table()
    ended = [w for w in map(gcs_pb2.WorkerTableData.FromString, table) if not w.is_alive]
    return sum(worker.exit_type not in ENDS for worker in ended)


def write_set(kind: str, folder: Path, num_good: int, num_bad: int, at_cap: int) -> Ledger:
    """Write a set; image folders get some of the largest good images there are."""
    ledger = WRITERS[kind](folder, num_good, num_bad, 0)
    for number in range(at_cap if kind == "imagefolder" else 0):
        (folder / "train/0" / f"at-the-cap-{number}.png").write_bytes(image_at_the_cap())
        ledger.good.add(f"0/at-the-cap-{number}.png")
    return ledger


def run_pass(
    kind: str, folder: Path, checkpoint: Artifact, resources: Resources, ledger: Ledger,
    earlier: frozenset[int] = frozenset(),
) -> tuple[Account, HighWater, float, int]:  # fmt: skip
    """Score the set as the engine does.

    Returns:
        What became of it, the memory, the seconds, and images that were neither used nor counted.
    """
    source = open_source(kind, str(folder), "train", class_names=CLASSES)
    with (
        tempfile.TemporaryDirectory() as storage,
        HighWater(interval=0.4, earlier=earlier) as memory,
    ):
        started = time.perf_counter()
        config = DataConfig(max_rejected=1.0, memory_limit_mb=0)
        engine = make_engine(storage, source, PREPROCESSING, resources, config)
        scored = score(engine, checkpoint, kind)
        seconds = time.perf_counter() - started
        used = [i for p in part_files(scored.folder) for i in read_table(p)["id"].to_pylist()]
        rejected = read_table(scored.folder / "rejected.parquet").to_pydict()
    pairs = zip(rejected["id"], rejected["reason"], strict=True)
    counted = scored.summary["rows"] + scored.summary["rejected"]
    made = len(ledger.good) + ledger.made.total()
    return account(ledger, used, pairs), memory, seconds, max(0, made - counted)


def print_kinds(ledger: Ledger, result: Account) -> None:
    """One line per kind and the commonest reasons below it."""
    print(f"  {'kind':<20}{'made':>6}{'rejected rows':>15}{'used':>6}")
    for kind, made in sorted(ledger.made.items()):
        print(f"  {kind:<20}{made:6}{result.rejected[kind]:15}{result.used[kind]:6}")
        for reason, count in result.reasons.get(kind, Counter()).most_common(3):
            print(f"      {count:6} x {reason}")


def print_pass(
    ledger: Ledger, result: Account, memory: HighWater, seconds: float, uncounted: int
) -> None:
    """What the whole pass came to."""
    size, role = memory.largest()
    print(
        f"  good {len(ledger.good)}, lost {len(result.lost)}; bad rows {len(ledger.bad)}, used all "
        f"the same {len(result.accepted)}, without a reason {len(result.unreported)}; undetectable "
        f"{len(ledger.undetectable)}, used {result.used.total()}; unknown or doubled ids "
        f"{len(result.strange)}; images lost without being counted {uncounted}; {seconds:.0f} s; "
        f"largest worker {size:.0f} MiB ({role})",
        flush=True,
    )


def main() -> None:
    """Write the sets, pass over them, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bad", type=int, default=10_000)
    parser.add_argument("--good", type=int, default=2_000)
    parser.add_argument("--quick", action="store_true", help="200 bad files, 60 good ones")
    options = parser.parse_args()
    num_bad, num_good = (200, 60) if options.quick else (options.bad, options.good)
    torch.set_num_threads(1)
    os.environ.pop("RAY_ADDRESS", None)
    resources = connect(ClusterConfig())
    failed, largest = False, 0.0
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        checkpoint = fresh_checkpoint(
            Path(name) / "network", ModelConfig("resnet10_thin", 8), CLASSES, PREPROCESSING
        )
        clean = Path(name) / "clean"
        ledger = write_set("imagefolder", clean, num_good // 3, 0, 0)
        print("imagefolder, good images alone")
        passed = run_pass("imagefolder", clean, checkpoint, resources, ledger)
        print_pass(ledger, *passed)
        memory = passed[1]
        for kind in sorted(WRITERS):
            folder = Path(name) / kind
            ledger = write_set(kind, folder, num_good // 3, -(-num_bad // 3), 2)
            print(f"{kind}, good images and bad ones")
            earlier = memory.actors()
            passed = run_pass(kind, folder, checkpoint, resources, ledger, earlier)
            result, memory, _, uncounted = passed
            print_kinds(ledger, result)
            print_pass(ledger, *passed)
            failed |= not result.is_right or uncounted > 0
            largest = max(largest, memory.largest()[0])
    deaths = died()
    print(f"processes that died: {deaths}")
    if failed or deaths:
        raise SystemExit("FAILED")
    print(f"value: {largest:.0f} MiB per worker")


if __name__ == "__main__":
    main()
