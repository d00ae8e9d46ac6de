"""The thousand classes of ImageNet (ILSVRC 2012): WordNet ids in label order, and their words.

Folders are called by the ids, the Hub's copy by the words, and papers list either; so both find a
class (:mod:`raydd.data.sources.subset`).
"""

from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def imagenet_synsets() -> dict[str, str]:
    """WordNet id -> words, separated by commas, in label order; 1000 entries."""
    text = Path(__file__).with_name("imagenet_synsets.txt").read_text("utf-8")
    return dict(line.split(" ", 1) for line in text.splitlines())
