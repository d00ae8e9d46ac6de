"""A pass whose device costs nothing: how fast do the CPUs feed it? Part of ``score.py``.

Ray is told of one GPU; behind it stands an actor that takes the pixels of a batch and answers at
once. Both sides read and decode the same JPEG files, of 500 x 375 pixels to 224, on the same cores,
in turn. Memory is that of all processes (see ``processes.py``).
"""

import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
from engines import fresh_checkpoint, make_engine
from processes import Sampler, mean, mib
from stream import encoded_pool, write_images
from upath import UPath

from raydd.cluster.config import ClusterConfig
from raydd.cluster.connect import connect
from raydd.cluster.resources import Resources
from raydd.data.images import decode
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import pixel_array
from raydd.data.sources import Source, open_source
from raydd.engine.passes.network import RowNetwork, ask_network
from raydd.engine.passes.stream import DataConfig
from raydd.models.registry import ModelConfig
from raydd.store.artifacts import Artifact

SIDE, SHARD_BYTES = 224, 50 << 20
KILOBYTES = 92  # with which ``encoded_pool`` draws 500 x 375 pixels
SEEN = Preprocessing(SIDE, 256, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Free(RowNetwork):
    """Takes a batch of decoded rows and answers at once."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows without their pixels, which were held as the network's input would be."""
        pixels = pixel_array(batch.column("pixels"), SIDE)
        rows = batch.drop_columns(["pixels"])
        return rows.append_column("first", pa.array(pixels[:, 0, 0, 0].astype(np.int32)))


@dataclass(frozen=True)
class Pace:
    """Images per second, from the start of the stage and from its first finished part."""

    whole: float
    steady: float
    peak_mb: float
    growth: float


def measure(source: Source, checkpoint: Artifact, resources: Resources, rows: int) -> Pace:
    """One pass of the product."""
    with tempfile.TemporaryDirectory() as folder, Sampler(interval=2.0) as sampler:
        engine = make_engine(folder, source, SEEN, resources, DataConfig())
        path, started = UPath(folder) / "pass", time.time()
        ask_network(engine, Free, path, checkpoint, stored=None)
        seconds = time.time() - started
        ends = sorted((Path(str(path)) / "parts").glob("*"), key=lambda part: part.stat().st_mtime)
        clock = ends[-1].stat().st_mtime - ends[0].stat().st_mtime
    first = rows / len(ends)
    quarter, half = sampler.between(0.25, 0.5), sampler.between(0.5, 1)
    early, late = (mean(samples, lambda sample: sample.total) for samples in (quarter, half))
    return Pace(rows / seconds, (rows - first) / clock, mib(sampler.peak().total), late / early - 1)


def _bare(source: Source, index: int, count: int, gate, results) -> None:
    gate.wait()
    rows = 0
    for shard in source.shards()[index::count]:
        for row in source.read(shard):
            decode(row.image, SEEN)
            rows += 1
    results.put(rows)


def run_bare(source: Source, processes: int) -> float:
    """Images per second of bare processes that read and decode, their start left out."""
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(processes + 1), context.Queue()
    workers = [
        context.Process(target=_bare, args=(source, i, processes, gate, results))
        for i in range(processes)
    ]
    for worker in workers:
        worker.start()
    gate.wait()
    started = time.perf_counter()
    rows = sum(results.get() for _ in workers)
    seconds = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return rows / seconds


def main(images: int, rounds: int) -> float:
    """Measure both sides in turn; returns the median ratio of the paces once both run."""
    cores = os.cpu_count() or 1
    store = 300 << 20  # of a private cluster
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=cores, num_gpus=1, object_store_memory=store, **quiet)
    resources = replace(connect(ClusterConfig(use_gpu=True)), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "images"
        root.mkdir()
        pool = encoded_pool(100, KILOBYTES)
        size = sum(map(len, pool)) / len(pool)
        rows = write_images(root, "parquet", pool, round(images * size), SHARD_BYTES)
        source = open_source("parquet", str(root), "train")
        checkpoint = fresh_checkpoint(
            Path(folder) / "network", ModelConfig("convnet3", width=8), source.class_names, SEEN
        )
        ratios = []
        for _ in range(rounds):
            theirs, ours = run_bare(source, cores), measure(source, checkpoint, resources, rows)
            ratios.append(ours.steady / theirs)
            print(
                f"{rows} images of {size / 1000:.0f} kB: {cores} bare processes {theirs:.0f}/s, "
                f"ours {ours.steady:.0f}/s once it runs, {ours.whole:.0f}/s with its start; all "
                f"processes at most {ours.peak_mb:.0f} MiB, growth {ours.growth:+.1%}",
                flush=True,
            )
        pace = np.median(ratios) * theirs / cores
        minutes = 14.2e6 / (128 * pace) / 60
        print(
            f"arithmetic: 16 cores beside a GPU feed it {16 * pace:.0f} images/s; ImageNet-21K, "
            f"14.2 million images, takes 8 GPUs with 128 cores {minutes:.0f} minutes a pass, where "
            "the devices keep up"
        )
    return float(np.median(ratios))
