"""The driver on the embedded digits: curricula, the ladder, no image used twice."""

from dataclasses import replace

import numpy as np
import pytest

from raydd.engine.product import slot_ranges
from raydd.engine.selection.chosen import SelectedIds
from raydd.methods.curricular import LADDER, CurricularConfig, StudentConfig, distil, rung
from small_engine import RECIPE, SYNTHESIS, TINY, make_engine


def columns(classes, predictions):
    return {"class_index": np.array(classes), "prediction": np.array(predictions)}


def test_the_ladder_of_the_first_curriculum_asks_the_teacher_alone():
    assert rung([columns([0, 1, 2], [0, 0, 2])]).tolist() == [0, 1, 0]


def test_the_ladder_of_later_curricula_prefers_what_the_teacher_knows_and_the_student_does_not():
    teacher = columns([0, 0, 0, 0], [0, 1, 0, 1])
    student = columns([0, 0, 0, 0], [1, 1, 0, 0])
    names = [LADDER[i] for i in rung([teacher, student])]
    assert names == ["medium", "hard", "other", "other"]


def test_slot_ranges_cover_every_slot_once():
    assert slot_ranges(10, [4, 7]) == [range(0, 4), range(4, 7), range(7, 10)]
    assert slot_ranges(10, []) == [range(10)]


@pytest.mark.slow
def test_two_curricula_end_to_end(ray4, tmp_path):
    config = CurricularConfig(
        ipc=4,
        boundaries=[2],
        synthesis=SYNTHESIS,
        student=StudentConfig(TINY, replace(RECIPE, epochs=2)),
    )
    engine = make_engine(tmp_path)
    product = distil(engine, config)
    assert [item.images.summary["slots"] for item in product.curricula] == [[0, 2], [2, 4]]
    chosen = [SelectedIds(start.folder, 10) for start in product.starts]
    first, second = ({name for label in range(10) for name in ids[label]} for ids in chosen)
    assert len(first) == len(second) == 20
    assert not first & second
    for start in product.starts:
        totals = np.sum(list(start.summary["rungs"].values()), axis=0)
        assert totals.tolist() == [2] * 10
    again = distil(make_engine(tmp_path), config)
    assert [item.images.key for item in again.curricula] == [
        item.images.key for item in product.curricula
    ]


@pytest.mark.slow
def test_noise_start_without_student_needs_no_selection(ray4, tmp_path):
    noise = replace(SYNTHESIS, start="noise", start_weight=0.0, adversarial_weight=0.0)
    product = distil(
        make_engine(tmp_path), CurricularConfig(name="sre2l", ipc=2, boundaries=[], synthesis=noise)
    )
    assert product.starts == []
    assert len(product.images) == 1
