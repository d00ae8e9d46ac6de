"""From one worker to two, each pinned to a core with one thread: score, synthesize and evaluate.

Rates are counted between finished units, so that the start of processes is left out; a bare loop
over the same units in one process and in two, without Ray, tells what the machine itself allows.
Rounds of one and two workers take turns. Prints for each stage the efficiency (rate of two over
twice the rate of one), the overhead of Ray for synthesize (bare loop over one worker), and as its
last line the lowest efficiency. ``replay.py`` goes on to a thousand simulated workers.

    python benchmarks/scaling.py            # about ten minutes on 2 cores
    python benchmarks/scaling.py --quick
"""

import argparse
import io
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data as rd
from PIL import Image
from upath import UPath

from raydd.cluster.config import ClusterConfig
from raydd.cluster.connect import connect
from raydd.cluster.pool import run_units
from raydd.cluster.tasks import run_many
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import Reader, image_table
from raydd.data.sources import Shard, Source, open_source
from raydd.engine.passes.feed import encoded_rows, map_actors
from raydd.engine.passes.score import Scorer
from raydd.engine.passes.stream import DataConfig, run_pass
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherNetworks
from raydd.engine.synthesis.worker import SynthesizeJob, Synthesizer
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import train_network
from raydd.models.registry import ModelConfig, create_model
from raydd.ops.recipe import Recipe
from raydd.store.checkpoint import CheckpointCard, save_checkpoint
from raydd.store.tables import write_table
from raydd.store.units import Unit, plan_units

CLASSES, SIDE = 10, 32
NAMES = tuple(map(str, range(CLASSES)))
PREPROCESSING = Preprocessing(SIDE, SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
MODEL = ModelConfig("resnet18_small")


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of one worker and of two")
    parser.add_argument("--units", type=int, default=10, help="of synthesize, per round")
    parser.add_argument("--steps", type=int, default=3, help="of a unit of ten images")
    parser.add_argument("--shards", type=int, default=12, help="of score, 100 images each")
    parser.add_argument("--trainings", type=int, default=4, help="of evaluate, per round")
    parser.add_argument("--quick", action="store_true", help="one short round")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.units, chosen.shards, chosen.trainings = 1, 6, 8, 4
    return chosen


class Core:
    """The first core that no other worker of this measurement has taken; this process runs there.

    Args:
        folder: where the cores are marked as taken.
    """

    def __init__(self, folder: Path) -> None:
        for core in sorted(os.sched_getaffinity(0)):
            self.mark = folder / f"core{core}"
            try:
                self.mark.touch(exist_ok=False)
            except FileExistsError:
                continue
            os.sched_setaffinity(0, {core})
            return
        raise RuntimeError("more workers than cores")


class PinnedScorer(Scorer):
    """A scorer on a core of its own."""

    def __init__(self, cores: str, *arguments: Any) -> None:
        Core(Path(cores))
        super().__init__(*arguments)


def pinned_synthesizer(job: SynthesizeJob) -> Synthesizer:
    """A synthesizer on a core of its own."""
    Core(Path(job.folder))
    return Synthesizer(job)


def pinned_training(job: TrainJob) -> dict[str, Any]:
    """A training on a core of its own, which is free again afterwards."""
    everywhere = os.sched_getaffinity(0)
    core = Core(Path(job.folder).parent)
    try:
        return train_network(job)
    finally:
        core.mark.unlink()
        os.sched_setaffinity(0, everywhere)


class Bench:
    """The three stages, measured with any number of workers."""

    def __init__(self, root: Path, chosen: argparse.Namespace) -> None:
        self.root, self.chosen = root, chosen
        self.resources = connect(ClusterConfig(unit_workers=2))
        network = create_model(MODEL, CLASSES, SIDE)
        (root / "teacher").mkdir()
        save_checkpoint(
            UPath(root / "teacher"), network, CheckpointCard(MODEL, NAMES, PREPROCESSING)
        )
        self.source = write_source(root / "source", chosen.shards)
        self.images = write_images(root / "images")

    def synthesize(self, workers: int) -> float:
        """Units per second of the pool."""
        job, units = self._synthesize_job(), self._units()
        resources = replace(self.resources, unit_workers=workers)
        run_units(pinned_synthesizer, job, units, resources)
        return rate(Path(job.folder).glob("parts/*"), workers)

    def bare(self, workers: int) -> float:
        """Units per second of plain processes."""
        job, units = self._synthesize_job(), self._units()
        context = multiprocessing.get_context("spawn")
        processes = [
            context.Process(target=bare_loop, args=(job, units[n::workers])) for n in range(workers)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return rate(Path(job.folder).glob("parts/*"), workers)

    def score(self, workers: int) -> float:
        """Shards per second of the pass."""
        folder = self._folder()
        resources = replace(self.resources, parallel=workers)
        config = DataConfig(score_batch=50, memory_limit_mb=0)
        arguments = (str(folder), str(self.root / "teacher"), config, "cpu", 1)

        def flow(shards: Mapping[int, Shard]) -> rd.Dataset:
            rows = encoded_rows(self.source, shards)
            return map_actors(rows, PinnedScorer, arguments, config.score_batch, resources)

        run_pass(UPath(folder), self.source, flow, 0.0)
        return rate((folder / "parts").glob("*"), workers)

    def evaluate(self, workers: int) -> float:
        """Trainings per second."""
        folder = self._folder()
        jobs = [self._train_job(folder / str(n)) for n in range(self.chosen.trainings)]
        run_many(pinned_training, jobs, replace(self.resources, parallel=workers))
        return rate(folder.glob("*/outcome.json"), workers)

    def _synthesize_job(self) -> SynthesizeJob:
        folder, chosen = self._folder(), self.chosen
        config = SynthesisConfig(
            steps=chosen.steps, batch_size=CLASSES, start="noise", start_weight=0.0
        )
        (folder / "parts").mkdir()
        return SynthesizeJob(
            folder=str(folder),
            curriculum=0,
            networks=TeacherNetworks(str(self.root / "teacher"), None, config),
            config=config,
            start_images=None,
            reader=Reader(self.source, PREPROCESSING, max_pixels=1 << 20),
            seed=0,
            journal=None,
            device="cpu",
        )

    def _units(self) -> Sequence[Unit]:
        return plan_units(CLASSES, range(self.chosen.units), CLASSES)

    def _train_job(self, folder: Path) -> TrainJob:
        folder.mkdir()
        return TrainJob(
            folder=str(folder),
            model=ModelConfig("resnet10_thin", width=16),
            class_names=NAMES,
            preprocessing=PREPROCESSING,
            images=(self.images,),
            resolution=SIDE,
            recipe=Recipe(epochs=6, batch_size=50),
            flip=0.5,
            seed_parts=(0, folder.name),
            stage="evaluate",
        )

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.root))


def bare_loop(job: SynthesizeJob, units: Sequence[Unit]) -> None:
    """One unit after another."""
    import torch

    torch.set_num_threads(1)
    work = pinned_synthesizer(job)
    for unit in units:
        work(unit)


def rate(files: Any, workers: int) -> float:
    """Files per second after the first of each worker."""
    times = sorted(path.stat().st_mtime for path in files)
    return (len(times) - workers) / (times[-1] - times[workers - 1])


def write_source(folder: Path, shards: int) -> Source:
    """A parquet data set of noise, a hundred images per shard."""
    folder.mkdir()
    draws = np.random.default_rng(0)
    for shard in range(shards):
        rows = [
            {"image": {"bytes": png(draws), "path": ""}, "label": n % CLASSES} for n in range(100)
        ]
        name = f"train-{shard:05d}-of-{shards:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return open_source("parquet", str(folder), "train")


def png(draws: np.random.Generator) -> bytes:
    """An encoded image."""
    sink = io.BytesIO()
    Image.fromarray(draws.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def write_images(folder: Path) -> str:
    """A stage folder with fifty images of each class."""
    (folder / "parts").mkdir(parents=True)
    count = 50 * CLASSES
    pixels = np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    labels, slots = [n % CLASSES for n in range(count)], [n // CLASSES for n in range(count)]
    table = image_table(pixels, labels, slots, 0, [None] * count, "synthetic")
    write_table(UPath(folder) / "parts" / "00000.parquet", table)
    return str(folder)


def measure(side: Callable[[int], float], rounds: int) -> tuple[Sequence[float], float]:
    """Median rates of one and two workers, and the median efficiency."""
    pairs = [(side(1), side(2)) for _ in range(rounds)]
    rates = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return rates, statistics.median(two / (2 * one) for one, two in pairs)


def main() -> None:
    """Measure and print."""
    chosen = options()
    lowest = 9.9
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), chosen)
        overheads = []
        for _ in range(chosen.rounds):
            bare, ours = bench.bare(1), bench.synthesize(1)
            overheads.append(bare / ours - 1)
        print(
            f"Ray's overhead for synthesize: {statistics.median(overheads):+.1%} per unit",
            flush=True,
        )
        for name in ("bare", "synthesize", "evaluate", "score"):
            begin = time.perf_counter()
            (one, two), found = measure(getattr(bench, name), chosen.rounds)
            seconds = time.perf_counter() - begin
            print(f"{name:<10} 1: {one:5.2f}/s, 2: {two:5.2f}/s, efficiency {found:.3f} "
                  f"({seconds:.0f} s)", flush=True)  # fmt: skip
            if name != "bare":
                lowest = min(lowest, found)
    print(f"value: {lowest:.3f} lowest efficiency of two workers")


if __name__ == "__main__":
    main()
