"""Speed of the recover loop against a plain fp32 transcription of its specification.

Prints image-iterations per second of both sides, run in turn in one process, and as its last line
the median ratio (ours over the transcription, larger is better).

    python benchmarks/recover.py --quick
    python benchmarks/recover.py --model resnet18_small --resolution 32 --batch 100 --steps 5
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from raydd.engine.recover import Recovery, SynthesisConfig
from raydd.models import ModelConfig, create_model

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
ROLL = 4


class StatisticsHook:
    """Forward hook that keeps the gap between batch and running statistics of one layer."""

    def __init__(self, norm: nn.BatchNorm2d):
        self.gap = torch.zeros(())
        norm.register_forward_hook(self)

    def __call__(self, norm: nn.BatchNorm2d, inputs: tuple[Tensor], output: Tensor) -> None:
        """Compute the two norms of the specification."""
        features = inputs[0]
        mean = features.mean((0, 2, 3))
        rows = features.permute(1, 0, 2, 3).contiguous().view(features.shape[1], -1)
        var = rows.var(1, unbiased=False)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.gap = torch.norm(var - norm.running_var, 2) + torch.norm(mean - norm.running_mean, 2)


def plain_recover(
    start: Tensor,
    labels: Tensor,
    teacher: nn.Module,
    student: nn.Module | None,
    hooks: list[StatisticsHook],
    steps: int,
) -> Tensor:
    """Recover one batch as the specification of CUDD is written, section 5, in float32."""
    resolution = start.shape[-1]
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    real = (start.float() / 255 - mean) / std
    images = real.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=0.25, betas=(0.5, 0.9), eps=1e-8)
    augment = v2.Compose([v2.RandomResizedCrop(resolution), v2.RandomHorizontalFlip()])
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.25 * 0.5 * (1 + math.cos(math.pi * step / steps))
        view, view_real = augment(torch.cat([images, real])).chunk(2)
        shift = [int(torch.randint(0, ROLL + 1, (1,))) for _ in range(2)]
        view, view_real = torch.roll(view, shift, (2, 3)), torch.roll(view_real, shift, (2, 3))
        optimizer.zero_grad()
        logits = teacher(view)
        loss = F.cross_entropy(logits, labels)
        weights = [10.0] + [1.0] * (len(hooks) - 1)
        loss = loss + 0.01 * sum(w * h.gap for w, h in zip(weights, hooks, strict=True))
        loss = loss + F.mse_loss(view, view_real)
        if student is not None:
            mask = torch.zeros(len(labels), 1)
            for row in range(len(labels)):
                if logits[row].argmax().item() == labels[row].item():
                    mask[row] = 1
            confidence = F.softmax(student(view) * mask, dim=1)[range(len(labels)), labels]
            loss = loss - torch.log(1 - confidence + 1e-12).mean()
        loss.backward()
        optimizer.step()
        images.data = torch.clamp(images.data, -mean / std, (1 - mean) / std)
    return ((images.detach() * std + mean).clamp(0, 1) * 255).to(torch.uint8)


def timed(side: Callable[[], object]) -> float:
    """Seconds of one call, the device drained."""
    begin = time.perf_counter()
    side()
    return time.perf_counter() - begin


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18_small", help="teacher and student by name")
    parser.add_argument("--resolution", type=int, default=32, help="side of the images, pixels")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=100, help="images per batch")
    parser.add_argument("--steps", type=int, default=4, help="recover steps per timed call")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each side")
    parser.add_argument("--threads", type=int, default=1, help="torch threads, 1 as in a worker")
    parser.add_argument("--precision", default="auto", help="ours: auto, bf16 or fp32")
    parser.add_argument("--compile", action="store_true", help="ours: use torch.compile")
    parser.add_argument("--no-student", action="store_true", help="first curriculum: no adversary")
    parser.add_argument("--profile", action="store_true", help="print where our time goes")
    parser.add_argument("--quick", action="store_true", help="under a minute on 2 cores")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.steps, chosen.rounds = 1, 5
    return chosen


def main() -> None:
    """Run both sides in turn and print their speed and the ratio."""
    chosen = options()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    names = ModelConfig(chosen.model)
    nets = [create_model(names, chosen.classes, chosen.resolution) for _ in range(2)]
    teacher, student = (net.eval().requires_grad_(False) for net in nets)
    adversary = None if chosen.no_student else student
    start = torch.randint(
        0, 256, (chosen.batch, 3, chosen.resolution, chosen.resolution), dtype=torch.uint8
    )
    labels = torch.arange(chosen.batch) % chosen.classes
    config = SynthesisConfig(
        steps=chosen.steps, roll=(0, ROLL), precision=chosen.precision, compile=chosen.compile
    )
    recovery = Recovery(teacher, adversary, config, MEAN, STD, chosen.resolution, "cpu")
    norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [StatisticsHook(norm) for norm in norms]

    def plain() -> object:
        return plain_recover(start, labels, teacher, adversary, hooks, chosen.steps)

    def ours() -> object:
        return recovery.run(start, labels, ("benchmark",))

    print(f"{vars(chosen)} dtype={recovery.dtype}")
    plain(), ours()
    times = [(timed(plain), timed(ours)) for _ in range(chosen.rounds)]
    work = chosen.batch * chosen.steps
    for name, side in (("transcription", 0), ("raydd", 1)):
        print(f"{name}: {work / statistics.median(t[side] for t in times):.1f} image-iterations/s")
    if chosen.profile:
        with torch.profiler.profile() as profile:
            ours()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))
    print(f"ratio: {statistics.median(slow / fast for slow, fast in times):.2f}")


if __name__ == "__main__":
    main()
