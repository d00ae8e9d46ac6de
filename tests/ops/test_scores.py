"""The coarse stage's rungs and the difficulty, row by row."""

import numpy as np

from raydd.ops.scores import (
    coarse_rungs,
    error_difficulty,
    forgetting_difficulty,
    margin_difficulty,
    teacher_correct,
)


def test_the_teacher_is_asked_for_the_first_or_one_of_the_first_k():
    teacher = {"true_rank": np.array([0, 1, 4, 5])}
    assert teacher_correct(teacher, "on", 5).tolist() == [True, False, False, False]
    assert teacher_correct(teacher, "top_k", 5).tolist() == [True, True, True, False]
    assert teacher_correct(teacher, "off", 5).all()


def test_candidates_are_trusted_and_wrong_and_the_rest_may_fill():
    trusted = np.array([True, True, False, False])
    answers = {"class_index": np.array([0, 0, 0, 0]), "prediction": np.array([1, 0, 1, 0])}
    assert coarse_rungs(trusted, answers, "misclassified", fill=False).tolist() == [0, -1, -1, -1]
    assert coarse_rungs(trusted, answers, "misclassified", fill=True).tolist() == [0, 1, 2, 2]
    assert coarse_rungs(trusted, answers, "correct", fill=False).tolist() == [-1, 0, -1, -1]
    assert coarse_rungs(trusted, None, "off", fill=False).tolist() == [0, 0, -1, -1]


def test_difficulty_is_the_mean_over_runs_and_what_no_run_met_is_hardest():
    runs = [{"forgetting": np.array([0, 3, -1, 2])}, {"forgetting": np.array([1, 3, 5, 2])}]
    assert forgetting_difficulty(runs).tolist() == [0.5, 3.0, np.inf, 2.0]


def test_a_low_mean_margin_is_difficult_and_what_a_run_never_met_is_hardest():
    runs = [{"aum": np.array([1, -2, np.nan, 4], "f4")}, {"aum": np.array([3, 0, 9, 4], "f4")}]
    assert margin_difficulty(runs).tolist() == [-2, 1, np.inf, -4]


def test_the_error_is_the_mean_over_networks():
    networks = [{"error_norm": np.array([0.5, 1], "f4")}, {"error_norm": np.array([0, 1.25], "f4")}]
    assert error_difficulty(networks).tolist() == [0.25, 1.125]
