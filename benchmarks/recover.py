"""Speed of the recover loop against a plain fp32 transcription of its specification.

Prints image-iterations per second of both sides, run in turn in one process, and as its last line
the median ratio (ours over the transcription, larger is better).

    python benchmarks/recover.py --quick
    python benchmarks/recover.py --model resnet18_small --resolution 32 --batch 100 --steps 5
    python benchmarks/recover.py --observers resnet18_small convnet3 resnet10_thin   # EDC
    python benchmarks/recover.py --device cuda --batch 100 --steps 100
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from plain_recover import (
    MEAN,
    PATCH,
    ROLL,
    STD,
    GeneralisedHook,
    StatisticsHook,
    plain_match,
    plain_recover,
)
from torch import Tensor, nn

from raydd.engine.synthesis.advance import Recording
from raydd.engine.synthesis.loop import Recovery
from raydd.engine.synthesis.observers import MatchConfig, ObserverObjective
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherObjective
from raydd.models import ModelConfig, create_model
from raydd.models.observer import ObserverTap


def timed(side: Callable[[], object], device: str) -> float:
    """Seconds of one call, the device drained."""
    begin = time.perf_counter()
    side()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18_small", help="teacher and student by name")
    parser.add_argument("--observers", nargs="+", help="match these networks' statistics instead")
    parser.add_argument("--resolution", type=int, default=32, help="side of the images, pixels")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=100, help="images per batch")
    parser.add_argument("--steps", type=int, default=4, help="recover steps per timed call")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each side")
    parser.add_argument("--threads", type=int, default=1, help="torch threads, 1 as in a worker")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="auto", help="ours: auto, bf16, fp16 or fp32")
    parser.add_argument("--capture", default="auto", help="ours, on a GPU: auto, on or off")
    parser.add_argument("--compile", action="store_true", help="ours: use torch.compile")
    parser.add_argument("--no-student", action="store_true", help="first curriculum: no adversary")
    parser.add_argument("--profile", action="store_true", help="print where our time goes")
    parser.add_argument("--quick", action="store_true", help="under a minute on 2 cores")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.steps, chosen.rounds = 1, 5
    return chosen


def frozen(names: Sequence[str], chosen: argparse.Namespace) -> list[nn.Module]:
    """Networks that nothing changes, with random weights."""
    nets = [create_model(ModelConfig(n), chosen.classes, chosen.resolution) for n in names]
    return [net.eval().requires_grad_(False).to(chosen.device) for net in nets]


def teacher_sides(
    chosen: argparse.Namespace, start: Tensor, labels: Tensor
) -> tuple[Callable[[], object], Callable[[], object]]:
    """CUDD: a teacher and a student."""
    teacher, student = frozen([chosen.model] * 2, chosen)
    adversary = None if chosen.no_student else student
    config = SynthesisConfig(
        steps=chosen.steps, roll=(0, ROLL), precision=chosen.precision, compile=chosen.compile
    )
    objective = TeacherObjective(teacher, adversary, config, chosen.device)
    recovery = Recovery(
        objective, config, MEAN, STD, chosen.resolution, chosen.device, Recording(chosen.capture)
    )
    norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [StatisticsHook(norm) for norm in norms]
    return (
        lambda: plain_recover(start, labels, teacher, adversary, hooks, chosen.steps),
        lambda: recovery.run(start, labels, ("benchmark",)),
    )


def observer_sides(
    chosen: argparse.Namespace, start: Tensor, labels: Tensor
) -> tuple[Callable[[], object], Callable[[], object]]:
    """EDC: observers in turn, their global and class targets random."""
    observers = frozen(chosen.observers, chosen)
    config = MatchConfig(steps=chosen.steps, precision=chosen.precision)
    widths = [sum(ObserverTap(net, chosen.resolution, PATCH).sizes) for net in observers]
    targets = [torch.rand(2, 2, width) for width in widths]
    side, device = chosen.resolution, chosen.device
    objective = ObserverObjective(
        observers, lambda number, _: targets[number], config, side, PATCH, device
    )
    recovery = Recovery(
        objective, config, MEAN, STD, chosen.resolution, chosen.device, Recording(chosen.capture)
    )
    hooks = [
        [GeneralisedHook(m) for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.Conv2d)]
        for net in observers
    ]
    for net in observers:
        net(torch.zeros(1, 3, side, side, device=device))  # the hooks see their sizes
    plain = [[[torch.rand_like(v) for v in h.statistics for _ in range(2)] for h in own]
             for own in hooks]  # fmt: skip
    return (
        lambda: plain_match(start, labels, observers, hooks, plain, chosen.steps),
        lambda: recovery.run(start, labels, ("benchmark",)),
    )


def main() -> None:
    """Run both sides in turn and print their speed and the ratio."""
    chosen = options()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    side = chosen.resolution
    start = torch.randint(0, 256, (chosen.batch, 3, side, side), dtype=torch.uint8)
    start = start.to(chosen.device)
    labels = torch.arange(chosen.batch, device=chosen.device) % chosen.classes
    sides = observer_sides if chosen.observers else teacher_sides
    plain, ours = sides(chosen, start, labels)
    print(vars(chosen))
    plain(), ours()
    device = chosen.device
    times = [(timed(plain, device), timed(ours, device)) for _ in range(chosen.rounds)]
    work = chosen.batch * chosen.steps
    for name, number in (("transcription", 0), ("raydd", 1)):
        seconds = statistics.median(pair[number] for pair in times)
        print(f"{name}: {work / seconds:.1f} image-iterations/s")
    if chosen.profile:
        with torch.profiler.profile() as profile:
            ours()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))
    print(f"ratio: {statistics.median(slow / fast for slow, fast in times):.2f}")


if __name__ == "__main__":
    main()
