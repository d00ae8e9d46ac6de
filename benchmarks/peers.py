"""Processor seconds of raydd's work against plain PyTorch scripts that do the same, side by side.

    python benchmarks/peers.py ROOT [--quick] [--only pass run training forward layout head answers]

ROOT is a Hugging Face parquet folder with train and test files (columns image, label) of 32 pixels
and ten classes, such as CIFAR-10. Processor time of a whole process tree is counted, so that others
on the machine weigh little; one thread each. ``--quick`` takes 1,000 images, one round and
few epochs.

- ``pass``: one scoring pass of a thin ResNet, in one process, over images that both sides have
  decoded already (what that took is printed too); the plain side is a DataLoader over
  torchvision's transforms.
- ``run``: a whole ``ccfs`` run (20 images per class, 2 curricula, 10 epochs), ``plain_ccfs.py``
  against the command line, whose passes stay in one process, too; ours also trains the random
  rival, writes, checks and reports. Peak memory of all processes beside it.
- ``training``: ConvNet-3, width 128, instance norm, 10 images per class, against a bare loop of
  DD-Ranking's kind: views of the whole batch, hard labels, SGD.
- ``forward``: a forward pass whose process gives freed memory back, against one that keeps it.
- ``layout``: a step of networks with group norms, channels last against what is chosen here.
- ``head``: the answers of a layer of 21,841 classes at once, against a thousand at a time.
- ``answers``: a forward pass of 256 images at once, against a few at a time with norms folded, as
  a scoring pass asks.

A line for each: theirs over ours, larger is better. The last line is the smallest of them.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import plain_ccfs
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from engines import fresh_checkpoint, make_engine
from PIL import Image
from plain_ccfs import MEAN, NETWORK, SIDE, STD
from processes import Sampler
from torch import Tensor, nn
from torchvision.transforms import v2
from upath import UPath

from raydd.cluster.config import ClusterConfig
from raydd.cluster.connect import connect
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import image_table
from raydd.data.sources import open_source
from raydd.engine.passes.decode import stored_images
from raydd.engine.passes.score import score
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import train_network
from raydd.models.answers import answer
from raydd.models.fold import fold_batch_norm
from raydd.models.layout import laid_out, lay_out
from raydd.models.registry import ModelConfig, create_model
from raydd.ops.recipe import Recipe
from raydd.store.checkpoint import load_checkpoint
from raydd.store.memory import keep_memory
from raydd.store.tables import write_table

SEEN = Preprocessing(SIDE, SIDE, MEAN, STD)
CONVNET = ModelConfig("convnet3", 128, "instance")
CPU = torch.device("cpu")
IPC = 10


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of this process and all that it has started, while ``work`` is done."""
    sampler = Sampler(interval=0.2)
    with sampler:
        time.sleep(0.5)
        before = sampler.samples[-1].cpu
        work()
        time.sleep(0.5)
    return sampler.samples[-1].cpu - before


def report(name: str, theirs: float, ours: float) -> float:
    """Print both sides and return theirs over ours."""
    print(f"{name}: {theirs:.1f} s against {ours:.1f} s: {theirs / ours:.2f}", flush=True)
    return theirs / ours


def compare_passes(folder: Path, root: str, rounds: int) -> float:
    """One scoring pass, images decoded beforehand."""
    resources = connect(ClusterConfig(unit_workers=0))
    source = open_source("parquet", root, "train")
    engine = make_engine(folder / "stages", source, SEEN, resources)
    teacher = fresh_checkpoint(folder / "teacher", NETWORK, source.class_names, SEEN)
    network = load_checkpoint(teacher.folder)[0]
    decoded: list[Image.Image] = []
    labels: list[int] = []

    def load() -> None:
        for found, kept in zip(plain_ccfs.load(root, "train"), (decoded, labels), strict=True):
            kept.extend(found)

    loading = processor_seconds(load)
    storing = processor_seconds(lambda: stored_images(engine, SEEN))
    print(f"{len(labels)} images are decoded in {loading:.1f} s against {storing:.1f} s")
    theirs, ours = [], []
    for number in range(rounds):
        asked = replace(teacher, key=f"round {number}")
        theirs.append(processor_seconds(lambda: plain_ccfs.predict(network, decoded, labels)))
        ours.append(processor_seconds(lambda asked=asked: score(engine, asked, "teacher")))
    return report("pass", statistics.median(theirs), statistics.median(ours))


def compare_runs(folder: Path, root: str, epochs: int) -> float:
    """A whole CCFS run with a given teacher; ours makes its first images in two steps."""
    source = open_source("parquet", root, "train")
    teacher = fresh_checkpoint(folder / "teacher", NETWORK, source.class_names, SEEN).folder
    # a filter is tested once, as in all ccfs experiments here; theirs never
    recipe = f"{{epochs: {epochs}, batch_size: 25, test_points: 1}}"
    network = f"{{model: {{name: resnet10_thin, width: 16}}, recipe: {recipe}}}"
    words = {
        "theirs": ["benchmarks/plain_ccfs.py", root, str(teacher), f"--epochs={epochs}"],
        "ours": [
            "-m", "raydd.run", "dataset=parquet", f"dataset.root={root}",
            f"dataset.resolution={SIDE}", f"dataset.resize={SIDE}",
            f"teacher.checkpoint={teacher}", "teacher.min_top1=0", "protocol=ccfs_cpu",
            "protocol.seeds=1", f"protocol.recipe.epochs={epochs}", "method=ccfs",
            f"storage={folder / 'runs'}", "name=run", "method.ipc=20",
            "method.alpha=0.2", "method.synthesis.steps=2", "method.curricula=2",
            "method.difficulty.by=logit", f"method.filter_model={network}",
            "cluster.unit_workers=0",
        ],
    }  # fmt: skip
    seconds, peaks = {}, {}
    for side, command in words.items():
        run = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
        with Sampler(root=run.pid, interval=0.3) as sampler:
            if run.wait():
                raise SystemExit(f"the run failed: {' '.join(command)}")
        seconds[side], peaks[side] = sampler.samples[-1].cpu, sampler.peak().total / 1e9
    print(f"memory of a run: {peaks['theirs']:.2f} GB against {peaks['ours']:.2f} GB")
    return report("run", seconds["theirs"], seconds["ours"])


def compare_trainings(folder: Path, epochs: int, rounds: int) -> float:
    """ConvNet-3 on 100 images."""
    pixels = torch.randint(256, (10 * IPC, SIDE, SIDE, 3), dtype=torch.uint8)
    labels = torch.arange(10 * IPC) % 10
    slots = (torch.arange(10 * IPC) // 10).tolist()
    table = image_table(pixels.numpy(), labels.tolist(), slots, 0, [None] * len(slots), "synthetic")
    (folder / "set" / "parts").mkdir(parents=True)
    write_table(UPath(folder / "set" / "parts" / "00000.parquet"), table)
    recipe = Recipe(
        epochs=epochs, batch_size=10 * IPC, optimizer="sgd", learning_rate=0.01, weight_decay=5e-4,
        momentum=0.9, crop="pad", padding=4, mix="none",
    )  # fmt: skip
    job = TrainJob(
        folder="",
        model=CONVNET,
        class_names=tuple(map(str, range(10))),
        preprocessing=SEEN,
        images=(str(folder / "set"),),
        resolution=SIDE,
        recipe=recipe,
        flip=0.5,
        seed_parts=(0,),
        stage="train",
    )
    theirs, ours = [], []
    for number in range(rounds):
        place = folder / f"training{number}"
        place.mkdir()
        theirs.append(processor_seconds(lambda: plain_training(pixels, labels, epochs)))
        ours.append(
            processor_seconds(lambda place=place: train_network(replace(job, folder=str(place))))
        )
    return report("training", statistics.median(theirs), statistics.median(ours))


def plain_training(pixels: Tensor, labels: Tensor, epochs: int) -> None:
    """A bare loop: views of the whole batch, hard labels, channels first."""
    network = create_model(CONVNET, 10, SIDE)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    images = v2.functional.normalize(pixels.permute(0, 3, 1, 2).float() / 255, MEAN, STD)
    views = v2.Compose([v2.RandomCrop(SIDE, padding=4), v2.RandomHorizontalFlip()])
    for _ in range(epochs):
        order = torch.randperm(len(images))
        loss = F.cross_entropy(network(views(images[order])), labels[order])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def compare_forwards(rounds: int, batches: int) -> float:
    """Forward passes of 256 images in fresh processes, which give memory back or keep it."""
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for keeps, found in times.items():
            words = [sys.executable, __file__, "--child", str(int(keeps)), "--rounds", str(batches)]
            told = subprocess.run(words, check=True, capture_output=True, text=True)
            found.append(float(told.stdout))
    return report("forward", statistics.median(times[False]), statistics.median(times[True]))


def forward(keeps: bool, batches: int) -> None:
    """Print the processor seconds of so many batches of 256."""
    if keeps:
        keep_memory()
    torch.set_num_threads(1)
    network = lay_out(create_model(replace(NETWORK, width=32), 10, SIDE).eval(), CPU)
    images = laid_out(torch.randn(256, 3, SIDE, SIDE), network)
    with torch.inference_mode():
        network(images)
        print(repeated_seconds(lambda: network(images), batches))


def repeated_seconds(work: Callable[[], object], times: int) -> float:
    """Processor seconds of this process for doing the work so many times."""
    started = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - started


def compare_layouts(rounds: int) -> float:
    """A training step of networks with group norms."""
    ratios = []
    for name, width in (("resnet10_thin", 16), ("convnet3", 32)):
        model = ModelConfig(name, width, "instance")
        chosen, last = (
            lay_out(create_model(model, 10, SIDE), CPU),
            create_model(model, 10, SIDE).to(memory_format=torch.channels_last),
        )
        times = [(step_seconds(last), step_seconds(chosen)) for _ in range(rounds)]
        theirs, ours = (statistics.median(side) for side in zip(*times, strict=True))
        ratios.append(report(f"layout {model.name}", theirs, ours))
    return min(ratios)


def step_seconds(network: nn.Module) -> float:
    """Processor seconds of ten steps of 64 images."""
    images = laid_out(torch.randn(64, 3, SIDE, SIDE), network)
    labels = torch.arange(64) % 10

    def step() -> None:
        network.zero_grad()
        F.cross_entropy(network(images), labels).backward()

    return repeated_seconds(step, 10)


def compare_heads(rounds: int) -> float:
    """The answers of 256 images for ImageNet-21K's classes, from 128 and from 512 features."""
    ratios = []
    for features in (128, 512):
        head, images = nn.Linear(features, 21_841), torch.randn(256, features)
        theirs, ours = [], []
        for _ in range(rounds):
            theirs.append(asking_seconds(head, images))
            ours.append(asking_seconds(lay_out(copy.deepcopy(head), CPU), images))
        name = f"head of {features} features"
        ratios.append(report(name, statistics.median(theirs), statistics.median(ours)))
    return min(ratios)


@torch.inference_mode()
def compare_answers(rounds: int, times: int) -> float:
    """A forward pass of small networks."""
    ratios = []
    for name, width in (("resnet10_thin", 16), ("convnet3", 128)):
        network = lay_out(create_model(ModelConfig(name, width), 10, SIDE).eval(), CPU)
        folded = fold_batch_norm(network)
        images = laid_out(torch.randn(256, 3, SIDE, SIDE), network)
        theirs, ours = [], []
        for _ in range(rounds):
            theirs.append(repeated_seconds(partial(network, images), times))
            ours.append(repeated_seconds(partial(answer, folded, images), times))
        found = report(f"answers of {name}", statistics.median(theirs), statistics.median(ours))
        ratios.append(found)
    return min(ratios)


@torch.inference_mode()
def asking_seconds(head: nn.Module, images: Tensor) -> float:
    """Processor seconds of twenty answers."""
    head(images)
    return repeated_seconds(lambda: head(images), 20)


def smaller_copy(root: str, folder: Path, train: int, test: int) -> str:
    """The first images of a data set, as parquet files of 6,250 rows."""
    for split, count in (("train", train), ("test", test)):
        files = sorted(Path(root).rglob(f"{split}*.parquet"))
        table = pa.concat_tables(pq.read_table(path) for path in files)
        table = table.take(np.random.default_rng(0).permutation(table.num_rows)[:count])
        for number, begin in enumerate(range(0, count, 6250)):
            pq.write_table(table.slice(begin, 6250), folder / f"{split}-{number:05d}.parquet")
    return str(folder)


def main() -> None:
    """Measure the parts in turn."""
    parts = ["pass", "run", "training", "forward", "layout", "head", "answers"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--quick", action="store_true", help="1,000 images, one round")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        forward(bool(options.child), options.rounds)
        return
    torch.set_num_threads(1)
    rounds, epochs = (1, 2) if options.quick else (options.rounds, 20)
    run_epochs = 1 if options.quick else 10
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        size = (1_000, 250) if options.quick else (50_000, 10_000)
        needs_images = {"pass", "run"} & set(options.only)
        root = smaller_copy(options.root, folder / "images", *size) if needs_images else ""
        work = {
            "layout": lambda: compare_layouts(rounds),
            "head": lambda: compare_heads(rounds),
            "answers": lambda: compare_answers(rounds, 2 if options.quick else 8),
            "forward": lambda: compare_forwards(rounds, 4 if options.quick else 16),
            "training": lambda: compare_trainings(folder, epochs, rounds),
            "run": lambda: compare_runs(folder, root, run_epochs),
            "pass": lambda: compare_passes(folder / "pass", root, rounds),
        }
        ratios = [measure() for part, measure in work.items() if part in options.only]
    print(f"ratio: {min(ratios):.2f}")


if __name__ == "__main__":
    main()
