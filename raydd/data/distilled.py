"""The distilled set on disk: a Hugging Face data set folder plus ``raydd.json``.

What it consists of and how it is read; ``distilled_writer.py`` makes it. A folder without
``raydd.json`` is unfinished and is not read.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from raydd.data.classes import check_class_order, class_order_digest
from raydd.data.images import decode_rgb
from raydd.data.preprocessing import Preprocessing

MANIFEST = "raydd.json"
FORMAT = 1  # raise when the meaning of a column or of a manifest field changes
BATCH_ROWS = 100


class DistilledRow(NamedTuple):
    """One image of a distilled set.

    Attributes:
        pixels: uint8 [R, R, 3], RGB, rounded by whoever made them.
        class_index: position in the class names.
        slot: number of the image within its class, from 0.
        curriculum: round of the method that made it, from 0.
        origin: ``synthetic`` or ``real``.
        source_id: id of the real image it is or started from; None when there is none.
    """

    pixels: np.ndarray
    class_index: int
    slot: int
    curriculum: int = 0
    origin: str = "synthetic"
    source_id: str | None = None


@dataclass(frozen=True)
class DistilledInfo:
    """The content of ``raydd.json``.

    Attributes:
        class_names: in label order.
        preprocessing: what the networks that made the set saw.
        counts: images per class, in label order.
        config: the composed configuration of the run; ``seal`` writes it without local paths.
        versions: package -> version.
        seeds: name -> seed.
        extra: anything else a method records (curricula, realised shortfalls, ...).
        files: path below the folder -> {"sha256": hex, "bytes": size}; filled in by ``seal``.
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    counts: tuple[int, ...]
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    seeds: Mapping[str, int]
    extra: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    @property
    def num_images(self) -> int:
        """Images in the set."""
        return sum(self.counts)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of the images, of the labels (0: the teacher is asked online) and the teacher."""
        places = {"images": "data/", "labels": "labels/", "teacher": "teacher/"}
        return {
            part: sum(file["bytes"] for name, file in self.files.items() if name.startswith(place))
            for part, place in places.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return the dict written to ``raydd.json``."""
        return {
            "format": FORMAT,
            **asdict(self),
            "preprocessing": self.preprocessing.to_json(),
            "num_images": self.num_images,
            "class_order": class_order_digest(self.class_names),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Build from the dict of ``to_json``; ValueError when a field is missing."""
        try:
            return cls(
                class_names=tuple(record["class_names"]),
                preprocessing=Preprocessing.from_json(record["preprocessing"]),
                counts=tuple(record["counts"]),
                config=record["config"],
                versions=record["versions"],
                seeds=record["seeds"],
                extra=record["extra"],
                files=record["files"],
            )
        except KeyError as error:
            raise ValueError(
                f"A {MANIFEST} lacks the field {error}; fetch the set again."
            ) from error


def read_distilled(folder: str | UPath, *, verify: bool = False) -> "DistilledSet":
    """Open a finished distilled set.

    Args:
        folder: local path or fsspec URI.
        verify: compare the sha256 of every file first; reads the whole set once.
    Raises:
        ValueError: not a finished distilled set, of a newer format, or changed since it was made.
    """
    root = UPath(folder)
    try:
        record = json.loads((root / MANIFEST).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"{root} is not a finished distilled set: it has no {MANIFEST}; run the distillation "
            "to its end or name another folder."
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{root / MANIFEST} is damaged: {error}.") from error
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{root} has format {record.get('format')!r}, this raydd reads format {FORMAT}; "
            "use the raydd version that made it."
        )
    distilled = DistilledSet(root, DistilledInfo.from_json(record))
    if verify:
        distilled.verify()
    return distilled


@dataclass(frozen=True)
class DistilledSet:
    """A finished distilled set.

    Attributes:
        folder: where it lies.
        info: the content of its ``raydd.json``.
    """

    folder: UPath
    info: DistilledInfo

    @property
    def shards(self) -> list[str]:
        """Paths of the parquet files below the folder, in row order."""
        return sorted(path for path in self.info.files if path.startswith("data/train-"))

    def tables(self) -> Iterator[pa.RecordBatch]:
        """Stream the stored columns, images still encoded, at most 100 rows at a time.

        Raises:
            ValueError: a shard carries another class order than ``raydd.json``.
        """
        for path in self.shards:
            with (self.folder / path).open("rb") as file:
                opened = pq.ParquetFile(file)
                metadata = json.loads(opened.schema_arrow.metadata[b"huggingface"])
                names = metadata["info"]["features"]["label"]["names"]
                check_class_order(self.info.class_names, names, f"{self.folder / path}")
                yield from opened.iter_batches(BATCH_ROWS)

    def rows(self) -> Iterator[DistilledRow]:
        """Stream the images, decoded, in stored order."""
        for batch in self.tables():
            for row in batch.to_pylist():
                pixels = decode_rgb(row["image"]["bytes"])
                columns = ("label", "slot", "curriculum", "origin", "source_id")
                yield DistilledRow(pixels, *(row[column] for column in columns))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Read the whole set into memory.

        Returns:
            images uint8 [N, 3, R, R], labels int64 [N], slots int32 [N], curricula int32 [N].
        """
        side, total = self.info.preprocessing.resolution, self.info.num_images
        images = np.empty((total, 3, side, side), dtype=np.uint8)
        columns: list[tuple[int, int, int]] = []
        for position, row in enumerate(self.rows()):
            images[position] = row.pixels.transpose(2, 0, 1)
            columns.append((row.class_index, row.slot, row.curriculum))
        labels, slots, curricula = np.array(columns, dtype=np.int64).reshape(-1, 3).T
        return images, labels.copy(), slots.astype(np.int32), curricula.astype(np.int32)

    def verify(self) -> None:
        """Compare every file with ``raydd.json``.

        Raises:
            ValueError: names the first file that is missing, changed or was added.
        """
        present = set(product_files(self.folder))
        for path in sorted(present | set(self.info.files)):
            if path not in present:
                problem = "is missing"
            elif path not in self.info.files:
                problem = "was added after the set was finished"
            elif hash_file(self.folder / path) != dict(self.info.files[path]):
                problem = "has changed since the set was finished"
            else:
                continue
            raise ValueError(f"{self.folder}: {path} {problem}; fetch the set again.")


def product_files(folder: UPath) -> list[str]:
    """Paths below the folder of all files but the manifest, sorted."""
    base = str(folder.fs._strip_protocol(str(folder))).rstrip("/")
    found = [str(path).removeprefix(base).lstrip("/") for path in folder.fs.find(base)]
    return sorted(path for path in found if path not in (MANIFEST, f"{MANIFEST}.partial"))


def hash_file(file: UPath) -> dict[str, Any]:
    """Return {"sha256": hex, "bytes": size} of a file, streamed."""
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            size += len(block)
    return {"sha256": digest.hexdigest(), "bytes": size}
