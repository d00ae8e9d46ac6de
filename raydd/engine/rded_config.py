"""Every constant of the ``crop`` stage, and how its work is cut into units."""

from __future__ import annotations

from dataclasses import dataclass

from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source
from raydd.ops.checks import check_at_least_one, check_choices
from raydd.ops.tiles import MAPPINGS

CHOICES = {
    "score_view": ("padded", "native", "upsampled"),
    "mapping": MAPPINGS,
    "policy": ("lowest_ce", "random"),
}


@dataclass
class CropConfig:
    """How crops are drawn, scored and tiled; the defaults are RDED's at 128 pixels and more."""

    pool: int = 300
    """Real images per class to cut from; a class that has fewer gives all of them."""
    crops: int = 5
    """M, crops drawn per image; only the best of them competes."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest crop area, fractions of the image in (0, 1]; crops are square."""
    tiles: int = 2
    """f, crops along each side of an image; 1 for images of 64 pixels and less."""
    score_view: str = "padded"
    """What the observer sees of a crop: "padded" with zeros to the resolution (the paper), "native"
    at 1 / f of the resolution, f * f times cheaper, or "upsampled" to the resolution."""
    mapping: str = "ranked"
    """Cells of the crops, see :func:`raydd.ops.tiles.cell_ranks`."""
    policy: str = "lowest_ce"
    """"lowest_ce" keeps the crops that the observer is surest of; "random" keeps one random crop
    of random images, which are scored only to report it."""
    batch: int = 100
    """Crops per forward pass. The last batch of a class is filled up: all have one size."""
    block: int = 8
    """Classes per unit and part file: the grain of resume."""

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_choices(self, CHOICES)
        check_at_least_one(self, "pool", "crops", "tiles", "batch", "block")
        if len(self.crop_scale) != 2 or not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale must rise within (0, 1], got {tuple(self.crop_scale)}")


@dataclass(frozen=True)
class Block:
    """One unit: classes whose images share a part file."""

    classes: range

    @property
    def name(self) -> str:
        """Names the files."""
        return f"class{self.classes.start:05d}"


@dataclass(frozen=True)
class CropJob:
    """Everything a worker needs; picklable.

    Attributes:
        folder: stage folder.
        selection: folder of the pool's selection, sorted by class.
        observer: checkpoint folder.
        config: how crops are drawn, scored and tiled.
        ipc: images per class.
        source: where the pool is fetched from.
        preprocessing: geometry of the images made here; mean and std are the observer's own.
        max_pixels: cap of the decoder, the one that the pool was scored under.
        seed: run seed.
        journal: path of ``metrics.jsonl``.
        device: ``cpu`` or ``cuda``.
    """

    folder: str
    selection: str
    observer: str
    config: CropConfig
    ipc: int
    source: Source
    preprocessing: Preprocessing
    max_pixels: int
    seed: int
    journal: str | None
    device: str

    @property
    def num_crops(self) -> int:
        """Crops that the images of one class are made of."""
        return self.ipc * self.config.tiles**2

    @property
    def cell_side(self) -> int:
        """Side of a cell, pixels."""
        return self.preprocessing.resolution // self.config.tiles

    @property
    def units(self) -> list[Block]:
        """All units of the stage."""
        count, block = len(self.source.class_names), self.config.block
        return [Block(range(i, min(i + block, count))) for i in range(0, count, block)]
