"""What a result means, in one sentence."""

import pytest

from raydd.report.gather import accuracy_of
from raydd.report.verdict import verdict


@pytest.mark.parametrize(
    ("ours", "random", "kind", "words"),
    [
        ([0.95, 0.96, 0.95], [0.87, 0.88, 0.87], "won", "8.0 points won"),
        ([0.88, 0.90, 0.86], [0.87, 0.89, 0.88], "even", "no difference that 3 seeds can show"),
        ([0.95], [0.87], "even", "8.0 points more, but one seed shows no difference"),
        ([0.84, 0.84, 0.841], [0.87, 0.87, 0.871], "lost", "3.0 points lost."),
        ([0.60, 0.61, 0.60], [0.87, 0.88, 0.87], "failed", "27.0 points lost, take the random"),
        ([0.10, 0.11, 0.10], [0.87, 0.88, 0.87], "failed", "at chance level"),
    ],
)
def test_a_sentence_says_what_was_won(ours, random, kind, words):
    found = verdict(accuracy_of(ours), accuracy_of(random), 20, 10)
    assert found.kind == kind
    assert words in found.text
    assert found.text.startswith(f"20 images teach a network {100 * sum(ours) / len(ours):.1f} %")
