"""Train one network: teachers on real images, students and judges on distilled ones.

The same loop serves Ray Train's workers (:mod:`raydd.engine.training.stage`) and single Ray tasks,
which do without Ray Train and Ray Data. Small sets are held as uint8 on the device and augmented
there, a batch at a time; sets above the memory limit arrive through Ray Data.
"""

import json
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from upath import UPath

from raydd.engine.labels.data import LabelledBatch
from raydd.engine.passes.dynamics import TrainingDynamics
from raydd.engine.training.data import Batch, open_data
from raydd.engine.training.job import TrainJob
from raydd.engine.training.state import (
    OUTCOME,
    StateFile,
    distributed,
    finished_outcome,
    loss_scaler,
    restore_scaler,
)
from raydd.models.answers import answer
from raydd.models.average import running_average
from raydd.models.exact import deterministic_kernels
from raydd.models.layout import laid_out, lay_out
from raydd.models.precision import autocast, autocast_dtype
from raydd.models.preprocess import normalise
from raydd.models.registry import create_model
from raydd.ops.recipe import build_optimizer, learning_rate_factor, training_loss
from raydd.ops.seeds import derive_seed, generator
from raydd.ops.views.batch import augment_batch, mix_batch
from raydd.ops.views.draws import draw_batch
from raydd.ops.views.mixing import Mix
from raydd.store.checkpoint import CheckpointCard, load_checkpoint, load_frozen, save_checkpoint
from raydd.store.files import write_atomic
from raydd.store.images import HeldImages
from raydd.store.journal import Journal

TEST_BATCH = 500  # images of a test's forward pass


@dataclass
class _State:
    epoch: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    workers: list[int] = field(default_factory=list)  # how many there were, each time it changed


def train_network(job: TrainJob, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Train to the last epoch, continuing from the newest epoch checkpoint.

    On a CPU a training that was killed ends with the bytes of an undisturbed one. On a GPU its
    convolutions repeat themselves, which is all of a ResNet or a ConvNet; the gradients of
    attention, of embeddings and of pooling to sizes that do not divide do not.

    Returns:
        ``top1_last`` and ``top1_best`` on the test split ([0, 1], None without a test split), the
        ``curve``, the wall ``seconds`` and how many ``workers`` trained, in turn; rank 0 leaves the
        same in ``outcome.json``.
    """
    if outcome := finished_outcome(job.folder):
        return outcome
    with deterministic_kernels():
        return Training(job, rank, world).run()


class Training:
    """One network, its optimiser and its position in the schedule."""

    def __init__(self, job: TrainJob, rank: int, world: int) -> None:
        self.job, self.rank, self.world = job, rank, world
        self.journal, self.start = Journal(job.journal), 0
        self.folder = UPath(job.folder)
        self.device = torch.device(job.device)
        self.dtype = autocast_dtype(job.recipe.precision, self.device)
        self.network = lay_out(self._network(), self.device)
        self.teacher = load_frozen(UPath(job.teacher), self.device)[0] if job.teacher else None
        self.model = distributed(self.network, world)
        self.optimizer = build_optimizer(self.network, job.recipe)
        self.scaler = loss_scaler(self.dtype, self.device)
        self.average = running_average(self.network, job.recipe.average_decay)
        self.file = StateFile(self.folder, job.checkpoint_seconds)
        self.data = open_data(job, rank, world, self.device)
        self.dynamics = TrainingDynamics() if job.notes_dynamics else None
        shown = job.preprocessing.resolution, self.device
        self.tests = HeldImages(UPath(job.test), *shown) if job.test else None

    def run(self) -> dict[str, Any]:
        """See :func:`train_network`."""
        job, state = self.job, self._restore()
        self.start = state.epoch
        if state.workers[-1:] != [self.world]:
            state.workers.append(self.world)
        while state.epoch < job.recipe.last_epoch:
            started = time.perf_counter()
            loss = self._epoch(state)
            state.epoch += 1
            point = {"epoch": state.epoch, "loss": loss}
            if self.tests and self.rank == 0 and self._is_test_epoch(state.epoch):
                point["top1"] = self._accuracy(self.tests)
                state.curve.append(point)
            state.seconds += time.perf_counter() - started
            if self.rank == 0:
                epochs = {"epochs": job.recipe.last_epoch, "start": self.start}
                self.journal.log(job.stage, **job.about, **epochs, **point)
                if self.file.is_due:
                    self._save(state)
        return self._finish(state) if self.rank == 0 else {}

    def _network(self) -> nn.Module:
        job = self.job
        if job.warm_start:
            return load_checkpoint(UPath(job.warm_start))[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(*job.seed_parts, "init"))
            return create_model(job.model, len(job.class_names), job.preprocessing.resolution)

    @property
    def _judged(self) -> nn.Module:
        """The network that is tested and kept."""
        return self.average.module if self.average else self.network

    def _epoch(self, state: _State) -> float:
        self.model.train()
        epoch = state.epoch
        recipe, parts = self.job.recipe, (*self.job.seed_parts, epoch, self.rank)
        torch.manual_seed(derive_seed(*parts, "dropout"))
        draws = generator(*parts, "augment")
        total = torch.zeros((), device=self.device)
        for step, batch in enumerate(self.data.batches(epoch)):
            factor = learning_rate_factor(recipe, epoch * self.data.steps + step, self.data.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.learning_rate * factor
            total += self.step(batch, draws, epoch in recipe.hard_epochs)
            if self.rank == 0:
                self._beat(state, step + 1, total)
        if self.dynamics:
            self.dynamics.close_epoch(self.rank, self.world)
        return float(total / self.data.steps)

    def _beat(self, state: _State, steps: int, total: Tensor) -> None:
        """Say how far the training is, and the mean loss of this epoch's steps."""
        job, at = self.job, state.epoch + steps / self.data.steps
        told: dict[str, Any] = {"start": self.start, "loss": partial(torch.div, total, steps)}
        told |= {"top1": state.curve[-1]["top1"]} if state.curve else {}
        self.journal.beat(job.stage, at, job.recipe.last_epoch, **job.about, **told)

    def step(
        self, batch: Batch | LabelledBatch, draws: torch.Generator, is_hard: bool = False
    ) -> Tensor:
        """One step of the optimiser; returns the loss without its graph. Hard: asks no teacher."""
        images, teacher_logits, mix = self._views(batch, draws, None if is_hard else self.teacher)
        with autocast(self.device, self.dtype):
            logits = self.model(images)
        if self.dynamics and isinstance(batch, Batch) and len(batch.places):
            self.dynamics.visit(batch.places, logits, batch.labels)
        loss = training_loss(logits, batch.labels, teacher_logits, mix, self.job.recipe)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update_parameters(self.network)
        return loss.detach()

    def _views(
        self, batch: Batch | LabelledBatch, draws: torch.Generator, teacher: nn.Module | None
    ) -> tuple[Tensor, Tensor | None, Mix | None]:
        """Views of a batch and the teacher's logits of them: those it brings, or new ones."""
        job, preprocessing = self.job, self.job.preprocessing
        if isinstance(batch, LabelledBatch):
            return laid_out(batch.images, self.network), batch.logits, None
        side = preprocessing.resolution
        drawn = draw_batch(len(batch.labels), job.recipe, side, job.flip, draws).to(self.device)
        views = augment_batch(batch.pixels, drawn, job.recipe, side)
        images = normalise(views, preprocessing.mean, preprocessing.std)
        images, mix = mix_batch(images, drawn)
        with autocast(self.device, self.dtype), torch.no_grad():
            answers = None if teacher is None else answer(teacher, images)
        return laid_out(images, self.network), answers, mix

    def _is_test_epoch(self, epoch: int) -> bool:
        last = self.job.recipe.last_epoch
        return epoch == last or epoch % max(1, last // self.job.recipe.test_points) == 0

    @torch.inference_mode()
    def _accuracy(self, tests: HeldImages) -> float:
        """Accuracy over the stored test split, a part at a time: it may be larger than memory."""
        self._judged.eval()
        right, count = torch.zeros((), device=self.device), 0
        for pixels, labels in tests.batches(TEST_BATCH):
            images = normalise(pixels, self.job.preprocessing.mean, self.job.preprocessing.std)
            with autocast(self.device, self.dtype):
                right += (answer(self._judged, images).argmax(1) == labels).sum()
            count += len(labels)
        return float(right) / count

    def _save(self, state: _State) -> None:
        self.file.write(
            {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "average": self.average.state_dict() if self.average else {},
                "forgetting": self.dynamics.state() if self.dynamics else {},
                **state.__dict__,
            }
        )

    def _restore(self) -> _State:
        if (values := self.file.read(self.device)) is None:
            return _State()
        self.network.load_state_dict(values.pop("network"))
        self.optimizer.load_state_dict(values.pop("optimizer"))
        restore_scaler(self.scaler, values.pop("scaler", {}))
        average, dynamics = values.pop("average"), values.pop("forgetting")
        if self.average:
            self.average.load_state_dict(average)
        if self.dynamics:
            self.dynamics.restore(dynamics)
        return _State(**values)

    def _finish(self, state: _State) -> dict[str, Any]:
        top1 = [point["top1"] for point in state.curve]
        outcome: dict[str, Any] = {
            "top1_last": top1[-1] if top1 else None,
            "top1_best": max(top1, default=None),
            "curve": state.curve,
            "seconds": state.seconds,
            "workers": state.workers,
        }
        card = CheckpointCard(
            self.job.model, self.job.class_names, self.job.preprocessing, outcome["top1_last"]
        )
        if self.dynamics:
            self.dynamics.save(self.folder, self.job.recipe.last_epoch)
        save_checkpoint(self.folder, self._judged, card)
        write_atomic(self.folder / OUTCOME, json.dumps(outcome).encode())
        return outcome
