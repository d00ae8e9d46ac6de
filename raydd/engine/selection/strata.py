"""Strata of difficulty, for a selection that covers all of its range instead of one end.

Coverage-centric selection (CCS; Zheng et al., ICLR 2023, arXiv 2210.15809): the hardest images are
dropped, the range of the difficulties of the others is cut into strata of equal width, and every
stratum gives as many images as the others, as far as it has them. Written from the paper.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

_BLOCK = 1_000_000  # rows whose strata are computed at once
_INFINITE = np.uint64(0xFF800000) << np.uint64(32)  # the least place of an infinite difficulty


@dataclass(frozen=True)
class Strata:
    """Where the strata lie, and how many images each of them gives.

    Attributes:
        count: k, strata of each group.
        balanced: whether every class is a group; else all classes are one.
        low: float64 [G], the least difficulty.
        span: float64 [G], from it to the largest one that is not dropped.
        last: uint64 [G], the place (see :func:`order`) of the hardest row that is not dropped.
        quotas: int64 [G * k], images of each stratum, those of a group together, easy ones first.
    """

    count: int
    balanced: bool
    low: np.ndarray
    span: np.ndarray
    last: np.ndarray
    quotas: np.ndarray

    def of(self, class_index: np.ndarray, difficulty: np.ndarray) -> np.ndarray:
        """Number of the stratum of each row that is kept, int64 [N]."""
        group = self._group(class_index)
        return group * self.count + stratum(
            difficulty, self.low[group], self.span[group], self.count
        )

    def keeps(self, class_index: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Whether rows are not dropped, bool [N]; ``places`` is that of :func:`order`."""
        return (places <= self.last[self._group(class_index)]) & (places < _INFINITE)

    def _group(self, class_index: np.ndarray) -> np.ndarray:
        group = class_index if self.balanced else np.zeros(len(class_index))
        return group.astype(np.int64)


def order(difficulty: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Places of rows ordered by difficulty, and by a hash where it is equal; uint64 [N].

    Eight bytes tell both: the difficulty as float32, its bits turned so that they sort as numbers
    do, above half of the hash.

    Args:
        difficulty: float [N].
        ties: uint64 [N].
    """
    # 0 is added, for -0 and 0 are one difficulty
    bits = (difficulty.astype(np.float32) + np.float32(0)).view(np.uint32)
    bits = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (bits.astype(np.uint64) << np.uint64(32)) | (ties >> np.uint64(32))


def difficulty_at(places: np.ndarray) -> np.ndarray:
    """The difficulty that :func:`order` was told, float32 [N]."""
    bits = (places >> np.uint64(32)).astype(np.uint32)
    return np.where(bits >> 31, bits & np.uint32(0x7FFFFFFF), ~bits).view(np.float32)


def stratum(
    difficulty: np.ndarray, low: np.ndarray | float, span: np.ndarray | float, count: int
) -> np.ndarray:
    """Number of the stratum, int64 [N] in [0, count).

    Args:
        difficulty: float [N]; compared as float32, which is what is known of it in advance.
        low: the least one of the row's group.
        span: from it to the largest one; 0 where all are equal.
        count: strata of equal width.
    """
    above = difficulty.astype(np.float32).astype(np.float64) - low
    share = above / np.where(np.asarray(span) > 0, span, 1.0)
    return (share * count).clip(0, count - 1).astype(np.int64)


def share_out(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Images that each stratum gives; together the budget, or all there are where that is less.

    From the smallest stratum to the largest, each gives an equal share of what is still to be
    given, or all that it has.

    Args:
        sizes: int64 [k], images of each stratum.
        budget: in all.
    """
    given, left = np.zeros_like(sizes), budget
    for done, at in enumerate(np.argsort(sizes, kind="stable").tolist()):
        given[at] = min(int(sizes[at]), left // (len(sizes) - done))
        left -= int(given[at])
    return given


def plan_strata(
    places: np.ndarray,
    class_index: np.ndarray,
    asked: np.ndarray,
    balanced: bool,
    count: int,
    hard_cutoff: float,
) -> Strata:
    """Drop the hardest candidates, cut the range of the others into strata and share out.

    Args:
        places: uint64 [N], see :func:`order`; their order may be changed here.
        class_index: int [N]; empty where the classes are not balanced.
        asked: int64 [C], images of each class.
        balanced: whether every class has strata of its own.
        count: k.
        hard_cutoff: share of the candidates of a group that is dropped, [0, 1). Those without a
            finite difficulty, which have no place in a range, are dropped first, all of them.
    """
    budgets = asked if balanced else np.array([asked.sum()])
    low, span = np.zeros((2, len(budgets)))
    last = np.zeros(len(budgets), np.uint64)
    quotas = np.zeros((len(budgets), count), np.int64)
    for group, mine in enumerate(_groups(places, class_index, len(budgets), balanced)):
        finite = int((mine < _INFINITE).sum())
        left = min(len(mine) - int(Fraction(str(hard_cutoff)) * len(mine)), finite)
        if not left:
            continue
        mine.partition(left - 1)
        last[group] = mine[left - 1]
        kept = mine[:left]
        low[group] = difficulty_at(kept.min(keepdims=True))[0]
        span[group] = float(difficulty_at(last[group : group + 1])[0]) - low[group]
        sizes = _sizes(kept, low[group], span[group], count)
        quotas[group] = share_out(sizes, int(budgets[group]))
    return Strata(count, balanced, low, span, last, quotas.ravel())


def _groups(
    places: np.ndarray, class_index: np.ndarray, groups: int, balanced: bool
) -> Iterator[np.ndarray]:
    """The places of each group; the reader may change their order."""
    if not balanced:
        yield places
        return
    by_class = np.argsort(class_index, kind="stable")
    ends = np.searchsorted(class_index[by_class], np.arange(groups + 1))
    for begin, end in pairwise(ends):
        yield places[by_class[begin:end]]


def _sizes(places: np.ndarray, low: float, span: float, count: int) -> np.ndarray:
    """Rows of each stratum, int64 [count]."""
    sizes = np.zeros(count, np.int64)
    for begin in range(0, len(places), _BLOCK):
        values = difficulty_at(places[begin : begin + _BLOCK])
        sizes += np.bincount(stratum(values, low, span, count), minlength=count)
    return sizes
