"""A distilled set as a torch Dataset: ``raydd.load(folder)``.

The module is not called ``load``: importing a submodule binds its name in the package, and would
hide the function ``raydd.load`` behind itself.
"""

import io
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from PIL import Image
from torch.utils.data import Dataset
from upath import UPath

from raydd.data.distilled import DistilledInfo, read_distilled


class DistilledDataset(Dataset[tuple[Any, int]]):
    """Random access to a distilled set.

    The encoded images are held in memory (the size of the folder's ``data``), shared with forked
    loader workers; each access decodes one.

    Attributes:
        info: class names, preprocessing, configuration of the set.
        classes: class names in label order, as torchvision's data sets call them.
        targets: label of every image.
        transform: applied to the PIL image; None returns the PIL image.
    """

    def __init__(
        self, table: pa.Table, info: DistilledInfo, transform: Callable[[Any], Any] | None
    ) -> None:
        self.info = info
        self.classes = list(info.class_names)
        self.targets: list[int] = table.column("label").to_pylist()
        self.transform = transform
        self._images = table.column("image")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return (RGB PIL image or what the transform makes of it, label)."""
        label = self.targets[index]  # first: a list raises the IndexError that ends iteration
        encoded = self._images[index].as_py()["bytes"]
        image: Any = Image.open(io.BytesIO(encoded), formats=["PNG", "WEBP"]).convert("RGB")
        return (image if self.transform is None else self.transform(image)), label


def load(
    folder: str | UPath, transform: Callable[[Any], Any] | None = None, *, verify: bool = False
) -> DistilledDataset:
    """Open a distilled set for training.

    Args:
        folder: local path or fsspec URI of a finished distilled set.
        transform: from PIL image to whatever the training wants, e.g. torchvision transforms.
        verify: compare the sha256 of every file first.
    Raises:
        ValueError: not a finished distilled set, or changed since it was made.
    """
    distilled = read_distilled(folder, verify=verify)
    batches = [batch.select(["image", "label"]) for batch in distilled.tables()]
    return DistilledDataset(pa.Table.from_batches(batches), distilled.info, transform)
