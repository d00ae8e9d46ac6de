"""Which dtype is computed in, and gradients that pass float16."""

import pytest
import torch
from torch import nn

from raydd.models.precision import LossScale, autocast_dtype, fastest_dtype, freeze

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("has_bf16", "has_fp16", "dtype"),
    [
        (True, True, torch.bfloat16),  # A100, H100
        (False, True, torch.float16),  # T4, V100
        (True, False, torch.bfloat16),  # a CPU with AMX tiles
        (False, False, torch.float32),  # any other CPU, GPUs before the V100
    ],
)
def test_auto_takes_the_fastest_dtype_there_is_hardware_for(has_bf16, has_fp16, dtype):
    assert fastest_dtype(has_bf16, has_fp16) == dtype


@pytest.mark.parametrize(
    ("capability", "has_bf16", "dtype"),
    [
        ((7, 5), False, torch.float16),
        ((6, 1), False, torch.float32),
        ((9, 0), True, torch.bfloat16),
    ],
)
def test_auto_asks_the_gpu(monkeypatch, capability, has_bf16, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert autocast_dtype("auto", torch.device("cuda")) == dtype


@pytest.mark.parametrize(("has_tiles", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_wants_tiles_of_a_cpu_not_vectors_of_bf16_alone(monkeypatch, has_tiles, dtype):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_tiles)
    assert autocast_dtype("auto", CPU) == dtype


def test_a_cpu_never_takes_float16_unasked_and_a_misspelt_precision_is_refused():
    assert autocast_dtype("auto", CPU) in (torch.bfloat16, torch.float32)
    assert autocast_dtype("fp16", CPU) == torch.float16
    with pytest.raises(ValueError, match="precision must be one of auto, bf16, fp16, fp32"):
        autocast_dtype("float16", CPU)


def test_weights_beyond_float16_are_refused_by_name():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight.data.fill_(1e5)
    with pytest.raises(ValueError, match=r"1\.weight has weights beyond 65504, .* precision=fp32"):
        freeze(network, CPU, torch.float16)
    assert freeze(network, CPU, torch.bfloat16)[1].weight.dtype == torch.bfloat16


def test_a_gradient_below_float16_survives_by_the_scale():
    values = torch.ones(4, requires_grad=True)

    def loss():
        return (values.half() * 1e-3).sum().float() * 1e-6

    (lost,) = torch.autograd.grad(loss(), values)
    kept = LossScale(torch.float16, CPU).gradient(loss(), values)
    assert not lost.any()
    torch.testing.assert_close(kept, torch.full((4,), 1e-9), rtol=0.01, atol=0)


def test_a_gradient_beyond_float16_is_left_out_and_halves_the_scale():
    scale, values = LossScale(torch.float16, CPU), torch.ones(3, requires_grad=True)
    gradients = [scale.gradient((values.half() * 3).sum().float(), values) for _ in range(3)]
    # 3 * 2 ** 16 and 3 * 2 ** 15 are above 65504, 3 * 2 ** 14 is below
    assert [gradient.tolist() for gradient in gradients] == [[0.0] * 3, [0.0] * 3, [3.0] * 3]
    assert float(scale.scale) == 2.0**14


def test_other_dtypes_are_left_alone():
    values = torch.ones(3, requires_grad=True)
    scale = LossScale(torch.bfloat16, CPU)
    assert scale.scale is None
    assert scale.gradient((values**2).sum(), values).tolist() == [2.0] * 3
