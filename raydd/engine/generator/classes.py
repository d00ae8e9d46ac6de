"""By which number a generator knows each class of the source.

A class is named by its WordNet id (``n01440764``), or by the words by which the generator describes
it ("tench, Tinca tinca", or one of the two where no other class shares it).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from raydd.errors import Refused
from raydd.models.diffusion import GeneratorCard

_NAMED = 3  # unknown classes that a message lists


def match_saved_classes(class_names: Sequence[str], card: GeneratorCard) -> tuple[int, ...]:
    """Class ids of the source's classes, by the names on a generator's card.

    Raises:
        Refused: a class that the generator was not made for.
    """
    known = dict(zip(card.class_names, card.class_ids, strict=True))
    return _all_known(class_names, known)


def match_described_classes(
    class_names: Sequence[str], labels: Mapping[int, str]
) -> tuple[int, ...]:
    """Class ids of the source's classes, by a public generator's descriptions.

    Args:
        class_names: WordNet ids or descriptions.
        labels: synonyms of each class, separated by commas, by class id.

    Raises:
        Refused: an unknown class, or a WordNet id whose words are not the generator's: its classes
            are then in another order than ImageNet's.
    """
    synsets = _synsets()
    known = {name: number for name, number in synsets.items() if number in labels}
    described = _unique({number: _words(text) for number, text in labels.items()})
    described |= _unique({number: [_plain(text)] for number, text in labels.items()})
    for name in class_names:
        if _plain(name) in described and name not in synsets:
            known[name] = described[_plain(name)]
    found = _all_known(class_names, known)
    for name, number in zip(class_names, found, strict=True):
        if name in synsets and not set(_words(_description(name))) & set(_words(labels[number])):
            raise Refused(
                f"the generator's class {number} is {labels[number]!r}, but {name} is "
                f"{_description(name)!r}: its classes are not in ImageNet's order."
            )
    return found


def _unique(names: Mapping[int, Sequence[str]]) -> dict[str, int]:
    """The class of every name that one class only has."""
    counts = Counter(name for group in names.values() for name in set(group))
    return {name: number for number, group in names.items() for name in group if counts[name] == 1}


def _all_known(class_names: Sequence[str], known: Mapping[str, int]) -> tuple[int, ...]:
    if unknown := [name for name in class_names if name not in known]:
        more = len(unknown) - _NAMED
        listed = ", ".join(unknown[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        raise Refused(f"the generator does not know {len(unknown)} of the classes: {listed}.")
    return tuple(known[name] for name in class_names)


@cache
def _imagenet() -> Any:
    from timm.data import ImageNetInfo  # a second to import: only who needs it pays

    return ImageNetInfo("imagenet-1k")


def _synsets() -> dict[str, int]:
    """Number of each of ImageNet's 1,000 classes, by its WordNet id."""
    return {name: number for number, name in enumerate(_imagenet().label_names())}


def _description(synset: str) -> str:
    return _imagenet().label_name_to_description(synset)


def _words(text: str) -> list[str]:
    return [_plain(word) for word in text.split(",")]


def _plain(text: str) -> str:
    """Letters and digits: spellings differ in case, hyphens and apostrophes."""
    return re.sub(r"\W|_", "", text.casefold())
