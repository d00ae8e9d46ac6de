"""The two terms of Minimax against a hand-computed example, and the memories' order."""

import torch

from raydd.engine.generator.config import MinimaxConfig
from raydd.engine.generator.minimax import (
    LatentMemory,
    MinimaxTerms,
    diverse_loss,
    representative_loss,
)

CPU = torch.device("cpu")


def flat(*vectors):
    return torch.tensor(vectors, dtype=torch.float32).reshape(len(vectors), 2, 1, 1)


def memory(vectors, labels, size=4):
    made = LatentMemory(3, size, 2, CPU)
    made.append(flat(*vectors), torch.tensor(labels))
    return made


def test_terms_of_a_small_batch_by_hand():
    """Class 0: cosines (1, 0) and (0.6, 0.8); class 1: (0, -1); class 2 has no memory."""
    known = memory([(2, 0), (0, 3), (0, 1), (-1, 0)], [0, 0, 1, 1])
    predicted, labels = flat((5, 0), (3, 4), (1, 0), (1, 1)), torch.tensor([0, 0, 1, 2])
    near = representative_loss(predicted, labels, known)
    far = diverse_loss(predicted, labels, known)
    torch.testing.assert_close(near, torch.tensor(((1 - 0) + (1 + 1) + 0) / 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(far, torch.tensor((1 + 0 + 0) / 3), atol=1e-3, rtol=0)


def test_only_the_extreme_pair_of_a_class_has_a_gradient():
    known = memory([(1, 0), (0, 1)], [0, 0])
    predicted = flat((5, 1), (3, 4), (1, 1)).requires_grad_()
    representative_loss(predicted, torch.tensor([0, 0, 2]), known).backward()
    moved = predicted.grad.flatten(1).abs().sum(1) > 0
    assert moved.tolist() == [True, False, False]  # (5, 1) and (0, 1): the least cosine
    assert predicted.grad.isfinite().all()


def test_a_memory_holds_the_newest_of_each_class():
    made = LatentMemory(2, 3, 2, CPU)
    angles = torch.arange(1, 6) * 0.2
    rays = torch.stack([angles.cos(), angles.sin()], 1).reshape(5, 2, 1, 1)
    made.append(rays[:2], torch.tensor([0, 0]))
    made.append(rays[2:4], torch.tensor([0, 1]))
    made.append(rays[4:], torch.tensor([0]))
    cosines, known = made.cosines(flat((1, 0), (1, 0)), torch.tensor([0, 1]))
    assert known.sum(1).tolist() == [3, 1]
    kept = cosines[0].arccos().sort().values
    torch.testing.assert_close(kept, angles[[1, 2, 4]], atol=5e-3, rtol=0)
    made.append(rays.flip(0), torch.ones(5, dtype=torch.int64))  # more than it can hold
    cosines, known = made.cosines(flat((1, 0)), torch.tensor([1]))
    torch.testing.assert_close(cosines[0].arccos().sort().values, angles[:3], atol=5e-3, rtol=0)


def test_a_batch_is_compared_with_earlier_ones_only():
    terms = MinimaxTerms(MinimaxConfig(representative_weight=1, diverse_weight=10), 3, 2, CPU)
    one, other = flat((1, 0)), flat((0, 1))
    assert terms.loss(one, one, torch.tensor([0])) == 0
    # real: (1, 0) against predicted (0, 1) -> 1 - 0; predicted: (1, 0) -> 0
    assert abs(float(terms.loss(one, other, torch.tensor([0]))) - 1) < 1e-3
    # now (1, 0) meets the real (1, 0) and the predicted (1, 0), (0, 1)
    assert abs(float(terms.loss(one, one, torch.tensor([0]))) - 10) < 1e-2
