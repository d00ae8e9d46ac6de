"""Bytes of soft labels in each form, and what a student loses where few logits are kept.

A synthetic set (``--classes`` classes in groups that resemble each other), a teacher trained on
many images of it, and a distilled set of ``--ipc`` images per class. The labels of all epochs are
made in every form by the engine itself; students of the same initialisations and recipe are trained
from full float16 logits, from the k largest with the probability of the rest, from full logits of
fewer epochs that are gone round again, from int8 logits, and from those with hard labels in the
middle half of the training. Bytes are those of the files. Last line: bytes of full float16 logits
over bytes of the ``--top-k`` largest.

    python benchmarks/labels.py --quick
    python benchmarks/labels.py --seeds 5
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from engines import make_engine
from torch import Tensor
from upath import UPath

from raydd.cluster.resources import Resources
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import image_table
from raydd.data.sources.counted import CountedSource
from raydd.engine.labels.data import LABELS, TEACHER, LabelConfig
from raydd.engine.labels.relabel import relabel
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import train_network
from raydd.models.registry import ModelConfig
from raydd.ops.intervals import mean_and_interval
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Artifact
from raydd.store.tables import write_table

SIDE, GROUP = 16, 10
HARD = "hard"
HARD_SPAN, SMOOTHING = (0.25, 0.75), 0.8  # of protocol=hald
PREPROCESSING = Preprocessing(SIDE, SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
FLIP = 0.0


def draw_images(classes: int, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, 3, 16, 16] and classes: shifted, scaled and noisy sums of smooth patterns.

    Ten classes share half of their pattern, so that a teacher has something to say about likeness.
    """
    fixed = torch.Generator().manual_seed(0)
    groups = torch.randn(-(-classes // GROUP), 3, 4, 4, generator=fixed)
    own = torch.randn(classes, 3, 6, 6, generator=fixed)
    shared = F.interpolate(groups, size=SIDE, mode="bilinear").repeat_interleave(GROUP, 0)[:classes]
    patterns = shared + F.interpolate(own, size=SIDE, mode="bilinear")
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(per_class)
    gain = 0.4 + 0.6 * torch.rand(len(labels), 1, 1, 1, generator=draws)
    shifts = torch.randint(-3, 4, (len(labels), 2), generator=draws)
    rows = (torch.arange(SIDE) - shifts[:, :1]) % SIDE
    columns = (torch.arange(SIDE) - shifts[:, 1:]) % SIDE
    index = torch.arange(len(labels))[:, None, None]
    moved = patterns[labels].permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    noisy = gain * moved + 0.9 * torch.randn(moved.shape, generator=draws)
    pixels = (127.5 + 45 * noisy).round().clamp(0, 255).to(torch.uint8)
    return pixels, labels


def write_images(folder: Path, classes: int, per_class: int, seed: int) -> str:
    """The images of `draw_images` as an image artifact."""
    pixels, labels = draw_images(classes, per_class, seed)
    (folder / "parts").mkdir(parents=True)
    count = len(labels)
    table = image_table(
        pixels.numpy(), labels.tolist(), list(range(count)), 0, [None] * count, "synthetic"
    )
    write_table(UPath(folder / "parts" / "00000.parquet"), table)
    return str(folder)


def files_size(folder: Path) -> int:
    """Bytes of all files of a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.glob("*"))


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--ipc", type=int, default=10, help="distilled images per class")
    parser.add_argument("--epochs", type=int, default=60, help="of labels and students")
    parser.add_argument("--teacher-images", type=int, default=60, help="per class")
    parser.add_argument("--teacher-epochs", type=int, default=10)
    parser.add_argument("--test-images", type=int, default=50, help="per class")
    parser.add_argument("--kept", type=int, nargs="*", default=[1, 2, 5, 10, 20, 50])
    parser.add_argument(
        "--reuse", type=int, nargs="*", default=[2, 5, 10], help="trainings' epochs per label epoch"
    )
    parser.add_argument("--top-k", type=int, default=10, help="k of the last line")
    parser.add_argument("--seeds", type=int, default=3, help="students per form")
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--width", type=int, default=32, help="of the teacher; students have 16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="under a minute on 2 cores")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.ipc, chosen.epochs, chosen.seeds = 3, 8, 1
        chosen.kept, chosen.reuse, chosen.width = [10], [], 16
        chosen.teacher_images, chosen.teacher_epochs, chosen.test_images = 20, 10, 5
    return chosen


class Bench:
    """One set, one teacher, and labels and students in every form."""

    def __init__(self, chosen: argparse.Namespace, root: Path) -> None:
        self.chosen, self.root = chosen, root
        sets = {"real": chosen.teacher_images, "test": chosen.test_images, "set": chosen.ipc}
        self.images = {
            name: write_images(root / name, chosen.classes, count, seed)
            for seed, (name, count) in enumerate(sets.items(), start=1)
        }
        self.recipe = Recipe(
            epochs=chosen.epochs,
            batch_size=100,
            learning_rate=0.002,
            crop_scale=(0.3, 1.0),
            temperature=chosen.temperature,
            test_points=1,
        )

    def train(self, name: str, images: str, recipe: Recipe, width: int, **change: object) -> float:
        """Test accuracy of one network, percent."""
        job = TrainJob(
            folder=str(self.root / name),
            model=ModelConfig("resnet10_thin", width=width),
            class_names=tuple(map(str, range(self.chosen.classes))),
            preprocessing=PREPROCESSING,
            images=(images,),
            resolution=SIDE,
            recipe=recipe,
            flip=FLIP,
            seed_parts=(0, "benchmark"),
            stage=name,
            test=self.images["test"],
        )
        (self.root / name).mkdir(parents=True, exist_ok=True)
        return 100 * train_network(replace(job, **change))["top1_last"]

    def label(self, name: str, config: LabelConfig) -> Path:
        """Make the labels of one form in this process; returns their stage folder."""
        classes, ipc = self.chosen.classes, self.chosen.ipc
        alone = Resources(0, 0, False, self.chosen.threads, 1, 0)
        engine = make_engine(self.root, CountedSource(classes, classes), PREPROCESSING, alone)
        images = Artifact(UPath(self.images["set"]), "set", {"counts": [ipc] * classes})
        teacher = Artifact(UPath(self.root / "teacher"), "teacher")
        engine = replace(engine, labels=config, flip=FLIP)
        made = relabel(engine, [images], teacher, self.recipe, name)
        assert made is not None  # no form of these leaves it to the teacher
        return Path(str(made.folder))

    def students(self, name: str, recipe: Recipe, **change: object) -> list[float]:
        """Test accuracy of the students of one form, one for each seed."""
        return [
            self.train(
                f"{name}-{seed}",
                self.images["set"],
                recipe,
                16,
                seed_parts=(seed, "student"),
                **change,
            )
            for seed in range(self.chosen.seeds)
        ]


def main() -> None:
    """Print a line per form and, last, the ratio of bytes."""
    chosen = options()
    torch.set_num_threads(chosen.threads)
    print(vars(chosen))
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(chosen, Path(root))
        squeeze = replace(bench.recipe, epochs=chosen.teacher_epochs, crop="none", mix="none")
        top1 = bench.train("teacher", bench.images["real"], squeeze, chosen.width)
        print(f"teacher: {top1:.1f} % test; images: {files_size(Path(root) / 'set' / 'parts')} B")
        teacher_size = (Path(root) / "teacher" / "model.safetensors").stat().st_size
        forms = {"seeded": LabelConfig("seeded"), "full": LabelConfig("stored")}
        forms |= {
            f"full/{n}": LabelConfig("stored", epochs=max(1, chosen.epochs // n))
            for n in chosen.reuse
        }
        kept = sorted({*chosen.kept, chosen.top_k})
        forms |= {f"top {k}": LabelConfig("stored", top_k=k) for k in kept}
        forms["int8"] = LabelConfig("stored", logits="int8")
        few = {
            f"int8/{n}": LabelConfig("stored", epochs=max(1, chosen.epochs // n), logits="int8")
            for n in chosen.reuse
        }
        forms |= few | {f"{name} {HARD}": config for name, config in few.items()}
        views = chosen.classes * chosen.ipc * chosen.epochs
        print(
            f"{'form':<13}{'label bytes':>13}{'/view':>8}{'teacher':>10}{'s':>7}   student, top-1 %"
        )
        online = bench.students("online", bench.recipe, teacher=str(Path(root) / "teacher"))
        print(row("online", 0, views, teacher_size, 0.0, online, None))
        smooth = replace(bench.recipe, label_smoothing=SMOOTHING)
        print(row(HARD, 0, views, 0, 0.0, bench.students(HARD, smooth), None))
        spanned = replace(smooth, hard_span=HARD_SPAN)
        sizes: dict[str, int] = {}
        full: list[float] | None = None
        for name, config in forms.items():
            started = time.perf_counter()
            folder = bench.label(name, config)
            seconds = time.perf_counter() - started
            sizes[name] = files_size(folder / LABELS)
            recipe = spanned if name.endswith(HARD) else bench.recipe
            scores = bench.students(f"student {name}", recipe, labels=str(folder / LABELS))
            beside = files_size(folder / TEACHER)
            print(row(name, sizes[name], views, beside, seconds, scores, full), flush=True)
            full = scores if name == "full" else full
    print(f"ratio: {sizes['full'] / sizes[f'top {chosen.top_k}']:.2f}")


def row(
    name: str,
    size: int,
    views: int,
    teacher: int,
    seconds: float,
    scores: list[float],
    full: list[float] | None,
) -> str:
    """One line of the table; the difference to full logits is paired by seed."""
    text = f"{name:<13}{size:>13}{size / views:>8.1f}{teacher:>10}{seconds:>7.1f}"
    text += f"   {statistics.mean(scores):5.2f}"
    if full is not None:
        mean, half = mean_and_interval([a - b for a, b in zip(scores, full, strict=True)])
        text += f"  ({mean:+.2f} +- {half:.2f} to full)"
    return text


if __name__ == "__main__":
    main()
