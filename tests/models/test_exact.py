"""A context that asks for repeatable kernels changes nothing else, and gives everything back."""

import pytest
import torch

from raydd.models.exact import deterministic_kernels

CUDNN, PRODUCTS = torch.backends.cudnn, torch.backends.cuda.matmul


def flags():
    return (CUDNN.enabled, CUDNN.benchmark, CUDNN.deterministic, CUDNN.allow_tf32,
            PRODUCTS.allow_tf32)  # fmt: skip


def put(benchmark, deterministic, convolutions, products):
    CUDNN.benchmark, CUDNN.deterministic = benchmark, deterministic
    CUDNN.allow_tf32, PRODUCTS.allow_tf32 = convolutions, products


@pytest.fixture(autouse=True)
def process():
    before = flags()
    yield
    put(*before[1:])


def test_cudnn_stays_on_and_repeats_itself():
    put(True, False, True, False)
    with deterministic_kernels():
        assert flags() == (True, False, True, True, False)


@pytest.mark.parametrize("tf32", [None, False])
def test_all_is_given_back_even_after_an_error(tf32):
    put(True, False, True, True)
    with pytest.raises(KeyError), deterministic_kernels(tf32):
        raise KeyError
    assert flags() == (True, True, False, True, True)


@pytest.mark.parametrize("allowed", [True, False])
def test_rounded_products_are_left_as_they_are_unless_refused(allowed):
    put(False, False, allowed, allowed)
    with deterministic_kernels():
        assert flags()[3:] == (allowed, allowed)
    with deterministic_kernels(tf32=False):
        assert flags()[3:] == (False, False)
