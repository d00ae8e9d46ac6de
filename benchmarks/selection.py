"""Selection at ImageNet-21K's size: time, memory of all processes, equal for any partitioning.

    python benchmarks/selection.py [--rows 14000000] [--quick]

Claim: 50 images of each of 21,841 unequal classes are chosen from two aligned score tables of
14,000,000 rows in at most 20 s and 2 GB over all processes on 2 cores; the driver's memory does not
grow with the number of rows; the selection is the same for any partitioning of the rows, ties of
the difficulty included. The script writes the tables (skewed class sizes, integer difficulties, so
that ties are everywhere), then selects in a fresh process of its own each time: from a quarter of
the rows, from all, and from all rows cut into other parts. Peak memory includes Ray's daemons (see
``processes.py``; Linux only). Last line: seconds of the full selection, Ray already running.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from processes import Sample, Sampler, mib, role_table

EPOCHS = 20  # forgetting events are integers up to this: most rows tie


@dataclass(frozen=True)
class Outcome:
    """One selection: wall and processor time, memory, and a hash of what was chosen in order."""

    seconds: float
    cpu: float
    peak: Sample
    driver_before: int
    driver_peak: int
    chosen: int
    digest: str


def class_sizes(rows: int, num_classes: int) -> np.ndarray:
    """Images of each class, int64 [C], log-normal: a few large classes, many small ones."""
    draws = np.random.default_rng(0).lognormal(sigma=1.0, size=num_classes)
    sizes = np.maximum(1, np.floor(draws / draws.sum() * rows)).astype(np.int64)
    sizes[sizes.argmax()] += rows - sizes.sum()
    return sizes


def uniform(rows: np.ndarray, salt: int) -> np.ndarray:
    """Float64 [N] in [0, 1), fixed by row number and salt (splitmix64)."""
    z = (rows.astype(np.uint64) + np.uint64(salt << 40)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2**53


def score_table(labels: np.ndarray, begin: int, num_classes: int, accuracy: float, salt: int):
    """One part of a score table; every value is fixed by the row's number in the whole set."""
    rows = np.arange(begin, begin + len(labels))
    right = uniform(rows, salt) < accuracy
    wrong = (labels + 1 + (uniform(rows, salt + 1) * (num_classes - 1)).astype(int)) % num_classes
    forgetting = np.minimum(-2 * np.log1p(-uniform(rows, 99)), EPOCHS).astype(np.int32)
    logit = np.round(uniform(rows, salt + 2) * 12, 1).astype(np.float32)
    numbers = [pc.cast(pa.array(values), pa.string()) for values in (labels, rows)]
    return pa.table(
        {
            "id": pc.binary_join_element_wise("n", numbers[0], "/", numbers[1], ".JPEG", ""),
            "class_index": labels.astype(np.int32),
            "row": np.arange(len(labels), dtype=np.int32),
            "prediction": np.where(right, labels, wrong).astype(np.int32),
            "true_logit": logit,
            "true_probability": (1 / (1 + np.exp(6 - logit))).astype(np.float32),
            "true_rank": np.where(right, 0, 1 + uniform(rows, salt + 3) * 100).astype(np.int32),
            "forgetting": forgetting,
        }
    )


def write_tables(folder: Path, rows: int, num_classes: int, per_part: int, order: str) -> None:
    """Tables of a teacher and a filter in the layout of the score stage."""
    labels = np.repeat(np.arange(num_classes), class_sizes(rows, num_classes))
    if order == "shuffled":
        labels = np.random.default_rng(1).permutation(labels)
    for name, accuracy, salt in (("teacher", 0.8, 10), ("filter", 0.4, 20)):
        (folder / name / "parts").mkdir(parents=True)
        for number, begin in enumerate(range(0, rows, per_part)):
            part = labels[begin : begin + per_part]
            table = score_table(part, begin, num_classes, accuracy, salt)
            path = folder / name / "parts" / f"{number:05d}.parquet"
            pq.write_table(table, path, compression="zstd")


def prepare(folder: Path, output: Path, count: int, num_classes: int) -> Callable[[], object]:
    """The call that is measured: CCFS's order, on Ray that already runs."""
    from upath import UPath

    from raydd.engine.selection.ranking import Ranking
    from raydd.engine.selection.select import _choose
    from raydd.store.artifacts import Artifact

    ranking = Ranking(
        ladder=("misclassified", "easiest", "other"),
        rung=rung,
        columns=("prediction", "forgetting"),
        difficulty=difficulty,
        order="simple",
        shortfall="rollover",  # as in ImageNet-21K, some classes have fewer images than asked for
    )
    tables = [Artifact(UPath(folder / name), name) for name in ("teacher", "filter")]
    asked = np.full(num_classes, count)
    return lambda: _choose(UPath(output), tables, ranking, asked, (), 0)


def rung(tables: list[dict[str, np.ndarray]]) -> np.ndarray:
    """0: teacher right and filter wrong; 1: other images that the teacher knows; 2: the rest."""
    teacher, other = (t["prediction"] == t["class_index"] for t in tables)
    return np.select([teacher & ~other, teacher], [0, 1], 2).astype(np.int8)


def difficulty(tables: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Forgetting events of the teacher's training."""
    return tables[0]["forgetting"]


def selection_digest(output: Path) -> tuple[int, str]:
    """Rows and hash of (class, rung, difficulty, id) in the order of choice."""
    columns = ["class_index", "rung", "difficulty", "id"]
    table = pq.read_table(output / "selection.parquet", columns=columns)
    content = hashlib.sha256()
    for name in columns:
        content.update("\n".join(map(str, table[name].to_pylist())).encode())
    return table.num_rows, content.hexdigest()


def drive(folder: Path, count: int, num_classes: int) -> None:
    """The measured process: start Ray, select, print when the selection began and ended."""
    from raydd.cluster.config import ClusterConfig
    from raydd.cluster.connect import connect

    connect(ClusterConfig())
    select = prepare(folder, folder / "selected", count, num_classes)
    time.sleep(3)  # Ray's helpers are still starting
    begin = time.time()
    select()
    print(json.dumps([begin, time.time()]))


def start(task: str, *words: object) -> subprocess.Popen[str]:
    """This script again, in a process of its own."""
    command = [sys.executable, __file__, "--task", task, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def measure(folder: Path, *words: object) -> Outcome:
    """One selection in a process of its own."""
    (folder / "selected").mkdir()
    driver = start("drive", folder, *words)
    with Sampler(root=driver.pid, interval=0.5) as sampler:
        output, _ = driver.communicate()
    if driver.returncode:
        raise SystemExit(f"the selection failed with exit code {driver.returncode}")
    begin, end = json.loads(output.splitlines()[-1])
    before = [s for s in sampler.samples if s.driver and s.clock < begin][-1]
    during = [before, *(s for s in sampler.samples if begin <= s.clock <= end)]
    return Outcome(
        end - begin,
        during[-1].cpu - before.cpu,
        max(during, key=lambda s: s.total),
        before.driver.rss,
        max(s.driver.rss for s in during if s.driver),
        *selection_digest(folder / "selected"),
    )


def run_case(
    root: Path, rows: int, num_classes: int, per_part: int, count: int, order: str
) -> Outcome:
    """Write the tables of one case, select, print, and remove the tables."""
    folder = Path(tempfile.mkdtemp(dir=root))
    if start("write", folder, rows, num_classes, per_part, order).wait():
        raise SystemExit("writing the tables failed")
    outcome = measure(folder, count, num_classes)
    shutil.rmtree(folder)
    print(
        f"{rows:>10} rows in {-(-rows // per_part):>4} parts: {outcome.seconds:5.1f} s "
        f"({outcome.cpu:.0f} s of processor time), "
        f"{outcome.chosen} chosen, all processes {mib(outcome.peak.total):.0f} MiB, driver RSS "
        f"{mib(outcome.driver_before):.0f} -> {mib(outcome.driver_peak):.0f} MiB, "
        f"sha256 {outcome.digest[:16]}",
        flush=True,
    )
    return outcome


def run_task(task: str, folder: str, *words: str) -> None:
    """What a process of its own is started for, so that its memory is its own, too."""
    if task == "write":
        rows, num_classes, per_part = map(int, words[:3])
        write_tables(Path(folder), rows, num_classes, per_part, words[3])
    else:
        drive(Path(folder), *map(int, words))


def main() -> None:
    """Measure a quarter of the rows, all rows, and all rows in other parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=14_000_000)
    parser.add_argument("--classes", type=int, default=21_841)
    parser.add_argument("--count", type=int, default=50, help="images per class")
    parser.add_argument("--part-rows", type=int, default=13_000)
    parser.add_argument("--other-part-rows", type=int, default=50_000, help="of the last case")
    parser.add_argument("--order", choices=("shuffled", "sorted"), default="shuffled")
    parser.add_argument("--quick", action="store_true", help="200,000 rows, 500 classes")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        run_task(*options.task)
        return
    if options.quick:
        options.rows, options.classes, options.count = 200_000, 500, 20
    with tempfile.TemporaryDirectory() as root:
        cases = [
            (options.rows // 4, options.part_rows),
            (options.rows, options.part_rows),
            (options.rows, options.other_part_rows),
        ]
        quarter, full, other = (
            run_case(Path(root), rows, options.classes, per_part, options.count, options.order)
            for rows, per_part in cases
        )
    print(f"who holds what at the peak of the full selection:\n{role_table(full.peak)}")
    print(f"equal for both partitionings: {full.digest == other.digest}")
    growth = full.driver_peak - full.driver_before - quarter.driver_peak + quarter.driver_before
    print(f"driver growth, all rows beyond a quarter of them: {mib(growth):+.0f} MiB")
    print(f"peak: {full.peak.total / 1e9:.2f} GB over all processes")
    print(f"value: {full.seconds:.1f} s")


if __name__ == "__main__":
    main()
