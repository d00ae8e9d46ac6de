"""What every planned stage needs: a row of the table, an artifact to come, work of networks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from raydd.data.sources import Source
from raydd.engine.engine import Engine
from raydd.models.registry import ModelConfig, create_meta_model
from raydd.models.sizes import forward_flops, output_bytes, weight_bytes
from raydd.ops.recipe import Recipe
from raydd.plan.trials import AskTrial, Networks, TrainTrial
from raydd.plan.work import PlanRow, Work
from raydd.store.artifacts import Artifact, digest

BACKWARD = 2  # forward passes that a backward pass costs; half of it where weights are frozen
_ENCODED_BYTES = 110_000  # a mean image of ImageNet; small ones are about as large as their pixels
_TEST_BATCH = 500  # of a training's tests


@dataclass
class PlanBase(Engine):
    """An engine that notes instead of working."""

    rows: list[PlanRow] = field(default_factory=list)
    labelled: set[str] = field(default_factory=set)
    flops: dict[str, int] = field(default_factory=dict)

    def asking_memory(self, checkpoint: Artifact, batch: int) -> int:
        """Peak bytes of a network, or of an ensemble's members in turn, that only answers."""
        activations = max(map(self.activations, planned_models(checkpoint)))
        return self.stored_weights(checkpoint) + batch * activations

    def training_memory(self, model: ModelConfig, recipe: Recipe) -> int:
        """Peak bytes of a training: weights, optimiser and a batch's activations."""
        return 4 * self.weights(model) + 2 * recipe.batch_size * self.activations(model)

    def asking_work(
        self, models: Sequence[ModelConfig], images: int, batch: int, kind: str = "convnet"
    ) -> tuple[Work, ...]:
        """Forward passes of each of some networks over so many images."""
        size = max(1, min(batch, images))
        return tuple(
            Work(
                AskTrial(self.networks, model, self.forward_flops(model), kind), images / size, size
            )
            for model in models
        )

    def training_work(
        self,
        model: ModelConfig,
        recipe: Recipe,
        images: int,
        side: int | None = None,
        teacher: Artifact | None = None,
        asked: str = "convnet",
        tested: bool = True,
    ) -> tuple[Work, ...]:
        """One training, its tests, and what its teacher is asked.

        Args:
            model: what is trained.
            recipe: of the training.
            images: in an epoch.
            side: of the stored images, pixels; None is the resolution.
            teacher: who is asked about every view; None where nobody is.
            asked: kind of the teacher's work.
            tested: whether the test split is looked at.
        """
        batch, views = max(1, min(recipe.batch_size, images)), recipe.epochs * images
        flops = (1 + BACKWARD) * self.forward_flops(model)
        side = side or self.preprocessing.resolution
        trial = TrainTrial(self.networks, model, recipe, side, self.flip, flops)
        every = max(1, recipe.epochs // recipe.test_points)
        tests = -(-recipe.epochs // every) * self.num_tests if tested else 0
        return (
            Work(trial, views / batch, batch),
            *(self.asking_work([model], tests, _TEST_BATCH) if tests else ()),
            *(self.asking_work(planned_models(teacher), views, batch, asked) if teacher else ()),
        )

    def stored_weights(self, checkpoint: Artifact) -> int:
        """Bytes of a planned checkpoint."""
        return sum(map(self.weights, planned_models(checkpoint)))

    def weights(self, model: ModelConfig) -> int:
        """Bytes of a network in float32."""
        return weight_bytes(self.meta_network(model))

    def activations(self, model: ModelConfig) -> int:
        """Bytes of every layer's output for one image, counted on the meta device."""
        return output_bytes(self.meta_network(model), self._meta_image())

    def forward_flops(self, model: ModelConfig) -> int:
        """Operations of a forward pass of one image, counted on the meta device once."""
        if repr(model) not in self.flops:
            counted = forward_flops(self.meta_network(model), self._meta_image())
            self.flops[repr(model)] = counted
        return self.flops[repr(model)]

    def meta_network(self, model: ModelConfig) -> nn.Module:
        """The network without memory."""
        return create_meta_model(model, len(self.class_names), self.preprocessing.resolution)

    @cached_property
    def networks(self) -> Networks:
        """What the networks of this run have in common."""
        return Networks(len(self.class_names), self.preprocessing)

    @cached_property
    def num_images(self) -> int:
        """Size of the real set; 0 where only a pass could tell."""
        return _count(self.train_source)

    @cached_property
    def num_tests(self) -> int:
        """Size of the test split; 0 where only a pass could tell."""
        return _count(self.test_source)

    def encoded_bytes(self, count: int) -> int:
        """Bytes of so many real images as they are stored, roughly."""
        return count * min(self.preprocessing.resize**2 * 3, _ENCODED_BYTES)

    def note(
        self,
        stage: str,
        units: int,
        reads: int,
        writes: int,
        memory: int,
        work: Sequence[Work] = (),
        decodes: int = 0,
        divides: str = "none",
    ) -> None:
        """Add a row."""
        self.rows.append(
            PlanRow(stage, units, reads, writes, memory, tuple(work), decodes, divides)
        )

    def placeholder(self, *parts: Any, **summary: Any) -> Artifact:
        """An artifact that will be there; ``parts`` name it."""
        key = digest("plan", parts)
        return Artifact(self.stages.root / key, key, summary)

    def _meta_image(self) -> torch.Tensor:
        side = self.preprocessing.resolution
        return torch.empty(1, 3, side, side, device="meta")


def planned_models(checkpoint: Artifact) -> list[ModelConfig]:
    """Architectures of a planned checkpoint: one, or an ensemble's members."""
    return [ModelConfig(**model) for model in checkpoint.summary["models"]]


def _count(source: Source) -> int:
    counts = source.class_counts()
    return 0 if counts is None else int(counts.sum())


def count_images(images: Sequence[Artifact]) -> int:
    """Images of all artifacts together."""
    return sum(sum(item.summary["counts"]) for item in images)
