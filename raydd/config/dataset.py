"""A real data set: where it lies, how networks see it, and how it is opened."""

from dataclasses import dataclass
from functools import partial

from omegaconf import MISSING

from raydd.data.classes import read_class_names
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source, open_source
from raydd.errors import Refused


@dataclass
class DatasetConfig:
    """A real data set: where it lies and how networks see it.

    Attributes:
        name: in run names and reports.
        kind: "digits", "imagefolder", "parquet" or "webdataset".
        root: local folder or any fsspec URI.
        split_train: name of the training split.
        split_test: name of the split that judges.
        num_classes: C; null reads it from the data.
        classes_file: text file with one class name per line; null reads the names from the data.
        image_column: of a parquet source.
        label_column: of a parquet source.
        resolution: side of a network's input, pixels.
        resize: shorter side before the centre crop, pixels.
        mean: per channel, of pixels in [0, 1].
        std: per channel, of pixels in [0, 1].
        flip: probability of a mirrored view; 0 where mirror images mean something else.
        licence: of the images; the distilled set inherits it.
        gated: whether the public copy asks for an accepted licence.
        train_images: of the public training split: ``plan=true`` counts with it where the data are
            not at hand; null needs the data.
        test_images: the same of the test split.
    """

    name: str = MISSING
    kind: str = MISSING
    root: str = MISSING
    split_train: str = "train"
    split_test: str = "test"
    num_classes: int | None = None
    classes_file: str | None = None
    image_column: str = "image"
    label_column: str = "label"
    resolution: int = MISSING
    resize: int = MISSING
    mean: tuple[float, float, float] = MISSING
    std: tuple[float, float, float] = MISSING
    flip: float = 0.5
    licence: str = "unknown"
    gated: bool = False
    train_images: int | None = None
    test_images: int | None = None


def open_sources(data: DatasetConfig) -> tuple[Source, Source]:
    """Open the training and the test split of a real data set.

    Raises:
        Refused: a split, a root or a class list that is not as the configuration says.
    """
    read = partial(
        open_source,
        data.kind,
        data.root,
        image_column=data.image_column,
        label_column=data.label_column,
    )
    try:
        names = read_class_names(data.classes_file) if data.classes_file else None
        train = read(data.split_train, class_names=names, num_classes=data.num_classes)
        test = read(data.split_test, class_names=train.class_names)
    except ValueError as error:
        gated = " (this data set is gated: accept its licence on the Hub and log in)"
        raise Refused(f"{error}{gated if data.gated else ''}") from error
    return train, test


def preprocessing_of(data: DatasetConfig) -> Preprocessing:
    """The data set's own preprocessing; ValueError where its numbers make none."""
    return Preprocessing(data.resolution, data.resize, data.mean, data.std)
