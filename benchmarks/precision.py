"""What bfloat16 is worth on this processor: the time of float32 over that of bfloat16, in turn.

A training step of ``airnet``, a step of the recover loop's kind (the gradient of a frozen ResNet-18
by its images), and a step of a small diffusion transformer's layers, each on one thread; the median
of ``--rounds`` pairs. ``precision=auto`` takes bfloat16 on processors with AMX tiles alone: last
line, the smallest ratio, should be above 1 where it does, and was below where it does not.

    python benchmarks/precision.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from raydd.models.layout import laid_out, lay_out
from raydd.models.precision import autocast, autocast_dtype, freeze
from raydd.models.registry import ModelConfig, create_model

CPU, BATCH, CLASSES, SIDE, TOKENS, WIDTH = torch.device("cpu"), 100, 10, 32, 64, 384

Step = Callable[[], object]


def training_step(dtype: torch.dtype) -> Step:
    """Loss and gradients of an ``airnet`` on a batch of images."""
    network = lay_out(create_model(ModelConfig("airnet", width=48), CLASSES, SIDE), CPU)
    images = laid_out(torch.randn(BATCH, 3, SIDE, SIDE), network)
    labels = torch.arange(BATCH) % CLASSES

    def step() -> None:
        with autocast(CPU, dtype):
            loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()

    return step


def recover_step(dtype: torch.dtype) -> Step:
    """The gradient of a frozen network's answers by its images."""
    network = freeze(create_model(ModelConfig("resnet18_small"), CLASSES, SIDE), CPU, dtype)
    images = laid_out(torch.randn(BATCH // 4, 3, SIDE, SIDE), network).requires_grad_()

    def step() -> None:
        with autocast(CPU, dtype):
            answers = network(images)
        torch.autograd.grad(answers.float().square().sum(), images)

    return step


def transformer_step(dtype: torch.dtype) -> Step:
    """The forward pass of one block's layers, as sampling runs them."""
    block = nn.TransformerEncoderLayer(WIDTH, 6, 4 * WIDTH, activation="gelu", batch_first=True)
    block.eval()
    tokens = torch.randn(BATCH, TOKENS, WIDTH)

    def step() -> None:
        with torch.no_grad(), autocast(CPU, dtype):
            block(tokens)

    return step


def seconds(step: Step) -> float:
    """Of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    """Time both sides of every step in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    has = {"AVX512-BF16": torch.cpu._is_avx512_bf16_supported()}
    has["AMX tiles"] = torch.cpu._is_amx_tile_supported()
    print(f"{has}; precision=auto is {autocast_dtype('auto', CPU)}")
    ratios = []
    for build in (training_step, recover_step, transformer_step):
        plain, rounded = build(torch.float32), build(torch.bfloat16)
        plain(), rounded()
        pairs = [(seconds(plain), seconds(rounded)) for _ in range(rounds)]
        slow, fast = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios.append(statistics.median(a / b for a, b in pairs))
        print(f"{build.__name__}: {slow:.3f} s in float32, {fast:.3f} s in bfloat16")
        print(f"    ratio {ratios[-1]:.2f}")
    print(f"value: {min(ratios):.2f}")


if __name__ == "__main__":
    main()
