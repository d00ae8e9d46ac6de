"""Train a diffusion transformer on the real images, or fine-tune one.

The same loop serves one process and Ray Train's workers. Every draw of a step comes from its
number: on a CPU a training that is killed continues at a step and ends with the weights of an
undisturbed one, where the images are in memory (a streamed epoch has no fixed order).
Sources: DiT, arXiv 2212.09748; Minimax Diffusion, arXiv 2311.15529.
"""

import json
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from upath import UPath

from raydd.cluster.fit import rank_and_world
from raydd.engine.generator.checkpoint import load_generator, save_generator
from raydd.engine.generator.config import GeneratorRecipe, MinimaxConfig
from raydd.engine.generator.latent_data import KeptLatents, choose_views, open_feed
from raydd.engine.generator.minimax import MinimaxTerms
from raydd.engine.training.data import Batch, Feed
from raydd.engine.training.state import (
    OUTCOME,
    StateFile,
    distributed,
    loss_scaler,
    restore_scaler,
)
from raydd.models.average import running_average
from raydd.models.diffit import fold_scales, start_diffit
from raydd.models.diffusion import TRAIN_STEPS, new_scheduler
from raydd.models.exact import deterministic_kernels
from raydd.models.precision import autocast, autocast_dtype
from raydd.ops.augment import flip_where
from raydd.ops.device import send
from raydd.ops.diffusion_loss import add_noise, diffusion_loss, estimate_clean, noise_schedule
from raydd.ops.optimizers import AdamW
from raydd.ops.schedules import warmup_factor
from raydd.ops.seeds import generator
from raydd.store.files import write_atomic
from raydd.store.journal import Journal

_JOURNAL_STEPS = 50  # losses are read from the device this often


@dataclass(frozen=True)
class GeneratorJob:
    """Everything a worker needs to train a generator; picklable.

    Attributes:
        folder: where state, generator and ``outcome.json`` go.
        start: folder of the generator to start from, trained or fresh.
        feed: the real images, stored at the generator's resolution.
        recipe: a :class:`MinimaxConfig` fine-tunes.
        flip: probability of a mirrored image, a property of the data.
        stage: name in the journal.
        journal: path of ``metrics.jsonl``.
        device: ``cpu`` or ``cuda``.
        latents: kept ones of the VAE, in place of the feed's images.
    """

    folder: str
    start: str
    feed: Feed
    recipe: GeneratorRecipe
    flip: float
    stage: str
    journal: str | None
    device: str
    latents: KeptLatents | None = None


def generator_worker(arguments: dict[str, Any]) -> dict[str, Any]:
    """Train loop of Ray Train: every rank trains on its share of each batch."""
    return train_generator(arguments["job"], *rank_and_world())


def train_generator(job: GeneratorJob, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Train to the last step, continuing from the newest checkpoint.

    Returns:
        ``steps``, the mean ``loss`` of the last ones, and the wall ``seconds``; rank 0 leaves the
        generator in the job's folder. On a GPU no two trainings are equal to the bit: the
        gradients of attention and of embeddings add in any order.
    """
    outcome = UPath(job.folder) / OUTCOME
    if outcome.exists():
        return json.loads(outcome.read_text())
    with deterministic_kernels():
        return _Training(job, rank, world).run()


class _Training:
    """One generator, its optimiser and its position in the steps."""

    def __init__(self, job: GeneratorJob, rank: int, world: int) -> None:
        self.job, self.rank, self.world = job, rank, world
        self.device = torch.device(job.device)
        self.dtype = autocast_dtype(job.recipe.precision, self.device)
        self.generator = load_generator(UPath(job.start)).to(self.device)
        if self.generator.vae is not None:
            self.generator.vae.requires_grad_(False)
        self.class_ids = torch.tensor(self.generator.card.class_ids, device=self.device)
        self.minimax = self._start_minimax()
        self.network: nn.Module = self.generator.transformer
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        self.optimizer = AdamW(
            weights, job.recipe.learning_rate, weight_decay=job.recipe.weight_decay, fused=True
        )
        self.scaler = loss_scaler(self.dtype, self.device)
        self.average = running_average(self.network, job.recipe.average_decay)
        self.model = distributed(self.generator, world)
        scheduler: Any = new_scheduler()
        self.schedule = noise_schedule(scheduler.betas).to(self.device)
        shape = self.generator.latent_shape
        self.data = open_feed(job.feed, job.latents, shape, rank, world, self.device)
        self.file = StateFile(UPath(job.folder), job.recipe.checkpoint_seconds)
        self.step, self.loss, self.seconds = 0, 0.0, 0.0

    def run(self) -> dict[str, Any]:
        journal, steps = Journal(self.job.journal), self.job.recipe.steps
        self._restore()
        total, count, started = torch.zeros((), device=self.device), 0, time.perf_counter()
        start = self.step
        while self.step < steps:
            epoch, offset = divmod(self.step, self.data.steps)
            for batch in islice(self.data.batches(epoch), offset, offset + steps - self.step):
                total += self._step(batch)
                self.step, count = self.step + 1, count + 1
                if self.rank == 0:
                    loss = partial(torch.div, total, count)
                    told = {"counts": "step", "start": start, "loss": loss}
                    journal.beat(self.job.stage, self.step, steps, **told)
                if self.step % _JOURNAL_STEPS == 0 or self.step == steps:
                    self.loss = float(total / count)
                    self.seconds += time.perf_counter() - started
                    total, count, started = torch.zeros_like(total), 0, time.perf_counter()
                    if self.rank == 0:
                        journal.log(self.job.stage, step=self.step, loss=self.loss)
                if self.rank == 0 and self.file.is_due:
                    self._save()
        return self._finish() if self.rank == 0 else {}

    def _start_minimax(self) -> MinimaxTerms | None:
        if not isinstance(self.job.recipe, MinimaxConfig):
            return None
        start_diffit(self.generator.transformer)
        self.generator.to(self.device)
        size = torch.Size(self.generator.latent_shape).numel()
        return MinimaxTerms(self.job.recipe, len(self.class_ids), size, self.device)

    def _step(self, batch: Batch) -> Tensor:
        recipe = self.job.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warmup_factor(self.step, recipe.warmup_steps)
        loss = self._loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update_parameters(self.network)
        return loss.detach()

    def _loss(self, batch: Batch) -> Tensor:
        recipe, count = self.job.recipe, len(batch.labels)
        draws = generator(*self.job.feed.seed_parts, "step", self.step)
        # every rank draws for the whole batch and takes its share, which goes there in one copy
        every = count * self.world
        drawn = [
            torch.rand(every, 2, generator=draws),
            torch.randint(TRAIN_STEPS, (every,), generator=draws),
            torch.randn(every, *self.generator.latent_shape, generator=draws),
        ]
        if self.generator.vae is not None:  # draws from its posterior
            drawn.append(torch.randn(every, *self.generator.latent_shape, generator=draws))
        shares = [values[self.rank :: self.world] for values in drawn]
        uniform, timesteps, noise, *posterior = send(shares, self.device)
        mirrored, dropped = uniform.unbind(1)
        clean = self._clean(batch.pixels, mirrored < self.job.flip, *posterior)
        class_ids = self.class_ids[batch.labels]
        class_ids = class_ids.masked_fill(dropped < recipe.class_dropout, self.generator.null_class)
        noisy = add_noise(clean, noise, timesteps, self.schedule)
        with autocast(self.device, self.dtype):
            prediction = self.model(noisy, timesteps, class_ids)
        prediction = prediction.float()
        loss = diffusion_loss(
            prediction, clean, noisy, noise, timesteps, self.schedule, recipe.variance_weight
        )
        if self.minimax is None:
            return loss
        predicted = estimate_clean(noisy, prediction.chunk(2, dim=1)[0], timesteps, self.schedule)
        return loss + self.minimax.loss(clean, predicted, batch.labels)

    def _clean(self, seen: Tensor, mirrored: Tensor, noise: Tensor | None = None) -> Tensor:
        """What is to be learnt, float32: pixels, or draws from the VAE's posterior."""
        if self.job.latents is not None:
            mean, std = choose_views(seen, mirrored).unbind(1)
            return self.generator.draw(mean, std, noise)
        pixels = flip_where(seen, mirrored).float() / 127.5 - 1
        with torch.no_grad(), autocast(self.device, self.dtype):
            return self.generator.encode(pixels, noise).float()

    def _save(self) -> None:
        average = self.average
        self.file.write(
            {
                "network": self._trained(self.network),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "average": self._trained(average.module) if average else {},
                "averaged": average.n_averaged if average else 0,
                "minimax": self.minimax.state() if self.minimax else {},
                "progress": [self.step, self.loss, self.seconds],
            }
        )

    def _restore(self) -> None:
        if (values := self.file.read(self.device)) is None:
            return
        self.network.load_state_dict(values["network"], strict=False)
        self.optimizer.load_state_dict(values["optimizer"])
        restore_scaler(self.scaler, values.get("scaler", {}))
        if self.average:
            self.average.module.load_state_dict(values["average"], strict=False)
            self.average.n_averaged.copy_(values["averaged"])
        if self.minimax:
            self.minimax.restore(values["minimax"])
        self.step, self.loss, self.seconds = values["progress"]

    def _trained(self, network: nn.Module) -> dict[str, Tensor]:
        """The weights that move; the others come from the start again."""
        moving = {name for name, weight in self.network.named_parameters() if weight.requires_grad}
        return {name: w.detach() for name, w in network.named_parameters() if name in moving}

    def _finish(self) -> dict[str, Any]:
        if self.average:
            self.generator.transformer = self.average.module
        if self.minimax:
            fold_scales(self.generator.transformer)
        save_generator(UPath(self.job.folder), self.generator)
        outcome = {"steps": self.step, "loss": self.loss, "seconds": self.seconds}
        write_atomic(UPath(self.job.folder) / OUTCOME, json.dumps(outcome).encode())
        return outcome
