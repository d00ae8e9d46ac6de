"""Speed of diffusion sampling against a plain transcription that samples one image at a time.

The transcription is what the official codes of the guided samplers do: fp32, one image per batch,
both halves of the doubled batch carried along, decoded and judged at every guided step. Prints
images per second of both sides, run in turn in one process, and as its last line the median ratio
(ours over the transcription, larger is better).

    python benchmarks/sample.py --quick
    python benchmarks/sample.py --unguided
    python benchmarks/sample.py --size xl --device cuda --batch 32 --plain-images 1 --steps 50
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from raydd.engine.sampling.config import AdversaryConfig, SampleConfig
from raydd.engine.sampling.sampler import Sampler
from raydd.models import ModelConfig, create_model
from raydd.models.diffusion import Generator, GeneratorCard, create_transformer
from raydd.models.sampling_steps import Step, sampling_steps

CLASSES, SCALE, PUSH, FACTOR = 1000, 4.0, 0.015, 0.18215
# side of the latents, layers, heads, width, patch of the transformer; widths of the VAE's stages
SIZES = {
    "tiny": (16, 4, 4, 128, 2, (16, 16, 32, 32)),
    "small": (32, 12, 6, 384, 2, (32, 64, 64, 64)),
    "xl": (32, 28, 16, 1152, 2, (128, 256, 512, 512)),
}


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(SIZES), default="tiny", help="xl is DiT-XL/2 at 256")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16, help="ours: images per batch")
    parser.add_argument("--plain-images", type=int, default=2, help="images of a transcription run")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each side")
    parser.add_argument("--unguided", action="store_true", help="no discriminator on either side")
    parser.add_argument("--gradient", default="full", help="ours: full or cheap")
    parser.add_argument("--precision", default="auto", help="ours: auto, bf16 or fp32")
    parser.add_argument("--discriminator", default="resnet10_thin")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="torch threads, 1 as in a worker")
    parser.add_argument("--quick", action="store_true", help="under a minute on 2 cores")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.steps, chosen.batch, chosen.plain_images, chosen.rounds = 5, 8, 1, 3
    return chosen


def build(chosen: argparse.Namespace) -> tuple[Generator, nn.Module]:
    """Generator and discriminator, random weights; the output layer is not zero, as in use."""
    side, layers, heads, width, patch, stages = SIZES[chosen.size]
    transformer = create_transformer(4, side, CLASSES, layers, heads, width, patch)
    nn.init.normal_(transformer.proj_out_2.weight, std=0.02)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=stages,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=8 * side,
    )
    names = tuple(str(number) for number in range(CLASSES))
    card = GeneratorCard("random", names, tuple(range(CLASSES)), 8 * side, FACTOR, "none")
    judge = create_model(ModelConfig(chosen.discriminator), CLASSES, 8 * side)
    networks = Generator(transformer, vae, card), judge
    for network in networks:
        network.eval().requires_grad_(False).to(chosen.device)
    return networks


class Transcription:
    """One image at a time, as specified, with the inefficiencies of the official codes.

    The second half of the doubled batch has noise of its own but the first half's prediction; its
    estimate is decoded and averaged into the loss all the same.
    """

    def __init__(self, generator: Generator, judge: nn.Module, chosen: argparse.Namespace) -> None:
        self.generator, self.judge, self.chosen = generator, judge, chosen
        self.steps = sampling_steps(chosen.steps)

    def run(self, label: int) -> Tensor:
        """One image, float [3, R, R]."""
        device = self.chosen.device
        labels = torch.tensor([label, self.generator.null_class], device=device)
        x = torch.randn(1, *self.generator.latent_shape, device=device).repeat(2, 1, 1, 1)
        for step in self.steps:
            share = step.number / len(self.steps)
            x = self._step(x, labels, step, not self.chosen.unguided and 0.3 <= share <= 0.9)
        with torch.no_grad():
            return self.generator.decode(x)[0]

    def _step(self, x: Tensor, labels: Tensor, step: Step, guided: bool) -> Tensor:
        alpha, previous = step.alpha, step.previous
        beta = 1 - alpha / previous
        x = x.detach().requires_grad_(guided)
        with torch.set_grad_enabled(guided):
            times = torch.full((2,), step.timestep, device=x.device)
            half = torch.cat([x[:1], x[:1]])
            output = self.generator(half, times, labels)
            eps, mix = output.chunk(2, dim=1)
            first = eps[1:, :3] + SCALE * (eps[:1, :3] - eps[1:, :3])
            eps = torch.cat([torch.cat([first, first]), eps[:, 3:]], dim=1)
            clean = (x - math.sqrt(1 - alpha) * eps) / math.sqrt(alpha)
            if guided:
                images = self.generator.decode(clean)
                loss = F.cross_entropy(self.judge(images), labels[:1].repeat(2))
                (gradient,) = torch.autograd.grad(loss, x)
        with torch.no_grad():
            mean = math.sqrt(previous) * beta / (1 - alpha) * clean
            mean = mean + math.sqrt(1 - beta) * (1 - previous) / (1 - alpha) * x
            if step.number == 0:
                return mean
            small = math.log(beta * (1 - previous) / (1 - alpha))
            share = (mix + 1) / 2
            spread = torch.exp((share * math.log(beta) + (1 - share) * small) / 2)
            sample = mean + spread * torch.randn_like(x)
            if guided:
                ratio = eps.square().mean().sqrt() / gradient.square().mean().sqrt()
                sample = sample + PUSH * math.sqrt(1 - alpha) * ratio * gradient
            return sample


def seconds(side: Callable[[], object], device: str) -> float:
    """Wall time of one call, the device drained."""
    begin = time.perf_counter()
    side()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main() -> None:
    """Run both sides in turn and print their speed and the ratio."""
    chosen = options()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    generator, judge = build(chosen)
    config = SampleConfig(
        steps=chosen.steps,
        batch_size=chosen.batch,
        precision=chosen.precision,
        adversary=AdversaryConfig(energy="plain", gradient=chosen.gradient, scale=PUSH),
    )

    def energy(images: Tensor, labels: Tensor) -> Tensor:
        reduced = sampler.dtype != torch.float32
        with torch.autocast(chosen.device, sampler.dtype, enabled=reduced):
            logits = judge(images)
        return F.cross_entropy(logits.float(), labels, reduction="none")

    sampler = Sampler(generator, config, chosen.device, None if chosen.unguided else energy)
    plain = Transcription(generator, judge, chosen)
    labels, slots = [*range(chosen.batch)], [0] * chosen.batch
    sides = {
        "transcription": (lambda: [plain.run(i) for i in range(chosen.plain_images)],
                          chosen.plain_images),
        "raydd": (lambda: sampler.run(labels, slots, 0), chosen.batch),
    }  # fmt: skip
    print(vars(chosen))
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(chosen.rounds + 1):
        for name, (side, images) in sides.items():
            speed = images / seconds(side, chosen.device)
            if number:  # the first round warms up
                speeds[name].append(speed)
    for name, values in speeds.items():
        print(f"{name}: {statistics.median(values):.3f} images/s")
    pairs = zip(speeds["raydd"], speeds["transcription"], strict=True)
    print(f"ratio: {statistics.median(ours / slow for ours, slow in pairs):.2f}")


if __name__ == "__main__":
    main()
