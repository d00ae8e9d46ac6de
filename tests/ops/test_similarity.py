"""Claims about raydd.ops.similarity."""

import pytest
import torch
import torch.nn.functional as F

from raydd.ops.seeds import generator
from raydd.ops.similarity import mean_pairwise_cosine


def test_it_is_the_mean_over_classes_of_all_pairs():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    vectors = F.normalize(torch.randn(6, 8, generator=generator("vectors")))
    sums = torch.zeros(4, 8).index_add_(0, labels, vectors)
    plain = []
    for c in (0, 1):  # class 2 has no pair, class 3 no image
        members = vectors[labels == c]
        cosines = members @ members.T
        plain.append(cosines[~torch.eye(len(members), dtype=bool)].mean())
    ours = mean_pairwise_cosine(sums, torch.bincount(labels, minlength=4))
    assert ours == pytest.approx(float(sum(plain)) / 2, abs=1e-6)


def test_equal_images_are_alike_and_single_ones_compare_with_nothing():
    assert mean_pairwise_cosine(torch.tensor([[3.0, 0.0]]), torch.tensor([3])) == pytest.approx(1)
    assert mean_pairwise_cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([1])) is None
