"""Numbers of real images in the order in which other tools count them.

An id says where an image lies and stays true when others are added; a number does not, yet the
code of many papers stores nothing else. Only where the order is beyond doubt there are numbers:
folders as torchvision's ``ImageFolder`` lists them, parquet rows file after file, the digits.
"""

from collections.abc import Iterator, Sequence
from urllib.parse import quote_from_bytes

from raydd.data.sources import Source
from raydd.data.sources.digits import DigitsSource
from raydd.data.sources.files import Root, is_folder, is_text
from raydd.data.sources.folders.source import ImageFolderSource
from raydd.data.sources.parquet.source import ParquetSource

_NUM_READERS = 16  # threads for footers: mostly waiting
# What torchvision takes for an image: others are not counted by it.
_TORCHVISION = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def image_numbers(source: Source, ids: Sequence[str]) -> list[int]:
    """Number of each image in its split, from 0, broken images counted.

    Args:
        source: the real images; folders are listed, of parquet files only footers are read.
        ids: of images in it.
    Raises:
        ValueError: the source has no order that other tools share, or none for one of the images.
    """
    if isinstance(source, ParquetSource):
        return _parquet_numbers(source, ids)
    if isinstance(source, ImageFolderSource):
        listed: Iterator[str] = _torchvision_order(source)
    elif isinstance(source, DigitsSource):
        listed = (row.id for shard in source.shards() for row in source.read(shard))
    else:
        raise ValueError(
            "Images have numbers in folders (torchvision's order), in parquet files (rows) and in "
            "the digits only; use the ids of ids.parquet."
        )
    wanted = set(ids)
    numbers = {row_id: number for number, row_id in enumerate(listed) if row_id in wanted}
    for row_id in ids:
        if row_id not in numbers:
            raise ValueError(
                f"The image {row_id!r} has no number: torchvision's ImageFolder does not list it; "
                "use the ids of ids.parquet."
            )
    return [numbers[row_id] for row_id in ids]


def _parquet_numbers(source: ParquetSource, ids: Sequence[str]) -> list[int]:
    before, total = {}, 0
    for file in source.files:
        before[file.path], total = total, total + file.num_rows
    numbers = []
    for row_id in ids:
        path, _, place = row_id.rpartition("#")
        if path not in before:
            raise ValueError(f"The parquet root {source.root.url} holds no image {row_id!r}.")
        numbers.append(before[path] + int(place.partition("@")[0]))
    return numbers


def _torchvision_order(source: ImageFolderSource) -> Iterator[str]:
    """Ids of the split: classes by name, in each folders by path, in each files by name."""
    for name in source.root.folders(source.folder):
        for folder, file in sorted(_images(source.root, source.folder, name)):
            yield _id(f"{folder}/{file}")


def _images(root: Root, split: str, folder: str) -> Iterator[tuple[str, str]]:
    """(folder below the split, file name) of every image below a class folder."""
    for entry in root.listing(f"{split}/{folder}" if split else folder):
        if is_folder(entry) and entry["islink"]:
            raise ValueError(
                f"The imagefolder root {root.url} holds a link to a folder ({folder}/"
                f"{entry['name']}), whose images torchvision counts; put the folder in its place."
            )
        if is_folder(entry):
            yield from _images(root, split, f"{folder}/{entry['name']}")
        elif entry["name"].lower().endswith(_TORCHVISION):
            yield folder, entry["name"]


def _id(path: str) -> str:
    """As the source spells it: percent-encoded behind a slash where the path is not UTF-8."""
    if is_text(path):
        return path
    return "/" + quote_from_bytes(path.encode("utf-8", errors="surrogateescape"))
