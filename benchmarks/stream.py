"""Scoring streams: memory does not grow with the data set that passes through the object store.

    python benchmarks/stream.py [--gigabytes 3] [--quick]

Claim: 3 GB of encoded images are scored with an object store of 300 MB in flat memory, and the
driver holds nothing that is proportional to the data set. The script writes JPEG files of about
100 KB (a few hundred distinct ones, each row with its own id) into WebDataset archives or parquet
files in a temporary folder, scores them with a tiny network on a private Ray, and prints memory
over time: of all processes, Ray's daemons included (see ``processes.py``; Linux only). Last line:
growth of the mean over all processes from the second quarter of the shards to their second half;
the first quarter is left out, for there the pool starts and its buffers fill.
"""

import argparse
import io
import itertools
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from engines import fresh_checkpoint, make_engine
from PIL import Image
from processes import Sampler, mean, mib, quarters_table, role_table
from ray._private.internal_api import memory_summary

from raydd.cluster.config import ClusterConfig
from raydd.cluster.connect import connect
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import open_source
from raydd.engine.passes.score import score
from raydd.engine.passes.stream import DataConfig
from raydd.models.registry import ModelConfig

NUM_CLASSES, SIDE = 100, 32
PREPROCESSING = Preprocessing(SIDE, SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
MODEL = ModelConfig("resnet10_thin", width=8)


def encoded_pool(count: int, kilobytes: int) -> list[bytes]:
    """Distinct JPEG files of photograph-like texture: detail on every scale, and sensor noise."""
    draws = np.random.default_rng(0)
    width, height = round(52 * kilobytes**0.5), round(39 * kilobytes**0.5)
    pool = []
    for _ in range(count):
        canvas = np.zeros((height, width, 3), np.float32)
        for cells in (4, 16, 64):
            coarse = draws.normal(size=(cells, cells, 3)) * 60 / cells**0.5 + 128
            layer = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
            canvas += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC)) / 3.0
        canvas += draws.normal(scale=8, size=canvas.shape)
        sink = io.BytesIO()
        Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(sink, "JPEG", quality=95)
        pool.append(sink.getvalue())
    return pool


def write_images(root: Path, kind: str, pool: list[bytes], total: int, shard: int) -> int:
    """Write about ``total`` bytes in files of about ``shard`` bytes; returns the rows."""
    size = sum(map(len, pool)) / len(pool)
    per_shard, rows = max(1, int(shard / size)), int(total / size)
    images = itertools.cycle(pool)
    write = write_archive if kind == "webdataset" else write_parquet
    for number, begin in enumerate(range(0, rows, per_shard)):
        write(root, number, range(begin, min(begin + per_shard, rows)), images)
    (root / "classes.txt").write_text("\n".join(f"class {i}" for i in range(NUM_CLASSES)) + "\n")
    return rows


def write_archive(root: Path, number: int, rows: range, images: Iterator[bytes]) -> None:
    """One WebDataset archive."""
    with tarfile.open(root / f"train-{number:05d}.tar", "w") as archive:
        for row in rows:
            label = str(row % NUM_CLASSES).encode()
            for suffix, content in (("jpg", next(images)), ("cls", label)):
                member = tarfile.TarInfo(f"{row:08d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def write_parquet(root: Path, number: int, rows: range, images: Iterator[bytes]) -> None:
    """One file in the Hugging Face layout, a hundred rows to a group."""
    (root / "data").mkdir(exist_ok=True)
    table = pa.table(
        {
            "image": [{"bytes": next(images), "path": f"{row:08d}.jpg"} for row in rows],
            "label": pa.array([row % NUM_CLASSES for row in rows], pa.int64()),
        }
    )
    path = root / "data" / f"train-{number:05d}.parquet"
    pq.write_table(table, path, row_group_size=100, compression="none")


def report(sampler: Sampler) -> float:
    """Print memory over time and who holds it; returns the growth in bytes."""
    print(sampler.table())
    peak = sampler.peak()
    print(f"peak {mib(peak.total):.0f} MiB at {peak.seconds:.0f} s:")
    print(role_table(peak))
    print(quarters_table(sampler))
    quarter, half = sampler.between(0.25, 0.5), sampler.between(0.5, 1)
    return mean(half, lambda s: s.total) - mean(quarter, lambda s: s.total)


def main() -> None:
    """Write the images, score them once, say how memory went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=3.0, help="encoded images in all")
    parser.add_argument("--kilobytes", type=int, default=100, help="of one image, about")
    parser.add_argument("--shard-mb", type=int, default=100, help="of one file")
    parser.add_argument("--pool", type=int, default=300, help="distinct images")
    parser.add_argument("--kind", choices=("webdataset", "parquet"), default="webdataset")
    parser.add_argument("--object-store-mb", type=int, default=300)
    parser.add_argument("--batch", type=int, default=256, help="images per forward pass")
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between samples")
    parser.add_argument("--quick", action="store_true", help="0.2 GB, under a minute")
    options = parser.parse_args()
    if options.quick:
        options.gigabytes, options.pool, options.shard_mb = 0.2, 50, 10
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "images"
        root.mkdir()
        pool = encoded_pool(options.pool, options.kilobytes)
        size = int(options.gigabytes * 1e9)
        rows = write_images(root, options.kind, pool, size, int(options.shard_mb * 1e6))
        del pool
        source = open_source(options.kind, str(root), "train", num_classes=NUM_CLASSES)
        resources = connect(ClusterConfig(object_store_mb=options.object_store_mb))
        checkpoint = fresh_checkpoint(
            Path(folder) / "network", MODEL, source.class_names, PREPROCESSING
        )
        config = DataConfig(score_batch=options.batch, memory_limit_mb=0)
        engine = make_engine(folder, source, PREPROCESSING, resources, config)
        shards = len(source.shards())

        def progress() -> float:
            return len(list(Path(folder).glob("stages/score-*/parts/*.parquet"))) / shards

        begin = time.perf_counter()
        with Sampler(interval=options.interval, progress=progress) as sampler:
            table = score(engine, checkpoint, "teacher")
        seconds = time.perf_counter() - begin
        assert table.summary["rows"] == rows, table.summary
        growth = report(sampler)
        address = ray.get_runtime_context().gcs_address
        print(memory_summary(address, stats_only=True).strip())
        bytes_read = sum(file.stat().st_size for file in root.rglob("train-*"))
        cpu = sampler.samples[-1].cpu - sampler.samples[0].cpu
        print(
            f"{options.kind}: {rows} rows, {bytes_read / 1e9:.2f} GB in {shards} shards, "
            f"{seconds:.1f} s ({cpu:.0f} s of processor time), {rows / seconds:.0f} rows/s"
        )
        print(f"value: {mib(growth):+.0f} MiB")


if __name__ == "__main__":
    main()
