"""Rows per second of the score stage against a bare two-process loop: same decode, same forward.

    python benchmarks/score.py ROOT [--quick]
    python benchmarks/score.py --logical-gpu [--images 24000] [--quick]

ROOT is a Hugging Face parquet folder with train files (columns image, label). Both sides run in
turn on this machine, ``--rounds`` times, with as many processes as cores and one thread each; the
bare side reads the same shards, decodes with the same function and runs the same float32 forward,
without Ray, resume or a table. The start of processes is left out for the bare side and counts for
ours: Ray Data, actors that import torch and load the model. Last line: ours over bare.

With ``--logical-gpu`` a device that costs nothing is fed by the CPUs, see ``logical_gpu.py``; last
line: images per second over those of bare processes that only decode, both once they run.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time

import logical_gpu
import torch
from engines import make_engine
from upath import UPath

from raydd.cluster.config import ClusterConfig
from raydd.cluster.connect import connect
from raydd.cluster.resources import Resources
from raydd.data.images import decode
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source, open_source
from raydd.engine.passes.score import score
from raydd.engine.passes.stream import DataConfig
from raydd.models.preprocess import normalise
from raydd.models.registry import ModelConfig, create_model
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import CheckpointCard, load_card, load_checkpoint, save_checkpoint


def bare(source: Source, folder: str, batch: int, index: int, count: int, gate, results) -> None:
    """One process of the bare loop: every ``count``-th shard, decoded and scored in batches."""
    torch.set_num_threads(1)
    network, card = load_checkpoint(UPath(folder))
    network = network.eval().to(memory_format=torch.channels_last)
    gate.wait()
    rows = right = 0
    for shard in source.shards()[index::count]:
        pixels, labels = [], []
        for row in source.read(shard):
            pixels.append(torch.from_numpy(decode(row.image, card.preprocessing)))
            labels.append(row.class_index)
            if len(pixels) == batch:
                right += forward(network, card, pixels, labels)
                rows += len(pixels)
                pixels, labels = [], []
        if pixels:
            right += forward(network, card, pixels, labels)
            rows += len(pixels)
    results.put((rows, right))


@torch.inference_mode()
def forward(network, card, pixels, labels) -> int:
    """Correct predictions of one batch."""
    images = normalise(
        torch.stack(pixels).permute(0, 3, 1, 2), card.preprocessing.mean, card.preprocessing.std
    )
    logits = network(images.contiguous(memory_format=torch.channels_last))
    return int((logits.argmax(1) == torch.tensor(labels)).sum())


def run_bare(source: Source, folder: str, batch: int, processes: int) -> float:
    """Seconds of the bare loop from a common start to its last row."""
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(processes + 1), context.Queue()
    workers = [
        context.Process(target=bare, args=(source, folder, batch, i, processes, gate, results))
        for i in range(processes)
    ]
    for worker in workers:
        worker.start()
    gate.wait()
    started = time.perf_counter()
    for _ in workers:
        results.get()
    seconds = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return seconds


def run_ours(source: Source, checkpoint: Artifact, batch: int, resources: Resources) -> float:
    """Seconds of the whole score stage."""
    with tempfile.TemporaryDirectory() as folder:
        preprocessing = load_card(checkpoint.folder).preprocessing
        config = DataConfig(score_batch=batch)
        engine = make_engine(folder, source, preprocessing, resources, config)
        started = time.perf_counter()
        score(engine, checkpoint, "teacher")
        return time.perf_counter() - started


def main() -> None:
    """Measure both sides in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?")
    parser.add_argument("--logical-gpu", action="store_true")
    parser.add_argument("--images", type=int, default=24000, help="with --logical-gpu")
    parser.add_argument("--model", default="resnet10_thin")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    if options.logical_gpu:
        images, rounds = (6000, 1) if options.quick else (options.images, options.rounds)
        print(f"ratio: {logical_gpu.main(images, rounds):.2f}")
        return
    if not options.root:
        parser.error("ROOT is missing")
    source = open_source("parquet", options.root, "train")
    rows = int(source.class_counts().sum())
    resources = connect(ClusterConfig())
    with tempfile.TemporaryDirectory() as folder:
        network = create_model(
            ModelConfig(options.model, options.width), len(source.class_names), options.resolution
        )
        side = options.resolution
        card = CheckpointCard(
            ModelConfig(options.model, options.width), source.class_names,
            Preprocessing(side, side, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        )  # fmt: skip
        save_checkpoint(UPath(folder), network, card)
        ratios = []
        for _ in range(1 if options.quick else options.rounds):
            theirs = run_bare(source, folder, options.batch, resources.parallel)
            ours = run_ours(source, Artifact(UPath(folder), "bench"), options.batch, resources)
            ratios.append(theirs / ours)
            print(f"{rows} rows: bare {rows / theirs:.0f}/s, ours {rows / ours:.0f}/s")
    print(f"ratio: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
