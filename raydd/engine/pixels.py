"""Decode a source once and keep its pixels on disk: a teacher's training set, the test split.

A training set above ``data.memory_limit_mb`` of pixels is streamed at every epoch instead; the test
split is read back a part at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import ray.data as rd
import torch
from torch import Tensor
from upath import UPath

from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import decode_rows, pixel_array, pixel_column
from raydd.data.sources import Source
from raydd.engine.forgetting import encode_places
from raydd.engine.stages import Artifact, Stages
from raydd.engine.stream import encoded_rows, part_files, read_table, run_pass
from raydd.engine.units import covering


@dataclass
class DataConfig:
    """How real images are read; no value here changes which images are chosen."""

    max_rejected: float = 0.01
    """Highest fraction of broken images, in [0, 1]; above it the run stops."""
    max_pixels: int = 50_000_000
    """An image with more pixels is quarantined instead of decoded."""
    memory_limit_mb: int = 1000
    """Decoded sets up to this size are kept as one tensor; larger ones are streamed. MiB."""
    score_batch: int = 256
    """Images per forward pass of the score stage."""


@dataclass(frozen=True)
class ImageSet:
    """Images in memory.

    Attributes:
        images: uint8 [N, 3, R, R].
        labels: int64 [N].
        ids: N strings, the real images' ids; empty where nobody asks for them.
        places: int64 [N], where each real image lies in its source, see
            :func:`raydd.engine.forgetting.encode_places`; empty for distilled images.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...] = ()
    places: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.labels)


def decode_source(
    stages: Stages, source: Source, split: str, preprocessing: Preprocessing, config: DataConfig
) -> Artifact:
    """Stage ``decode``: the pixels of every good image, uint8, one part file per shard."""
    return _decode(stages, source, split, preprocessing, config, kept=True)


def list_images(
    stages: Stages, source: Source, preprocessing: Preprocessing, config: DataConfig
) -> Artifact:
    """Stage ``list``: id, class_index and row of every training image that can be decoded."""
    return _decode(stages, source, "train", preprocessing, config, kept=False)


def _decode(
    stages: Stages,
    source: Source,
    title: str,
    preprocessing: Preprocessing,
    config: DataConfig,
    kept: bool,
) -> Artifact:
    max_pixels = config.max_pixels  # `config` would make every decoding process import torch

    def decode_batch(batch: pa.Table) -> pa.Table:
        pixels, reasons = decode_rows(batch, preprocessing, max_pixels)
        batch = batch.drop_columns(["image"])
        if kept:
            batch = batch.append_column("pixels", pixel_column(pixels))
        return batch.set_column(
            batch.schema.get_field_index("reason"), "reason", pa.array(reasons, pa.string())
        )

    def transform(rows: rd.Dataset) -> rd.Dataset:
        return rows.map_batches(decode_batch, batch_size=256, batch_format="pyarrow")

    return stages.run(
        "decode" if kept else "list",
        lambda folder: run_pass(folder, source, transform, config.max_rejected),
        inputs=[source.fingerprint],
        config={
            "size": [preprocessing.resolution, preprocessing.resize],
            "max_pixels": config.max_pixels,
        },
        seed=0,  # decoding draws nothing: every seed shares it
        title=title,
    )


def iterate_pixels(folder: UPath, resolution: int) -> Iterator[ImageSet]:
    """The stored images of a ``decode``, ``synthesize`` or ``fetch`` stage, a part at a time."""
    for path in part_files(folder):
        table = read_table(path)
        pixels = pixel_array(table.column("pixels"), resolution)
        labels = table.column("class_index").to_numpy().astype(np.int64)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        ids = tuple(table.column("id").to_pylist())
        yield ImageSet(images, torch.from_numpy(labels), ids, _places(path, table))


def load_pixels(folder: UPath, resolution: int) -> ImageSet:
    """All of :func:`iterate_pixels` as one set; empty where nothing was chosen."""
    nothing = torch.empty(0, 3, resolution, resolution, dtype=torch.uint8)
    parts = [ImageSet(nothing, torch.empty(0, dtype=torch.int64))]
    parts += iterate_pixels(folder, resolution)
    return ImageSet(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        tuple(name for part in parts for name in part.ids),
        np.concatenate([part.places for part in parts]),
    )


def pick_pixels(
    folder: UPath, labels: Sequence[int], slots: Sequence[int], resolution: int
) -> Tensor:
    """Chosen images of a stage, uint8 [N, 3, R, R], in the order asked for.

    Args:
        folder: of a stage of synthetic images.
        labels: N classes.
        slots: N slots.
        resolution: R, side of the images, pixels.

    Raises:
        ValueError: an image that the stage does not hold.
    """
    return pick_stored(covering(part_files(folder), labels), labels, slots, resolution)


def pick_stored(
    files: Sequence[UPath], labels: Sequence[int], slots: Sequence[int], resolution: int
) -> Tensor:
    """Chosen images out of some part files; see :func:`pick_pixels`."""
    wanted = {pair: i for i, pair in enumerate(zip(labels, slots, strict=True))}
    pixels = np.zeros((len(wanted), resolution, resolution, 3), np.uint8)
    for path in files:
        names = read_table(path, ["class_index", "slot"]).to_pydict()
        pairs = list(zip(names["class_index"], names["slot"], strict=True))
        rows = [row for row, pair in enumerate(pairs) if pair in wanted]
        if rows:  # units of other slots hold none
            chosen = read_table(path, ["pixels"]).take(rows)["pixels"]
            for row, image in zip(rows, pixel_array(chosen, resolution), strict=True):
                pixels[wanted.pop(pairs[row])] = image
    if wanted:
        raise ValueError(f"no part holds an image of (class, slot) {next(iter(wanted))}")
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def load_sets(folders: Sequence[str], resolution: int, device: torch.device) -> ImageSet:
    """The images of several folders as one set on a device; ids are left out."""
    sets = [load_pixels(UPath(folder), resolution) for folder in folders]
    return ImageSet(
        torch.cat([s.images for s in sets]).to(device),
        torch.cat([s.labels for s in sets]).to(device),
        places=np.concatenate([s.places for s in sets]),
    )


def stream_pixels(source: Source, preprocessing: Preprocessing, config: DataConfig) -> rd.Dataset:
    """Dataset of (pixels uint8 [R, R, 3], class_index, shard, row), for sets beyond memory."""
    max_pixels = config.max_pixels  # as in _decode

    def decode_batch(batch: pa.Table) -> dict[str, np.ndarray]:
        pixels, reasons = decode_rows(batch, preprocessing, max_pixels)
        good = np.array([not reason for reason in reasons])
        columns = ("class_index", "shard", "row")
        return {"pixels": pixels[good]} | {n: batch.column(n).to_numpy()[good] for n in columns}

    rows = encoded_rows(source, dict(enumerate(source.shards()))).randomize_block_order(seed=0)
    return rows.map_batches(decode_batch, batch_size=256, batch_format="pyarrow")


@dataclass(frozen=True)
class RealImages:
    """Where a training finds the real images.

    Attributes:
        folders: of the decoded images; empty where they are streamed.
        datasets: streamed images, by the name that a loop asks for; None where they are decoded.
        origin: what a stage that reads them names as its input.
    """

    folders: tuple[str, ...]
    datasets: Mapping[str, rd.Dataset] | None
    origin: Artifact | str


def place_images(
    stages: Stages, source: Source, preprocessing: Preprocessing, count: int, data: DataConfig
) -> RealImages:
    """Decode the real training images once if they fit in memory, else stream them.

    Args:
        stages: where decoded images are kept.
        source: the real training images.
        preprocessing: of the stored images.
        count: images in the source.
        data: memory limit, and how images are read.
    """
    if count * preprocessing.resolution**2 * 3 <= data.memory_limit_mb << 20:
        real = decode_source(stages, source, "train", preprocessing, data)
        return RealImages((str(real.folder),), None, real)
    streamed = {"train": stream_pixels(source, preprocessing, data)}
    return RealImages((), streamed, source.fingerprint)


def _places(path: UPath, table: pa.Table) -> np.ndarray:
    """Places of a decoded source's part; the parts of distilled images have none."""
    if "row" not in table.column_names:
        return np.empty(0, np.int64)
    rows = table.column("row").to_numpy()
    return encode_places(np.full(len(rows), int(path.stem)), rows)
