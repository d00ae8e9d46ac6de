"""Peak memory of a whole CCFS run on 100,000 images of 64 px, over all processes (aim: 3 GB).

    python benchmarks/memory.py [--images 100000] [--quick] [key=value ...]

The script writes a parquet data set in the Hugging Face layout (200 classes, JPEG files whose class
a small network can learn) into a temporary folder, starts ``python -m raydd.run method=ccfs ...``
on it as a user would, with tiny networks and short schedules, all else at its default, and samples
the memory of the whole process tree, Ray's daemons included (see ``processes.py``; Linux only).
Words with an equals sign are further overrides. It prints every stage with its peak, and who holds
what at the highest one. Last line: the peak.
"""

import argparse
import io
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from processes import Sample, Sampler, mib, role_table

CELLS = 8  # a class is a pattern of 8 x 8 colours, an image is that pattern and its own
ROWS_PER_FILE = 10_000

MODEL = "{name: convnet2, width: 8}"  # the memory of weights is not what is measured
OVERRIDES = {
    "ccfs": [
        "method.ipc=20", "method.shortfall=easiest", "method.synthesis.steps=4",
        f"method.filter_model.model={MODEL}", "method.filter_model.recipe.epochs=1",
    ],
    "curricular": [
        "method.ipc=6", "method.boundaries=[3]", "method.synthesis.steps=4",
        f"method.student.model={MODEL}", "method.student.recipe.epochs=1",
    ],
}  # fmt: skip
SHORT = [
    f"teacher.model={MODEL}", "teacher.recipe.epochs=1", "teacher.recipe.warmup_epochs=0",
    "teacher.recipe.batch_size=128", "teacher.recipe.padding=4", "teacher.min_top1=0",
    f"protocol.architectures=[{MODEL}]", "protocol.seeds=1", "protocol.recipe.epochs=2",
]  # fmt: skip


@dataclass
class Stage:
    """A stage as the progress lines tell it; clock times."""

    label: str
    begin: float
    end: float = float("inf")


def write_split(root: Path, split: str, count: int, num_classes: int, side: int) -> None:
    """Write ``data/SPLIT-NNNNN.parquet`` files with images of all classes in turn."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    patterns = np.random.default_rng(0).integers(0, 256, (num_classes, CELLS, CELLS, 3))
    draws = np.random.default_rng([len(split), count])
    for number, begin in enumerate(range(0, count, ROWS_PER_FILE)):
        labels = np.arange(begin, min(begin + ROWS_PER_FILE, count)) % num_classes
        own = draws.integers(0, 256, (len(labels), CELLS, CELLS, 3))
        coarse = ((patterns[labels] + own) // 2).astype(np.uint8)
        rows = [
            {"bytes": encode(pixels, side, draws), "path": f"{begin + i:06d}.jpg"}
            for i, pixels in enumerate(coarse)
        ]
        table = pa.table({"image": rows, "label": pa.array(labels, pa.int64())})
        pq.write_table(table, root / "data" / f"{split}-{number:05d}.parquet", row_group_size=1000)


def encode(coarse: np.ndarray, side: int, draws: np.random.Generator) -> bytes:
    """A JPEG of the pattern at full size with noise."""
    image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    noise = draws.integers(-12, 13, (side, side, 1), dtype=np.int16)
    sink = io.BytesIO()
    pixels = (np.asarray(image) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(sink, "JPEG", quality=85)
    return sink.getvalue()


def command(folder: Path, method: str, side: int, overrides: list[str]) -> list[str]:
    """The command line under test."""
    return [
        sys.executable, "-m", "raydd.run", f"method={method}", "dataset=parquet",
        f"dataset.root={folder / 'images'}", f"dataset.resolution={side}",
        f"dataset.resize={side}", f"storage={folder / 'runs'}", "verbose=true",
        *SHORT, *OVERRIDES[method], *overrides,
    ]  # fmt: skip


def follow(run: subprocess.Popen[str], stages: list[Stage]) -> None:
    """Print the run's output and note when its stages begin and end."""
    assert run.stdout is not None
    for line in run.stdout:
        print(f"  {line}", end="", flush=True)
        words = line[:34].strip(), line[34:].strip()
        if words[1] == "started":
            stages.append(Stage(words[0], time.time()))
        elif re.search(r"[0-9.]+ s$", words[1]):
            for stage in stages:
                if stage.label == words[0]:
                    stage.end = time.time()


def stage_table(stages: list[Stage], samples: list[Sample]) -> str:
    """Every stage with its peak."""
    lines = [f"{'stage':<34}{'seconds':>8}{'peak MiB':>10}{'driver RSS':>12}  biggest worker"]
    first, last = samples[0].clock, samples[-1].clock
    whole = [Stage("before the first stage", first, stages[0].begin if stages else last)]
    after = max((s.end for s in stages if s.end <= last), default=last)
    for stage in [*whole, *stages, Stage("after the last stage", after, last)]:
        during = [s for s in samples if stage.begin <= s.clock <= stage.end]
        if not during:
            continue
        peak = max(during, key=lambda s: s.total)
        driver = max(s.driver.rss for s in during if s.driver)
        worker = peak.biggest_worker
        lines.append(
            f"{stage.label:<34}{min(stage.end, last) - stage.begin:8.1f}{mib(peak.total):10.0f}"
            f"{mib(driver):12.0f}  " + (f"{mib(worker.pss):.0f} {worker.role}" if worker else "-")
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class Run:
    """One start of the command line."""

    seconds: float
    stages: list[Stage]
    sampler: Sampler
    code: int

    def check(self) -> None:
        """End here where the run has failed."""
        if self.code:
            raise SystemExit(f"the run failed with exit code {self.code}")


def start(words: list[str], interval: float = 1.0) -> Run:
    """Run the command line and sample its memory every ``interval`` seconds."""
    stages: list[Stage] = []
    begin = time.time()
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    reader = threading.Thread(target=follow, args=(run, stages))
    reader.start()
    with Sampler(root=run.pid, interval=interval) as sampler:
        code = run.wait()
    reader.join()
    return Run(time.time() - begin, stages, sampler, code)


def main() -> None:
    """Write the data set, run the command, report the peak of every stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--test-images", type=int, default=2_000)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--side", type=int, default=64, help="of an image, pixels")
    parser.add_argument("--method", choices=sorted(OVERRIDES), default="ccfs")
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between samples")
    parser.add_argument("--quick", action="store_true", help="2,000 images, 10 classes")
    parser.add_argument("overrides", nargs="*", help="key=value of the command line")
    options = parser.parse_intermixed_args()
    if options.quick:
        options.images, options.test_images, options.classes = 2_000, 200, 10
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split, count in (("train", options.images), ("test", options.test_images)):
            write_split(folder / "images", split, count, options.classes, options.side)
        words = command(folder, options.method, options.side, options.overrides)
        print(" ".join(words[1:]).replace(name, "FOLDER"))
        run = start(words, options.interval)
    sampler = run.sampler
    print(sampler.table())
    print(stage_table(run.stages, sampler.samples))
    peak = sampler.peak()
    cpu = sampler.samples[-1].cpu
    print(f"{run.seconds:.0f} s ({cpu:.0f} s of processor time), highest at {peak.seconds:.0f} s:")
    print(role_table(peak))
    run.check()
    print(f"value: {peak.total / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
