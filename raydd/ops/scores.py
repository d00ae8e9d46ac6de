"""What score tables say about real images: which are candidates, and how difficult they are."""

from collections.abc import Sequence

import numpy as np

Columns = dict[str, np.ndarray]


def teacher_correct(teacher: Columns, mode: str, top_k: int) -> np.ndarray:
    """Whether the teacher may be believed about an image, bool [N].

    Args:
        teacher: columns ``true_rank`` (classes with a larger logit than the true one).
        mode: "on" (the true class comes first), "top_k" (among the first k) or "off" (always).
        top_k: k.
    """
    if mode == "off":
        return np.ones(len(teacher["true_rank"]), bool)
    return teacher["true_rank"] < (1 if mode == "on" else top_k)


def coarse_rungs(
    trusted: np.ndarray, filter_scores: Columns | None, coarse: str, fill: bool
) -> np.ndarray:
    """Rung of each image in the coarse stage, int8 [N].

    Args:
        trusted: bool [N], see :func:`teacher_correct`.
        filter_scores: columns ``class_index`` and ``prediction``; None for ``coarse="off"``.
        coarse: "misclassified" or "correct" by the filter are candidates, or all ("off").
        fill: put the other trusted images on a second rung, those that are not on a third.
    Returns:
        0 candidate, 1 other trusted image, 2 any other (both with ``fill``), -1 never chosen.
    """
    candidate = trusted
    if filter_scores is not None:
        right = filter_scores["prediction"] == filter_scores["class_index"]
        candidate = trusted & (right if coarse == "correct" else ~right)
    others = np.where(trusted, 1, 2) if fill else -1
    return np.where(candidate, 0, others).astype(np.int8)


def margin_difficulty(tables: Sequence[Columns]) -> np.ndarray:
    """Minus the mean of the ``aum`` columns, float64 [N]: a low margin is difficult.

    Inf where a training never met the image.
    """
    margin = np.stack([table["aum"] for table in tables]).astype(np.float64).mean(0)
    return np.where(np.isnan(margin), np.inf, -margin)


def error_difficulty(tables: Sequence[Columns]) -> np.ndarray:
    """Mean of the ``error_norm`` columns, float64 [N]."""
    return np.stack([table["error_norm"] for table in tables]).astype(np.float64).mean(0)


def forgetting_difficulty(tables: Sequence[Columns]) -> np.ndarray:
    """Mean of the ``forgetting`` columns, float64 [N]; inf where a training never met the image."""
    events = np.stack([table["forgetting"] for table in tables])
    return np.where((events < 0).any(0), np.inf, events.mean(0))
