"""Many small trainings in one process: K ConvNets together against the same K one by one.

A judge trains the same small network many times (seeds, sets). All sides do what a step of
``raydd.engine.training.loop`` does (augment, mix, forward, loss, backward, AdamW) with the same
draws per network, on one thread, in turn in one process; processor time is measured, so that
others on the machine count little. The baseline is a network at a time, channels last, in eager
mode. Against it:

- ``vmap``: torch.func.stack_module_state, functional_call and vmap over the K networks;
- ``grouped``: one network K times as wide, whose convolutions have K groups;
- ``contiguous``: a network at a time, but with channels first in memory;
- with ``--compile`` the baseline, ``contiguous`` and ``grouped`` through torch.compile. The wall
  seconds of the first step, in which it compiles, are printed and not part of a ratio.

Prints trainings per minute (``--total-steps`` steps each) and the largest difference of a loss to
its twin in the baseline, which is rounding. The last line is the ratio of the best way.

    python benchmarks/judge.py --quick
    python benchmarks/judge.py --widths 32 128 --batches 25 100 --together 2 4 8 --compile
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from raydd.models import ModelConfig, create_model
from raydd.models.preprocess import normalise
from raydd.ops.recipe import Recipe, build_optimizer, training_loss
from raydd.ops.seeds import generator
from raydd.ops.views.batch import augment_batch, mix_batch
from raydd.ops.views.draws import draw_batch
from raydd.ops.views.mixing import Mix

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CLASSES, IPC, SIDE, DEPTH = 10, 10, 32, 3
RECIPE = Recipe(learning_rate=0.001)

Views = tuple[Tensor, Tensor, Mix | None]


def make_network(width: int, seed: int) -> nn.Module:
    """A ConvNet-3 with instance norm."""
    torch.manual_seed(seed)
    config = ModelConfig(f"convnet{DEPTH}", width=width, norm="instance")
    return create_model(config, CLASSES, SIDE)


class Feed:
    """Each network's own views of the same images."""

    def __init__(self, batch: int, together: int) -> None:
        draws = torch.Generator().manual_seed(0)
        shape = (CLASSES * IPC, 3, SIDE, SIDE)
        self.pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
        self.labels = torch.arange(len(self.pixels)) % CLASSES
        self.batch, self.generators = batch, [generator("views", k) for k in range(together)]

    def views(self, network: int) -> Views:
        """The next batch of a network: images, labels, mixing."""
        draws = self.generators[network]
        chosen = torch.randperm(len(self.pixels), generator=draws)[: self.batch]
        drawn = draw_batch(self.batch, RECIPE, SIDE, 0.5, draws)
        pixels = augment_batch(self.pixels[chosen], drawn, RECIPE, SIDE)
        images, mix = mix_batch(normalise(pixels, MEAN, STD), drawn)
        return images, self.labels[chosen], mix


class OneByOne:
    """K networks, a step of each in turn."""

    def __init__(
        self, networks: Sequence[nn.Module], batch: int, layout: torch.memory_format, compiled: bool
    ) -> None:
        self.layout = layout
        networks = [network.to(memory_format=layout) for network in networks]
        self.optimizers = [build_optimizer(network, RECIPE) for network in networks]
        self.calls = [torch.compile(n) if compiled else n for n in networks]
        self.feed = Feed(batch, len(networks))

    def step(self) -> list[float]:
        """Losses of the networks."""
        return [self._step(k) for k in range(len(self.calls))]

    def _step(self, k: int) -> float:
        images, labels, mix = self.feed.views(k)
        images = images.contiguous(memory_format=self.layout)
        loss = training_loss(self.calls[k](images), labels, None, mix, RECIPE)
        self.optimizers[k].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[k].step()
        return float(loss.detach())


class Together:
    """K networks in one call: images [K, B, 3, R, R] to logits [K, B, C]."""

    def __init__(self, call: nn.Module, single: nn.Module, together: int, batch: int) -> None:
        self.call, self.feed, self.count = call, Feed(batch, together), together
        self.optimizer = _optimizer(call, single)

    def step(self) -> list[float]:
        """Losses of the networks."""
        views = [self.feed.views(k) for k in range(self.count)]
        logits = self.call(torch.stack([images for images, _, _ in views]))
        losses = torch.stack(
            [
                training_loss(part, labels, None, mix, RECIPE)
                for part, (_, labels, mix) in zip(logits, views, strict=True)
            ]
        )
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        self.optimizer.step()
        return losses.tolist()


def _optimizer(call: nn.Module, single: nn.Module) -> torch.optim.Optimizer:
    """AdamW is elementwise: stacked weights step as separate ones; the same ones decay."""
    groups: list[dict[str, object]] = [
        {"params": [], "weight_decay": RECIPE.weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for stacked, weight in zip(call.parameters(), single.parameters(), strict=True):
        groups[weight.ndim == 1]["params"].append(stacked)  # type: ignore[attr-defined]
    return torch.optim.AdamW(groups, lr=RECIPE.learning_rate, fused=True)


class Mapped(nn.Module):
    """Stacked weights of K networks, called by vmap."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        stacked, _ = stack_module_state(list(networks))
        self.names = list(stacked)
        self.weights = nn.ParameterList([nn.Parameter(stacked[name]) for name in self.names])
        self.skeleton = (networks[0],)  # a tuple: its weights are not this module's

    def forward(self, images: Tensor) -> Tensor:
        """Logits [K, B, C]."""
        weights = dict(zip(self.names, self.weights, strict=True))
        return torch.func.vmap(lambda own, x: functional_call(self.skeleton[0], own, (x,)))(
            weights, images
        )


class Grouped(nn.Module):
    """K ConvNets as one whose convolutions have K groups; instance norm knows no neighbours."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.count, layers = len(networks), []
        for parts in zip(*(network.features for network in networks), strict=True):
            layers.append(_widen(parts))
        self.features = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        heads = [network.classifier for network in networks]
        self.weight = nn.Parameter(torch.stack([head.weight.detach().T for head in heads]))
        self.bias = nn.Parameter(torch.stack([head.bias.detach() for head in heads]))

    def parameters(self, recurse: bool = True):
        """In the order of one network's."""
        yield from self.features.parameters(recurse)
        yield self.weight
        yield self.bias

    def forward(self, images: Tensor) -> Tensor:
        """Logits [K, B, C]."""
        count, batch = images.shape[:2]
        wide = images.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        features = self.features(wide).reshape(batch, count, -1).transpose(0, 1)
        return torch.baddbmm(self.bias[:, None], features, self.weight)


def _widen(parts: Sequence[nn.Module]) -> nn.Module:
    """One layer for K equal ones."""
    first, count = parts[0], len(parts)
    if isinstance(first, nn.Conv2d):
        inner, outer = count * first.in_channels, count * first.out_channels
        layer: nn.Module = nn.Conv2d(inner, outer, 3, padding=1, bias=False, groups=count)
    elif isinstance(first, nn.GroupNorm):
        layer = nn.GroupNorm(count * first.num_groups, count * first.num_channels)
    else:
        return first
    with torch.no_grad():
        for wide, *own in zip(
            layer.parameters(), *(part.parameters() for part in parts), strict=True
        ):
            wide.copy_(torch.cat(own))
    return layer


def sides(width: int, batch: int, together: int, compiled: bool) -> dict[str, Callable]:
    """Steps of all ways of training K networks; the first is the baseline."""

    def twins() -> list[nn.Module]:
        return [make_network(width, k) for k in range(together)]

    single, last, first = make_network(width, 0), torch.channels_last, torch.contiguous_format
    found = {
        "one by one": OneByOne(twins(), batch, last, False).step,
        "contiguous": OneByOne(twins(), batch, first, False).step,
        "vmap": Together(Mapped(twins()), single, together, batch).step,
        "grouped": Together(Grouped(twins()), single, together, batch).step,
    }
    if compiled:
        wide = Together(Grouped(twins()), single, together, batch)
        wide.call = torch.compile(wide.call)
        found["one by one, compiled"] = OneByOne(twins(), batch, last, True).step
        found["contiguous, compiled"] = OneByOne(twins(), batch, first, True).step
        found["grouped, compiled"] = wide.step
    return found


def compare(width: int, batch: int, together: int, chosen: argparse.Namespace) -> float:
    """Print one setting's figures and return its best ratio."""
    ways = sides(width, batch, together, chosen.compile)
    started = {name: timed(step, time.perf_counter) for name, step in ways.items()}
    losses = {name: step() for name, step in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(chosen.rounds):
        for name, step in ways.items():
            times[name].append(statistics.mean(timed(step) for _ in range(chosen.steps)))
    ratios, (plain, *_) = {}, times.values()
    for name, own in times.items():
        ratios[name] = statistics.median(slow / fast for slow, fast in zip(plain, own, strict=True))
        gap = max(abs(a - b) for a, b in zip(losses[name], losses["one by one"], strict=True))
        rate = 60 * together / (statistics.median(own) * chosen.total_steps)
        print(
            f"width {width} batch {batch} K {together} {name}: {rate:.2f} trainings/min, ratio "
            f"{ratios[name]:.2f}, losses differ by {gap:.0e}, first step {started[name]:.1f} s",
            flush=True,
        )
    return max(ratio for name, ratio in ratios.items() if name != "one by one")


def timed(step: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of one step, of processor time unless another clock is asked."""
    begin = clock()
    step()
    return clock() - begin


def main() -> None:
    """Compare all settings and print the best ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[25, 100])
    parser.add_argument("--together", type=int, nargs="+", default=[2, 4, 8], help="K")
    parser.add_argument("--total-steps", type=int, default=3200, help="of a training (hard_cpu)")
    parser.add_argument("--steps", type=int, default=3, help="per timed call")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    parser.add_argument("--quick", action="store_true", help="under a minute on 2 cores")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.widths, chosen.batches, chosen.together = [32], [25], [4]
    torch.set_num_threads(chosen.threads)
    print(vars(chosen))
    ratios = [
        compare(width, batch, together, chosen)
        for width in chosen.widths
        for batch in chosen.batches
        for together in chosen.together
    ]
    print(f"ratio: {max(ratios):.2f}")


if __name__ == "__main__":
    main()
