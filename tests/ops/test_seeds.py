"""Claims about raydd.ops.seeds."""

import pytest
import torch

from raydd.ops.seeds import derive_seed, generator


def test_a_seed_never_changes_between_releases():
    assert derive_seed(0, "synthesize", "unit", 3) == 1915398551151598895


def test_seed_parts_are_told_apart_by_type_and_border():
    seeds = {derive_seed(*parts) for parts in [("a", "b"), ("ab",), ("a", 1), ("a", "1"), (1, "a")]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_float_is_no_seed_part():
    with pytest.raises(TypeError, match="string or an integer"):
        derive_seed(0.5)


def test_generators_of_equal_parts_draw_the_same():
    draws = [torch.rand(4, generator=generator("unit", step)) for step in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
