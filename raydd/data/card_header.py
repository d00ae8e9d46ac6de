"""The YAML header of a data-set card: what ``datasets`` and the Hub's viewer read of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
from upath import UPath

# Identifiers that the Hub knows; any other licence text goes under "other".
HUB_LICENCES = frozenset(
    {
        *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "unknown", "other"),
        *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0"),
        *("cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
        *("odbl", "odc-by", "pddl", "cdla-permissive-2.0", "cdla-sharing-1.0", "mpl-2.0", "isc"),
    }
)
SIZES = (
    *((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")),
    *((1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M")),
)
_SPELLED = {"apache": "apache-2.0", "cc0": "cc0-1.0"}  # behind the words


@dataclass(frozen=True)
class DataBytes:
    """Size of the shards, bytes.

    Attributes:
        stored: of the files.
        decoded: of their columns in memory, images as encoded files.
    """

    stored: int = 0
    decoded: int = 0

    @classmethod
    def measure(cls, folder: UPath) -> "DataBytes":
        """Read the footers of the shards that lie in a set's folder."""
        stored = decoded = 0
        for shard in sorted((folder / "data").glob("*.parquet"), key=str):
            stored += shard.stat().st_size
            with shard.open("rb") as file:
                footer = pq.ParquetFile(file).metadata
            groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
            decoded += sum(group.total_byte_size for group in groups)
        return cls(stored, decoded)


def header_fields(
    name: str,
    method: str,
    licence: str,
    class_names: Sequence[str],
    num_images: int,
    data: DataBytes,
) -> dict[str, Any]:
    """What stands in the YAML header.

    Args:
        name: title of the set.
        method: method that made it.
        licence: in words or as a Hub identifier.
        class_names: in label order.
        num_images: of the set.
        data: size of its shards; ``datasets`` warns of a split without a size.
    """
    names = {str(index): label for index, label in enumerate(class_names)}
    split = {"name": "train", "num_bytes": data.decoded, "num_examples": num_images}
    return {
        **_licence(licence),
        "pretty_name": name,
        "task_categories": ["image-classification"],
        "size_categories": [next(word for top, word in SIZES if num_images < top)],
        "tags": ["dataset-distillation", "raydd", method],
        "dataset_info": {
            "features": [
                {"name": "image", "dtype": "image"},
                {"name": "label", "dtype": {"class_label": {"names": names}}},
                {"name": "slot", "dtype": "int32"},
                {"name": "curriculum", "dtype": "int32"},
                {"name": "origin", "dtype": "string"},
                {"name": "source_id", "dtype": "string"},
            ],
            "splits": [split],
            "download_size": data.stored,
            "dataset_size": data.decoded,
        },
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
    }


def _licence(text: str) -> dict[str, str]:
    """The Hub's identifier; its own terms are ``other``, with a name that the Hub takes."""
    words = re.sub(r"[^a-z0-9.]+", "-", text.lower().removesuffix(" license")).strip("-.")
    known = words if words in HUB_LICENCES else _SPELLED.get(words)
    if known and known != "other":
        return {"license": known}
    name = re.sub(r"[^a-z0-9]+", "-", text.lower())[:60].strip("-")
    return {"license": "other", "license_name": name} if name else {"license": "unknown"}
