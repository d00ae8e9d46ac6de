"""ImageNet-21K's cardinality on one machine: rows per second, memory, files, and a second start.

    python benchmarks/rehearsal.py [--images 14197122] [--classes 21841] [--method ccfs] [--quick]

Real JPEG files of 16 pixels in parquet files of 50,000 rows, classes of very unequal size, some
hundred planted faults (cut files, no files at all, labels that mean nothing), and a teacher that
knows nothing: what a pass costs does not depend on what it finds. The run is the command line's:
two curricula, 2 images per class, few steps, nobody judged. ``--folder`` keeps the data set and the
runs from one call to the next, so that a run that was killed is continued; else all is removed.

Prints the stages with their peak memory, what lies on disk, and how long the same command takes
when all is found finished. Last line: rows per second of the slowest pass.
"""

import argparse
import hashlib
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from engines import fresh_checkpoint
from memory import stage_table, start
from PIL import Image
from processes import mib

from raydd.data.preprocessing import Preprocessing
from raydd.models.registry import ModelConfig

SIDE, ROWS_PER_FILE, POOL, FAULTS, LEAST = 16, 50_000, 4096, 300, 8
SEEN = Preprocessing(SIDE, SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
MODEL = ModelConfig("convnet2", 8)
METHODS = {
    "curricular": [
        "method=curricular", "method.boundaries=[1]", "method.synthesis.steps=2",
        "method.student.model={name: convnet2, width: 8}", "method.student.recipe.epochs=1",
    ],
    "ccfs": [
        "method=ccfs", "method.alpha=0.5", "method.curricula=1", "method.difficulty.by=logit",
        "method.synthesis.steps=2", "method.filter_model.model={name: convnet2, width: 8}",
        "method.filter_model.recipe.epochs=1",
    ],
}  # fmt: skip


def class_sizes(images: int, classes: int) -> np.ndarray:
    """Images of each class, int64 [C]: at least eight, the largest hundreds of times as many."""
    draws = np.random.default_rng(0)
    shares = draws.lognormal(sigma=1.0, size=classes)
    sizes = LEAST + np.floor(shares / shares.sum() * (images - LEAST * classes)).astype(np.int64)
    sizes[: images - sizes.sum()] += 1
    return sizes


def encoded_pool() -> list[bytes]:
    """Distinct small JPEG files."""
    draws = np.random.default_rng(1)
    pool = []
    for _ in range(POOL):
        coarse = draws.integers(0, 256, (4, 4, 3), np.uint8)
        sink = io.BytesIO()
        Image.fromarray(coarse).resize((SIDE, SIDE)).save(sink, "JPEG", quality=80)
        pool.append(sink.getvalue())
    return pool


def write_split(root: Path, split: str, labels: np.ndarray, pool: list[bytes], faults: int) -> None:
    """Write ``SPLIT-NNNNN.parquet`` files; those that are there already are left alone."""
    broken = set(np.random.default_rng(2).choice(len(labels), faults, replace=False).tolist())
    for number, begin in enumerate(range(0, len(labels), ROWS_PER_FILE)):
        path = root / f"{split}-{number:05d}.parquet"
        if path.exists():
            continue
        own = labels[begin : begin + ROWS_PER_FILE].copy()
        places = range(begin, begin + len(own))
        images = [
            pool[(place * 31 + label) % POOL] for place, label in zip(places, own, strict=True)
        ]
        for place in broken.intersection(places):
            kind, at = place % 3, place - begin
            images[at] = (images[at][:100], b"", images[at])[kind]
            own[at] = -7 if kind == 2 else own[at]
        rows = [
            {"bytes": image, "path": f"{place}.jpg"}
            for image, place in zip(images, places, strict=True)
        ]
        table = pa.table({"image": rows, "label": pa.array(own, pa.int64())})
        # as images that all differ end up: not in a dictionary, and not compressed again
        layout = {"use_dictionary": ["label"], "compression": "none", "row_group_size": 5000}
        pq.write_table(table, path.with_suffix(".part"), **layout)
        path.with_suffix(".part").rename(path)


def write_set(root: Path, images: int, classes: int) -> None:
    """Training and test files, and the names of the classes."""
    root.mkdir(parents=True, exist_ok=True)
    labels = np.repeat(np.arange(classes), class_sizes(images, classes))
    np.random.default_rng(3).shuffle(labels)
    pool = encoded_pool()
    write_split(root, "train", labels, pool, min(FAULTS, images // 200))
    write_split(root, "test", np.arange(classes), pool, 0)
    (root / "classes.txt").write_text("".join(f"class {i:05d}\n" for i in range(classes)))


def sizes_table(run: Path, storage: Path) -> str:
    """Files of the run and of its stages."""
    lines = []
    for name, folder in (
        ("run folder", run),
        ("distilled set", run / "distilled"),
        ("stages", storage),
    ):
        files = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        lines.append(f"{name:<16}{len(files):>8} files{mib(size):10.1f} MiB")
    for path in (
        run / "distilled" / "README.md",
        run / "distilled" / "raydd.json",
        run / "report.html",
    ):
        if path.exists():
            lines.append(f"{path.name:<16}{path.stat().st_size / 1e3:14.0f} kB")
    return "\n".join(lines)


def command(
    folder: Path, method: str, classes: int, storage: str, overrides: Sequence[str]
) -> list[str]:
    """The run, on what :func:`write_all` has left in the folder."""
    return [
        sys.executable, "-m", "raydd.run", *METHODS[method], "method.ipc=2",
        "dataset=parquet", f"dataset.root={folder / 'images'}",
        f"dataset.classes_file={folder / 'images' / 'classes.txt'}",
        f"dataset.resolution={SIDE}", f"dataset.resize={SIDE}",
        f"dataset.num_classes={classes}", "dataset.mean=[0.5,0.5,0.5]",
        "dataset.std=[0.25,0.25,0.25]", f"teacher.checkpoint={folder / 'teacher'}",
        "teacher.min_top1=0", "evaluate=false", "data.memory_limit_mb=0", "verbose=true",
        f"storage={folder / storage}", f"name={method}", *overrides,
    ]  # fmt: skip


def write_all(folder: Path, images: int, classes: int) -> None:
    """The data set, where it is not there yet, and the teacher."""
    begin = time.time()
    write_set(folder / "images", images, classes)
    names = tuple(f"class {i:05d}" for i in range(classes))
    fresh_checkpoint(folder / "teacher", MODEL, names, SEEN)
    print(f"{images:,} images of {classes:,} classes: {time.time() - begin:.0f} s")


def content(run: Path) -> str:
    """Start of the sha256 over the distilled images."""
    digest = hashlib.sha256()
    for path in sorted((run / "distilled").rglob("*.parquet")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def main() -> None:
    """Make the set, run the command twice, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=14_197_122)
    parser.add_argument("--classes", type=int, default=21_841)
    parser.add_argument("--method", choices=sorted(METHODS), default="curricular")
    parser.add_argument("--folder", type=Path, help="kept; a temporary one by default")
    parser.add_argument("--quick", action="store_true", help="20,000 images of 500 classes")
    parser.add_argument("overrides", nargs="*", help="key=value of the command line")
    options = parser.parse_intermixed_args()
    if options.quick:
        options.images, options.classes = 20_000, 500
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        write_all(folder, options.images, options.classes)
        words = command(folder, options.method, options.classes, "runs", options.overrides)
        first = start(words)
        first.check()
        second = start(words)
        second.check()
        print(stage_table(first.stages, first.sampler.samples))
        run = folder / "runs" / options.method
        print(sizes_table(run, folder / "runs" / "stages"))
        drivers = [s.driver.rss for s in first.sampler.samples if s.driver]
        print(
            f"{first.seconds:.0f} s, found finished in {second.seconds:.1f} s; driver at most "
            f"{mib(max(drivers)):.0f} MiB, all {mib(first.sampler.peak().total):.0f} MiB; "
            f"sha256 {content(run)}"
        )
    # the first stage that this start worked on may have been begun by another
    passes = [s.end - s.begin for s in first.stages[1:] if s.label.startswith("score")]
    print(f"value: {options.images / max(passes):.0f} rows/s" if passes else "value: no whole pass")


if __name__ == "__main__":
    main()
