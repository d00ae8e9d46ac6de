"""What ``plan=true`` counts against what a run takes, in seconds of the processor (aim: 1.5 times).

    python benchmarks/plan.py /data/cifar10 [--quick] [key=value ...]

A whole CCFS run on CIFAR-10 (parquet), planned and then made in a temporary storage: a teacher, a
synthesised core, a filter, real images, judge. CPU seconds of this process and of all of Ray's are
summed up per stage (see ``processes.py``), so that what else the machine does hardly matters.
``--quick`` takes an eighth of the training images. Words with an equals sign are further overrides.
Last line: planned seconds over used ones.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from processes import Sampler

from raydd import session
from raydd.cluster.connect import local_resources
from raydd.config.tree import compose_config
from raydd.plan.calibrate import calibrate
from raydd.plan.machines import stage_seconds
from raydd.plan.planner import walk
from raydd.store.artifacts import Stages
from raydd.store.progress import Progress

RUN = [
    "+experiment=ccfs_cifar10_cpu", "dataset.image_column=image", "method.ipc=20",
    "method.curricula=1", "method.alpha=0.5", "method.synthesis.steps=60", "protocol.seeds=2",
    "teacher.recipe.epochs=2", "teacher.recipe.test_points=1", "protocol.recipe.epochs=15",
    "cluster.num_workers=0",
]  # fmt: skip


def note_stages() -> list[tuple[str, float, float]]:
    """Note every stage from now on: name, begin and end by the clock."""
    noted: list[tuple[str, float, float]] = []
    make = Stages.run

    def run(self, name, work, **arguments):
        began = time.time()
        artifact = make(self, name, work, **arguments)
        noted.append((f"{name} {arguments.get('title', '')}".strip(), began, time.time()))
        return artifact

    Stages.run = run
    return noted


def first_files(root: Path, folder: Path) -> Path:
    """Links to the first parquet file of each split."""
    for split in ("train", "test"):
        first = min(path for path in root.rglob(f"{split}-*.parquet"))
        (folder / first.name).symlink_to(first.resolve())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--quick", action="store_true")
    options, words = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "data").mkdir()
        root = first_files(options.root, place / "data") if options.quick else options.root
        config = compose_config([*RUN, f"dataset.root={root}", f"storage={place / 'runs'}", *words])
        engine, rows = walk(config, Progress())
        cluster, cores = config.cluster, os.cpu_count() or 1
        machine = calibrate(rows, engine, local_resources(cluster), cores, cluster.plan_seconds)
        # all work on one core, one after the other
        here = replace(machine, workers=1, parallel=1, cores=1)
        planned: dict[str, float] = {}
        for row in rows:
            planned[row.stage] = planned.get(row.stage, 0) + stage_seconds(row, here)
        noted = note_stages()
        with Sampler() as sampler:
            session.run(config, Progress())
    clock, cpu = zip(*((sample.clock, sample.cpu) for sample in sampler.samples), strict=True)
    used: dict[str, float] = {}
    for stage, began, ended in noted:
        before, after = np.interp([began, ended], clock, cpu)
        used[stage] = used.get(stage, 0) + after - before
    print(f"{'stage':<32}{'planned s':>12}{'used s':>12}{'ratio':>8}")
    for stage, seconds in used.items():
        ratio = planned.get(stage, 0) / max(seconds, 0.01)
        print(f"{stage:<32}{planned.get(stage, 0):>12.1f}{seconds:>12.1f}{ratio:>8.2f}")
    print(f"\nratio: {sum(planned.values()) / sum(used.values()):.2f}")


if __name__ == "__main__":
    main()
