"""From a score table: how often a network is right, which classes it takes for one another."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from upath import UPath

from raydd.store.tables import part_files, read_table

_NEARLY_ALWAYS = 0.8  # of a class's images


def accuracy(folder: UPath, num_classes: int) -> dict[str, Any]:
    """How often the network is right; the parts are read one at a time.

    Args:
        folder: of the score table.
        num_classes: C; what is held meanwhile grows with it alone, not with the images.
    Returns:
        ``top1``, [0, 1]; ``right``, images of each class; ``exchanged``, see
        :func:`exchanged_classes`.
    """
    right, counts = np.zeros((2, num_classes), np.int64)
    votes = MajorityVotes(num_classes)
    for labels, answers in _answers(folder):
        right += np.bincount(labels[labels == answers], minlength=num_classes)
        counts += np.bincount(labels, minlength=num_classes)
        votes.add(labels, answers)
    suspects = np.flatnonzero((votes.answers >= 0) & (votes.answers != np.arange(num_classes)))
    times = np.zeros(num_classes, np.int64)
    for labels, answers in _answers(folder) if len(suspects) else ():
        times += np.bincount(labels[votes.answers[labels] == answers], minlength=num_classes)
    wrong = np.stack([suspects, votes.answers[suspects], times[suspects]], axis=1)
    return {
        "top1": int(right.sum()) / max(int(counts.sum()), 1),
        "right": right.tolist(),
        "exchanged": exchanged_classes(wrong, counts),
    }


def exchanged_classes(wrong: np.ndarray, counts: np.ndarray) -> list[tuple[int, int]]:
    """Classes that a network nearly always takes for others, which fare alike.

    A class that it cannot tell from another is no such class: there the other one is right.

    Args:
        wrong: int64 [N, 3]: class, prediction, images; the frequent ones of each class suffice.
        counts: int64 [C], images of each class.
    Returns:
        Pairs (class, what it is taken for), each class at most once.
    """
    often = wrong[wrong[:, 2] >= _NEARLY_ALWAYS * counts[wrong[:, 0]]]
    always = {int(label): int(answer) for label, answer, _ in often}
    return [(label, answer) for label, answer in always.items() if answer in always]


class MajorityVotes:
    """The answer that each class gets for more than half of its images, whatever their order.

    Two images of a class with different answers cancel each other out; what most of them say is
    left over in the end (Boyer and Moore's majority vote). An answer that only some give may be
    left, too, so that whoever asks must count.

    Args:
        num_classes: C.

    Attributes:
        answers: int64 [C]; -1 before there was one.
    """

    def __init__(self, num_classes: int) -> None:
        self.answers = np.full(num_classes, -1, np.int64)
        self._left = np.zeros(num_classes, np.int64)

    def add(self, labels: np.ndarray, answers: np.ndarray) -> None:
        """Take the answers int64 [N] to images of classes ``labels``, int64 [N]."""
        span = max(len(self.answers), int(answers.max(initial=0)) + 1)  # others' networks know more
        pairs, times = np.unique(labels * span + answers, return_counts=True)
        of_class, answer = pairs // span, pairs % span
        lead = 2 * times - np.bincount(labels, minlength=span)[of_class]
        is_most = lead > 0  # at most one answer to a class
        of_class, answer, lead = of_class[is_most], answer[is_most], lead[is_most]
        same = self.answers[of_class] == answer
        left = self._left[of_class] + np.where(same, lead, -lead)
        self.answers[of_class] = np.where(left < 0, answer, self.answers[of_class])
        self._left[of_class] = np.abs(left)


def _answers(folder: UPath) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Classes and predictions of each part, int64 [N] each."""
    for path in part_files(folder):
        table = read_table(path, ["class_index", "prediction"])
        labels, answers = (table[n].to_numpy().astype(np.int64) for n in table.column_names)
        yield labels, answers
