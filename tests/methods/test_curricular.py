"""The driver on the embedded digits: curricula, the ladder, no image used twice."""

from dataclasses import replace

import numpy as np
import pytest

from raydd.config.tree import compose_config
from raydd.engine.product import slot_ranges
from raydd.engine.selection.chosen import SelectedIds
from raydd.engine.selection.difficulty import DifficultyConfig
from raydd.engine.selection.ladder import LADDER, ladder, rung
from raydd.engine.training.teacher import TeacherConfig
from raydd.errors import Refused
from raydd.methods.curricular import CurricularConfig, StudentConfig, distil
from small_engine import RECIPE, SYNTHESIS, TINY, columns_of, make_engine

EASY = CurricularConfig(ipc=3, boundaries=[], synthesis=SYNTHESIS, order="simple")


def columns(classes, predictions):
    return {"class_index": np.array(classes), "prediction": np.array(predictions)}


def test_the_ladder_of_the_first_curriculum_asks_the_teacher_alone():
    assert rung([columns([0, 1, 2], [0, 0, 2])]).tolist() == [0, 1, 0]


def test_the_ladder_of_later_curricula_prefers_what_the_teacher_knows_and_the_student_does_not():
    teacher = columns([0, 0, 0, 0], [0, 1, 0, 1])
    student = columns([0, 0, 0, 0], [1, 1, 0, 0])
    names = [LADDER[i] for i in rung([teacher, student])]
    assert names == ["medium", "hard", "other", "other"]


def test_the_easiest_of_a_rung_are_those_of_the_teachers_margins_whatever_the_student_says():
    first, second = (
        {**columns([0, 0, 0], [0, 1, 0]), "aum": np.array(m)} for m in ([1, 5, 3], [3, 7, 1])
    )
    student = {**columns([0, 0, 0], [1, 1, 0]), "aum": np.array([9, 9, 9])}
    mean = DifficultyConfig("aum", runs=2)
    for has_student, tables in ((False, [first, second]), (True, [first, second, student])):
        order = ladder(mean, 2, has_student)
        assert order.difficulty(tables).tolist() == [-2, -6, -2]
        assert order.rung(tables).tolist() == ([0, 1, 2] if has_student else [0, 1, 0])
    assert order.ladder == LADDER
    assert ladder(None, 1, False).difficulty is None


def test_the_easiest_images_that_the_teacher_gets_right_are_the_starts(ray4, tmp_path):
    product = distil(make_engine(tmp_path), EASY)
    scores = columns_of(product.scores)
    names, labels, margin, guess = (
        scores[name] for name in ("id", "class_index", "aum", "prediction")
    )
    chosen = SelectedIds(product.starts[0].folder, 10)
    for label in range(10):
        known = (labels == label) & (guess == label)
        best = known if known.sum() >= 3 else labels == label
        taken = np.isin(names, list(chosen[label]))
        least = np.sort(margin[best & taken])[0]
        assert taken.sum() == 3
        assert (best & ~taken & (margin > least)).sum() == 0


def test_what_cannot_be_ordered_is_refused(tmp_path):
    noise = replace(SYNTHESIS, start="noise", start_weight=0.0, adversarial_weight=0.0)
    with pytest.raises(ValueError, match="start=noise has none"):
        replace(EASY, synthesis=noise)
    with pytest.raises(ValueError, match="order must be one of random, simple"):
        replace(EASY, order="easy")
    with pytest.raises(ValueError, match="difficulty orders start images with order=simple alone"):
        replace(EASY, order="random", difficulty=DifficultyConfig("logit"))
    given = make_engine(tmp_path, teacher=TeacherConfig(TINY, RECIPE, checkpoint="/nowhere"))
    with pytest.raises(Refused, match=r"difficulty\.by=aum needs a teacher that is trained here"):
        distil(given, EASY)


def test_the_preset_is_cudd_but_for_the_order():
    easy, cudd = (compose_config([f"method={n}"]).method for n in ("curricular_easy", "curricular"))
    assert (easy.order, easy.difficulty.by, cudd.order) == ("simple", "aum", "random")
    assert replace(easy, name="curricular", order="random", difficulty=cudd.difficulty) == cudd


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
