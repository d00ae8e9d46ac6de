"""What a score table says of its network, in memory that does not grow with the images."""

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from upath import UPath

from raydd.engine.passes.accuracy import MajorityVotes, accuracy
from raydd.store.tables import write_table

CLASSES = 30


def drawn_answers(seed: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Classes and answers: in every fifth class a ``share`` says the next but one."""
    draws = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), draws.integers(5, 20, CLASSES))
    answers = draws.integers(0, CLASSES, len(labels))
    for label in range(0, CLASSES, 5):
        own = np.flatnonzero(labels == label)
        answers[own[: int(np.ceil(share * len(own)))]] = (label + 10) % CLASSES
    return labels, answers


@pytest.mark.parametrize("order", ["sorted", "shuffled", "answers sorted"])
@pytest.mark.parametrize("share", [0.55, 0.8, 1.0])
@pytest.mark.parametrize("part", [1, 7, 300])
def test_classes_are_found_whatever_the_order_and_the_parts(
    tmp_path: Path, order: str, share: float, part: int
) -> None:
    labels, answers = drawn_answers(part, share)
    by = {
        "sorted": np.arange(len(labels)),
        "shuffled": np.random.default_rng(9).permutation(len(labels)),
        "answers sorted": np.argsort(answers, kind="stable"),
    }[order]
    labels, answers = labels[by], answers[by]
    (tmp_path / "parts").mkdir()
    for at in range(0, len(labels), part):
        own = slice(at, at + part)
        columns = {"class_index": labels[own].astype(np.int32), "prediction": answers[own]}
        write_table(UPath(tmp_path / "parts" / f"{at:05d}.parquet"), pa.table(columns))
    found = accuracy(UPath(tmp_path), CLASSES)
    table = np.zeros((CLASSES, CLASSES), int)
    np.add.at(table, (labels, answers), 1)
    assert found["right"] == np.diag(table).tolist()
    assert found["top1"] == np.trace(table) / len(labels)
    often = {
        int(label): int(row.argmax())
        for label, row in enumerate(table)
        if row.max() >= 0.8 * row.sum() and row.argmax() != label
    }
    assert sorted(found["exchanged"]) == [
        (label, answer) for label, answer in often.items() if answer in often
    ]
    assert bool(found["exchanged"]) == (share >= 0.8)


def test_votes_hold_nothing_of_the_images_they_have_seen() -> None:
    votes, draws = MajorityVotes(1000), np.random.default_rng(0)
    tracemalloc.start()
    for _ in range(50):
        votes.add(draws.integers(0, 1000, 20_000), draws.integers(0, 1000, 20_000))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 200_000  # a million pairs are 24 MB


def test_a_network_of_more_classes_may_answer_any_of_them():
    votes = MajorityVotes(2)
    votes.add(np.array([0, 0, 0, 1]), np.array([6, 0, 6, 3]))
    votes.add(np.array([1, 1]), np.array([3, 1]))
    assert votes.answers.tolist() == [6, 3]
