"""Bytes read to fetch 50 images for each of 1,000 classes out of 1,000,000, by id.

    python benchmarks/fetch.py [--rows 1000000] [--classes 1000] [--per-class 50]
                               [--image-bytes 3000] [--quick]

The script writes random "images" in random class order into a temporary folder, three times: as tar
shards; as parquet files as most of the Hub's image sets are (row groups of 100 rows, Snappy, the
images in a dictionary page); as parquet files as `datasets` writes them since version 4 (row groups
of 100 MB, images uncompressed, pages of up to 1 MB with an index). It passes once over each set for
the ids, picks per-class rows at random, fetches them as the engine does, a thousand ids at a time
in the order of their places, and checks every byte. Bytes read are those of all read calls of this
process (rchar of /proc/self/io, Linux only), whether the disk or the page cache answered.

The old parquet layout has to be read row group by row group: its images are compressed together, so
none has a place of its own. Last line: bytes read per byte asked for, tar shards.
"""

import argparse
import hashlib
import io
import resource
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydd.data.sources import Source, open_source

ROWS_PER_FILE = 50_000
BATCH_ROWS = 1000
FETCHED_AT_ONCE = 1000
LAYOUTS = ("tar shards", "parquet, old layout", "parquet, new layout")
CHUNKS = {"min_chunk_size": 256 << 10, "max_chunk_size": 1 << 20, "norm_level": 0}
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True)
class Plan:
    """Sizes: rows, classes, chosen rows per class, mean bytes of an image."""

    rows: int
    classes: int
    per_class: int
    image_bytes: int

    def image(self, row: int) -> bytes:
        """Bytes that nothing compresses; sizes vary by half around the mean."""
        size = self.image_bytes // 2 + row * 7919 % max(1, self.image_bytes)
        return hashlib.shake_128(row.to_bytes(8, "little")).digest(size)

    def labels(self) -> np.ndarray:
        """Class of each row, int64 [rows]; equally many of each, in random order."""
        return np.random.default_rng(0).permutation(np.arange(self.rows) % self.classes)

    def chosen(self) -> np.ndarray:
        """Chosen rows, ascending: ``per_class`` of each class."""
        order = np.random.default_rng(1).permutation(self.rows)
        by_class = order[np.argsort(self.labels()[order], kind="stable")]
        starts = np.arange(self.classes) * self.rows // self.classes
        return np.sort(np.concatenate([by_class[s : s + self.per_class] for s in starts]))


def write_tars(plan: Plan, folder: Path) -> None:
    """Samples key.jpg, key.cls in shards."""
    labels = plan.labels()
    for begin in range(0, plan.rows, ROWS_PER_FILE):
        with tarfile.TarFile(folder / f"train-{begin:08d}.tar", "w") as archive:
            for row in range(begin, min(begin + ROWS_PER_FILE, plan.rows)):
                for end, content in (("jpg", plan.image(row)), ("cls", b"%d" % labels[row])):
                    info = tarfile.TarInfo(f"{row:09d}.{end}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


def write_parquet(plan: Plan, folder: Path, is_new: bool) -> None:
    """Columns image {bytes, path} and label."""
    labels = plan.labels()
    schema = pa.schema([("image", STRUCT), ("label", pa.int64())])
    options = {}
    if is_new:  # what datasets.arrow_writer.get_parquet_column_options asks for
        leaves = ("image.bytes", "image.path")
        options = {
            "compression": {**dict.fromkeys(leaves, "none"), "label": "snappy"},
            "column_encoding": dict.fromkeys(leaves, "PLAIN"),
            "use_dictionary": ["label"],
            "use_content_defined_chunking": CHUNKS,
            "write_page_index": True,
        }
    group_rows = max(1, 100_000_000 // plan.image_bytes) if is_new else 100
    step = group_rows if is_new else BATCH_ROWS
    for begin in range(0, plan.rows, ROWS_PER_FILE):
        end = min(begin + ROWS_PER_FILE, plan.rows)
        with pq.ParquetWriter(folder / f"train-{begin:08d}.parquet", schema, **options) as writer:
            for first in range(begin, end, step):
                rows = range(first, min(first + step, end))
                images = [{"bytes": plan.image(row), "path": f"{row:09d}.jpg"} for row in rows]
                columns = {
                    "image": pa.array(images, STRUCT),
                    "label": labels[rows.start : rows.stop],
                }
                writer.write_table(pa.table(columns, schema), row_group_size=group_rows)


def write(layout: str, plan: Plan, folder: Path) -> Source:
    """Write the set and open it."""
    folder.mkdir()
    kind = "webdataset" if layout == "tar shards" else "parquet"
    if kind == "webdataset":
        write_tars(plan, folder)
    else:
        write_parquet(plan, folder, is_new=layout == "parquet, new layout")
    return open_source(kind, str(folder), "train", num_classes=plan.classes)


def ids_of(source: Source, rows: np.ndarray) -> Iterator[str]:
    """Ids of the rows (ascending) from one pass over the source."""
    wanted = iter(rows.tolist())
    following = next(wanted, None)
    every = (row.id for shard in source.shards() for row in source.read(shard))
    for number, row_id in enumerate(every):
        if number == following:
            yield row_id
            following = next(wanted, None)


def read_bytes() -> int:
    """Bytes that this process has asked the operating system for."""
    return int(Path("/proc/self/io").read_text().split()[1])


def peak() -> float:
    """Largest resident set so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(layout: str, plan: Plan, folder: Path) -> float:
    """Write, pass, fetch, check; prints a line and returns bytes read per byte asked for."""
    source = write(layout, plan, folder)
    chosen = plan.chosen()
    total = sum(path.stat().st_size for path in folder.iterdir())
    begin, started = read_bytes(), time.perf_counter()
    ids = list(ids_of(source, chosen))
    passed, pass_seconds = read_bytes() - begin, time.perf_counter() - started
    before, begin, started, asked = peak(), read_bytes(), time.perf_counter(), 0
    numbered = iter(zip(chosen.tolist(), ids, strict=True))
    while block := dict(islice(numbered, FETCHED_AT_ONCE)):
        found = source.fetch(list(block.values()))
        for row, row_id in block.items():
            assert found[row_id] == plan.image(row), f"{row_id} is another image"
            asked += len(found[row_id])
    seconds, read = time.perf_counter() - started, read_bytes() - begin
    print(
        f"{layout:<20}{total / 1e6:9.0f}{asked / 1e6:9.1f}{read / 1e6:9.1f}{read / asked:8.2f}"
        f"{read / total:8.1%}{seconds:9.1f}{passed / 1e6:11.0f}{pass_seconds:9.1f}"
        f"{peak() - before:+9.0f}",
        flush=True,
    )
    return read / asked


def main() -> None:
    """Measure every layout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--per-class", type=int, default=50)
    parser.add_argument("--image-bytes", type=int, default=3000)
    parser.add_argument("--quick", action="store_true", help="20,000 rows, 20 classes")
    options = parser.parse_args()
    plan = Plan(options.rows, options.classes, options.per_class, options.image_bytes)
    if options.quick:
        plan = Plan(20_000, 20, 50, 3000)
    print(
        f"{plan.rows} rows, {plan.classes} classes, {plan.classes * plan.per_class} fetched\n"
        f"{'':<20}{'set MB':>9}{'asked MB':>9}{'read MB':>9}{'ratio':>8}{'of set':>8}{'seconds':>9}"
        f"{'a pass: MB':>11}{'seconds':>9}{'peak MiB':>9}"
    )
    ratios = {}
    for number, layout in enumerate(LAYOUTS):
        with tempfile.TemporaryDirectory(prefix="fetch-") as folder:
            ratios[layout] = measure(layout, plan, Path(folder) / str(number))
    print(f"value: {ratios['tar shards']:.2f} bytes read per byte asked for")


if __name__ == "__main__":
    main()
