"""Diffusion sampling of one batch of images, steered along the gradient of an energy.

One call samples one batch. It knows nothing of Ray; engine/sample.py spreads the units. Every draw
of an image comes from a generator of its own, so an image is the same whatever is sampled beside
it; like all of torch it is equal to the bit only for one device, precision, thread count and batch
size. On a GPU ``gradient=full`` is not even that: the gradient of attention adds in any order.

The sampler is DiT's: ancestral steps on respaced time steps with the variance that the network
learned, classifier-free guidance on the first channels. Guidance by an energy: the estimate of the
clean image is decoded and judged at the steps of a window, and the gradient, brought to the scale
of the predicted noise, is added to the sample. Of the doubled batch only the half that knows its
class is sampled, decoded and judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raydd.engine.sampling.config import SampleConfig
from raydd.engine.sampling.energy import Energy
from raydd.models.diffusion import Generator
from raydd.models.exact import deterministic_kernels
from raydd.models.precision import autocast, autocast_dtype, energy_scale, freeze
from raydd.models.sampling_steps import Step, sampling_steps
from raydd.ops.diffusion import (
    ancestral_step,
    guide_classes,
    match_scale,
    predict_clean,
    similarity_gradient,
    window_steps,
)
from raydd.ops.seeds import generator as new_generator


@dataclass(frozen=True)
class SampledBatch:
    """What stays the same over the steps.

    Attributes:
        labels: classes of the source, int64 [B].
        class_ids: the transformer's, int64 [B].
        memory: latents of each image's class in earlier curricula, [B, M, C, h, w], or None.
    """

    labels: Tensor
    class_ids: Tensor
    memory: Tensor | None


@dataclass(frozen=True)
class Sampled:
    """Result of one batch, on the CPU.

    Attributes:
        images: uint8 [B, 3, R, R], rounded.
        latents: float16 [B, C, h, w].
        energies: float32 [guided steps, B], of the estimates before each push; no rows without
            guidance.
    """

    images: Tensor
    latents: Tensor
    energies: Tensor


class Sampler:
    """The loop over any number of batches.

    Args:
        generator: transformer and VAE; copied, not changed.
        config: constants; its adversary's scale, window and injection hold for any energy.
        device: where to sample.
        energy: what is raised; None, or a scale of 0, samples without.
    """

    def __init__(
        self,
        generator: Generator,
        config: SampleConfig,
        device: torch.device | str,
        energy: Energy | None = None,
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.dtype = autocast_dtype(config.precision, self.device)
        self.class_ids = torch.tensor(generator.card.class_ids, device=self.device)
        self.null_class, self.latent_shape = generator.null_class, generator.latent_shape
        self.generator: Any = freeze(generator, self.device, self.dtype)
        self.energy = energy if config.adversary.scale > 0 else None
        self.steps = sampling_steps(config.steps)
        self.window = window_steps(config.adversary.window, config.steps)

    @torch.no_grad()
    def run(
        self,
        labels: Sequence[int],
        slots: Sequence[int],
        seed: int,
        memory: Tensor | None = None,
        beat: Callable[[int], None] | None = None,
    ) -> Sampled:
        """Sample one image for each class and slot.

        Args:
            labels: B classes of the source.
            slots: B slots; with class and seed they fix every draw of an image.
            seed: run seed.
            memory: latents of each image's class in earlier curricula, [B, M, C, h, w]; None, or a
                deviation of 0, keeps away from nothing.
            beat: told how many steps are done.
        Raises:
            FloatingPointError: the sampling ended in values that are not finite.
        """
        classes = torch.tensor(labels, device=self.device)
        if memory is not None:
            memory = memory.to(self.device) if self.config.adversary.deviation > 0 else None
        batch = SampledBatch(classes, self.class_ids[classes], memory)
        draws = self._draw(labels, slots, seed)
        noisy = draws[0]
        energies: list[Tensor] = []
        with deterministic_kernels():
            for done, (step, draw) in enumerate(zip(self.steps, [*draws[1:], None], strict=True)):
                noisy = self._advance(noisy, step, draw, batch, energies)
                if beat:
                    beat(done + 1)
            images = torch.cat([self._decode(part) for part in self._split(noisy)])
        rows = torch.stack(energies) if energies else torch.empty(0, len(labels))
        return Sampled(_to_uint8(images), noisy.half().cpu(), rows.cpu())

    def predict(self, noisy: Tensor, timestep: int, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Noise, guided by the class, and variance mix, both float32 [B, C, h, w].

        Args:
            noisy: x_t, [B, C, h, w].
            timestep: t.
            class_ids: the transformer's, int64 [B].
        """
        doubled = self.config.guidance_scale != 1
        ids = torch.cat([class_ids, torch.full_like(class_ids, self.null_class)])
        times = torch.full((len(ids),), timestep, device=noisy.device)
        count = len(noisy) * (2 if doubled else 1)
        with autocast(self.device, self.dtype):
            both = torch.cat([noisy, noisy]) if doubled else noisy
            output = self.generator(both, times[:count], ids[:count]).float()
        noise, mix = output[: len(noisy)].chunk(2, dim=1)
        if doubled:
            unconditional = output[len(noisy) :].chunk(2, dim=1)[0]
            channels = self.config.guided_channels or 0
            noise = guide_classes(noise, unconditional, self.config.guidance_scale, channels)
        return noise, mix

    def differentiate(
        self, noisy: Tensor, step: Step, batch: SampledBatch, energy: Energy
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predict, and judge the estimate of the clean images.

        Returns:
            Noise and variance mix of :meth:`predict`, the gradient of the energy by x_t
            [B, C, h, w], and the energies [B].
        """
        full = self.config.adversary.gradient == "full"
        noisy = noisy.detach().requires_grad_(full)
        with torch.set_grad_enabled(full):
            noise, mix = self.predict(noisy, step.timestep, batch.class_ids)
            clean = predict_clean(noisy, noise, step.alpha)
        parts = zip(self._split(clean.detach()), self._split(batch.labels), strict=True)
        judged = [self._judge(part, labels, energy) for part, labels in parts]
        slope, energies = (torch.cat(values) for values in zip(*judged, strict=True))
        if full:
            (gradient,) = torch.autograd.grad(clean, noisy, slope)
        else:
            gradient = slope / math.sqrt(step.alpha)
        return noise.detach(), mix.detach(), gradient, energies

    def _advance(
        self,
        noisy: Tensor,
        step: Step,
        draw: Tensor | None,
        batch: SampledBatch,
        energies: list[Tensor],
    ) -> Tensor:
        """x_{t-1}; adds a row to the energies where they are asked for."""
        adversary, push = self.config.adversary, None
        guided = step.number in self.window
        if guided and self.energy is not None:
            noise, mix, gradient, row = self.differentiate(noisy, step, batch, self.energy)
            energies.append(row)
            push = adversary.scale * math.sqrt(1 - step.alpha) * match_scale(gradient, noise)
        else:
            noise, mix = self.predict(noisy, step.timestep, batch.class_ids)
        if push is not None and adversary.injection == "epsilon":
            noise, push = noise - push, None
        sample = ancestral_step(noisy, noise, mix, draw, step.alpha, step.previous)
        if push is not None:
            sample = sample + push
        if guided and batch.memory is not None:
            sample = sample - adversary.deviation * similarity_gradient(noisy, batch.memory)
        return sample

    def _judge(self, clean: Tensor, labels: Tensor, energy: Energy) -> tuple[Tensor, Tensor]:
        """Gradient of the energies by the clean latents, and the energies."""
        clean.requires_grad_(True)
        with torch.enable_grad():
            energies = energy(self._decode(clean), labels)
            scale = energy_scale(self.dtype)
            (gradient,) = torch.autograd.grad(energies.sum() * scale, clean)
        return gradient / scale, energies.detach()

    def _decode(self, latents: Tensor) -> Tensor:
        with autocast(self.device, self.dtype):
            return self.generator.decode(latents).float()

    def _draw(self, labels: Sequence[int], slots: Sequence[int], seed: int) -> Tensor:
        """All noise of a batch at once, [steps, B, C, h, w]: no step waits for a transfer."""
        shape = (self.config.steps, *self.latent_shape)
        draws = [
            torch.randn(shape, generator=new_generator(seed, "sample", label, slot))
            for label, slot in zip(labels, slots, strict=True)
        ]
        return torch.stack(draws, dim=1).to(self.device)

    def _split(self, values: Tensor) -> tuple[Tensor, ...]:
        return values.split(self.config.decode_batch)


def _to_uint8(images: Tensor) -> Tensor:
    if not images.isfinite().all():
        raise FloatingPointError("sampling diverged: lower the guidance or use precision=fp32")
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
