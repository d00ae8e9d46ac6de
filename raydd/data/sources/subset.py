"""Some classes of a data set, in an order of one's own: ImageNette out of ImageNet."""

import difflib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raydd.data.classes import unique_names
from raydd.data.sources.base import Row, Shard, Source
from raydd.data.sources.files import digest
from raydd.data.sources.heldout import labelled_ids
from raydd.data.synsets import imagenet_synsets

_ORDER_SHARE = 0.95  # of ImageNet's names that must stand at their place: copies change a few


@dataclass(frozen=True)
class ChosenClasses:
    """See :func:`choose_classes`; ``positions`` are those of ``class_names`` in ``source``."""

    source: Source
    class_names: tuple[str, ...]
    positions: tuple[int, ...]
    fingerprint: str

    @property
    def unused(self) -> Mapping[str, int]:
        """As in the whole set; images of other classes are no files passed over."""
        return self.source.unused

    def shards(self) -> list[Shard]:
        """Those of the whole set."""
        return self.source.shards()

    def read(self, shard: Shard) -> Iterator[Row]:
        """Stream the rows of the chosen classes, and broken ones whose class nobody knows."""
        index = {position: chosen for chosen, position in enumerate(self.positions)} | {-1: -1}
        for row in self.source.read(shard):
            if row.class_index in index:
                yield Row(row.id, index[row.class_index], row.image, row.reason, row.images)

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """As the whole set does: an id alone does not tell its class."""
        return self.source.fetch(ids)

    def class_counts(self) -> np.ndarray | None:
        """Those of the whole set, at the chosen positions."""
        counts = self.source.class_counts()
        return None if counts is None else counts[list(self.positions)]

    def labelled_ids(self) -> Iterator[tuple[str, int]] | None:
        """See :class:`raydd.data.sources.heldout.KnowsIds`."""
        known = labelled_ids(self.source)
        if known is None:
            return None
        index = {position: chosen for chosen, position in enumerate(self.positions)}
        return ((row_id, index[position]) for row_id, position in known if position in index)


def choose_classes(source: Source, names: Sequence[str]) -> Source:
    """Keep some classes; rows of the others are left out, not rejected.

    Args:
        source: the whole set.
        names: as :func:`pick_classes` takes them; their order is the new label order.
    Raises:
        ValueError: a name that means no class, or more than one.
    """
    positions = pick_classes(source.class_names, names)
    chosen = tuple(source.class_names[position] for position in positions)
    return ChosenClasses(source, chosen, positions, digest("classes", source.fingerprint, *chosen))


def pick_classes(class_names: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Positions of chosen classes.

    Args:
        class_names: of the whole set.
        names: a class each: its name; or, where that leaves no doubt, the name in another case or
            with underscores for spaces, one of several names ("tench" of "tench, Tinca tinca"), or
            for classes of ImageNet their WordNet id or its words.
    Raises:
        ValueError: fewer than two names, one given twice, one that means no class or several.
    """
    exact = {name: position for position, name in enumerate(class_names)}
    others = _other_names(class_names)
    positions = tuple(_position(name, exact, others) for name in names)
    chosen = unique_names([class_names[position] for position in positions], "dataset.classes")
    if len(chosen) < 2:
        raise ValueError(f"dataset.classes names only {chosen[0]!r}: a set needs two classes.")
    return positions


def _position(name: str, exact: Mapping[str, int], others: Mapping[str, set[int]]) -> int:
    found = {exact[name]} if name in exact else others.get(_plain(name), set())
    if len(found) == 1:
        return next(iter(found))
    if found:
        names = [known for known, position in exact.items() if position in found]
        raise ValueError(
            f"dataset.classes names {name!r}, which may be any of {'; '.join(names)}: give the "
            "full name."
        )
    close = difflib.get_close_matches(name, exact) or difflib.get_close_matches(
        _plain(name), others
    )
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "correct the name."
    raise ValueError(
        f"dataset.classes names {name!r}, which is none of the {len(exact)} classes; {hint}"
    )


def _other_names(class_names: Sequence[str]) -> dict[str, set[int]]:
    """Plain spelling -> positions of the classes that it may mean."""
    synsets = imagenet_synsets()
    ids = _synset_ids(class_names)
    found: dict[str, set[int]] = defaultdict(set)
    for position, name in enumerate(class_names):
        words = [name, *name.split(","), ids[position] or ""]
        words += synsets.get(ids[position] or name, "").split(",")
        for word in filter(None, map(_plain, words)):
            found[word].add(position)
    return dict(found)


def _synset_ids(class_names: Sequence[str]) -> list[str | None]:
    """The WordNet id of each class that is called by the words of one."""
    synsets = imagenet_synsets()
    if len(class_names) == len(synsets):
        pairs = zip(map(_plain, class_names), map(_plain, synsets.values()), strict=True)
        agreeing = sum(name in (words, words.split(",")[0]) for name, words in pairs)
        if agreeing >= _ORDER_SHARE * len(synsets):
            return list(synsets)
    ids: dict[str, list[str]] = defaultdict(list)
    for synset, words in synsets.items():
        ids[_plain(words)].append(synset)
    return [
        ids[_plain(name)][0] if len(ids.get(_plain(name), ())) == 1 else None
        for name in class_names
    ]


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().lower()
