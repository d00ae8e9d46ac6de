"""LRS and ARS against the published leaderboard, and what they refuse."""

import math

import pytest

from raydd.ops.robust_scores import (
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)

# CIFAR-10 rows of the DD-Ranking leaderboard: method, ipc, HLR and IOR in points, LRS
LEADERBOARD = [
    ("MTT", 1, 42.2, 27.6, 0.239),
    ("MTT", 10, 23.7, 30.9, 0.284),
    ("MTT", 50, 16.5, 20.5, 0.278),
    ("DATM", 10, 26.8, 35.1, 0.287),
    ("DATM", 50, 18.9, 23.9, 0.280),
    ("DM", 10, 39.4, 16.1, 0.222),
    ("DM", 50, 25.1, 12.7, 0.243),
    ("SRe2L", 10, 67.8, -5.8, 0.138),
]


@pytest.mark.parametrize(("method", "ipc", "recovery", "improvement", "score"), LEADERBOARD)
def test_the_leaderboard_is_reproduced(method, ipc, recovery, improvement, score):
    # half a unit of the printed score, and what half a tenth of a point in each difference may do
    printed = 0.0005 + 0.0005 * math.e**0.1 / (math.e - 1 / math.e)
    found = label_robust_score(recovery / 100, improvement / 100)
    assert found == pytest.approx(score, rel=0, abs=printed)


def test_the_scores_span_zero_to_one():
    assert label_robust_score(1.0, -1.0) == pytest.approx(0.0)
    assert label_robust_score(-1.0, 1.0) == pytest.approx(1.0)
    assert augmentation_robust_score(0.0, 1.0, 0.0, 1.0) == pytest.approx(0.0)
    assert augmentation_robust_score(1.0, 0.0, 1.0, 0.0) == pytest.approx(1.0)


def test_differences_have_the_papers_signs():
    assert hard_label_recovery(real=0.9, distilled=0.3) == pytest.approx(0.6)
    assert improvement_over_random(distilled=0.5, random=0.3) == pytest.approx(0.2)
    better = label_robust_score(hard_label_recovery(0.9, 0.4), improvement_over_random(0.5, 0.3))
    worse = label_robust_score(hard_label_recovery(0.9, 0.3), improvement_over_random(0.5, 0.4))
    assert better > worse


def test_weights_choose_between_the_differences():
    assert label_robust_score(0.7, 0.2, weight=1.0) == label_robust_score(0.0, 0.2, weight=1.0)
    assert label_robust_score(0.7, 0.2, weight=0.0) == label_robust_score(0.7, 0.0, weight=0.0)
    only_with = augmentation_robust_score(0.6, 0.5, 0.1, 0.4, gamma=1.0)
    assert only_with == pytest.approx(label_robust_score(0.0, 0.1, weight=1.0))
    only_without = augmentation_robust_score(0.6, 0.5, 0.1, 0.4, gamma=0.0)
    assert only_without == pytest.approx(label_robust_score(0.3, 0.0, weight=0.0))


@pytest.mark.parametrize(
    "call",
    [
        lambda: hard_label_recovery(84.8, 42.6),
        lambda: improvement_over_random(0.5, -0.1),
        lambda: label_robust_score(42.2, 27.6),
        lambda: label_robust_score(0.1, 0.1, weight=1.1),
        lambda: augmentation_robust_score(0.5, 0.4, 50.0, 0.4),
        lambda: augmentation_robust_score(0.5, 0.4, 0.5, 0.4, gamma=-0.1),
        lambda: label_robust_score(float("nan"), 0.1),
    ],
)
def test_points_are_refused_in_one_sentence(call):
    with pytest.raises(ValueError, match="is a fraction in") as refusal:
        call()
    assert "\n" not in str(refusal.value)
