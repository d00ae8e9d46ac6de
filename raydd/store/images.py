"""Read back the pixels that a stage has kept: decoded real images, distilled or fetched ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from upath import UPath

from raydd.data.rows import pixel_array
from raydd.ops.seeds import generator
from raydd.store.tables import count_rows, encode_places, part_files, read_table
from raydd.store.units import covering

_HELD_BYTES = 128 << 20  # of test images, which a training looks at again and again


def draw_rows(
    folders: Sequence[UPath], count: int, *seed_parts: str | int
) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Draw images without replacement from the ``parts`` of finished stages.

    Args:
        folders: of the stages; together they are one set.
        count: images to draw, 0 for all; a larger draw contains every smaller one.
        seed_parts: name of the draw.

    Yields:
        For each part that holds drawn images their positions in the set, rising, int64 [n], and
        their rows, in that order, with all columns.
    """
    paths = [path for folder in folders for path in part_files(folder)]
    sizes = [count_rows(path) for path in paths]
    drawn = np.arange(sum(sizes))
    if 0 < count < len(drawn):
        order = torch.randperm(len(drawn), generator=generator(*seed_parts)).numpy()
        drawn = np.sort(order[:count])
    begin = 0
    for path, size in zip(paths, sizes, strict=True):
        here = drawn[slice(*np.searchsorted(drawn, [begin, begin + size]))]
        if len(here):  # of other parts only the footer is read
            yield here, read_table(path).take(here - begin)
        begin += size


@dataclass(frozen=True)
class ImageSet:
    """Images in memory.

    Attributes:
        images: uint8 [N, 3, R, R].
        labels: int64 [N].
        ids: N strings, the real images' ids; empty where nobody asks for them.
        places: int64 [N], where each real image lies in its source, see
            :func:`raydd.store.tables.encode_places`; empty for distilled images.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...] = ()
    places: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.labels)


def iterate_pixels(folder: UPath, resolution: int) -> Iterator[ImageSet]:
    """The stored images of a ``decode``, ``synthesize`` or ``fetch`` stage, a part at a time."""
    for path in part_files(folder):
        table = read_table(path)
        pixels = pixel_array(table.column("pixels"), resolution)
        labels = table.column("class_index").to_numpy().astype(np.int64)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        ids = tuple(table.column("id").to_pylist())
        yield ImageSet(images, torch.from_numpy(labels), ids, _places(path, table))


class HeldImages:
    """Stored images on a device, in batches; few are kept there from one walk to the next.

    Args:
        folder: of a ``decode`` or ``fetch`` stage.
        resolution: of the images, pixels.
        device: where the batches go.
    """

    def __init__(self, folder: UPath, resolution: int, device: torch.device) -> None:
        self.folder, self.resolution, self.device = folder, resolution, device
        self._held: list[tuple[Tensor, Tensor]] = []

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels uint8 [B, 3, R, R] and labels int64 [B], B at most ``size`` at every walk."""
        if self._held:
            yield from self._held
            return
        walked: list[tuple[Tensor, Tensor]] = []
        room = _HELD_BYTES
        for part in iterate_pixels(self.folder, self.resolution):
            for batch in zip(part.images.split(size), part.labels.split(size), strict=True):
                pixels, labels = (values.to(self.device) for values in batch)
                room -= pixels.nbytes
                if room >= 0:
                    walked.append((pixels, labels))
                else:
                    walked.clear()
                yield pixels, labels
        self._held = walked


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


def _places(path: UPath, table: pa.Table) -> np.ndarray:
    """Places of a decoded source's part; the parts of distilled images have none."""
    if "row" not in table.column_names:
        return np.empty(0, np.int64)
    rows = table.column("row").to_numpy()
    return encode_places(np.full(len(rows), int(path.stem)), rows)
