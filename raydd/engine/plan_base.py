"""What every planned stage needs: a row of the table, an artifact to come, sizes of networks."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from raydd.engine.engine import Engine
from raydd.engine.stages import Artifact, digest
from raydd.models.registry import ModelConfig, create_meta_model
from raydd.models.sizes import output_bytes, weight_bytes
from raydd.ops.recipe import Recipe


@dataclass(frozen=True)
class PlanRow:
    """One stage.

    Attributes:
        stage: name.
        units: grain of resume: shards, epochs, batches or trainings.
        reads: bytes read.
        writes: bytes written.
        memory: peak bytes of one worker: weights, optimiser and activations of a batch.
        rate: optimiser or sampler steps of a batch per second on this machine's CPU, where a stage
            is made of them and was tried.
    """

    stage: str
    units: int
    reads: int
    writes: int
    memory: int
    rate: float | None = None


@dataclass
class PlanBase(Engine):
    """An engine that notes instead of working."""

    rows: list[PlanRow] = field(default_factory=list)
    labelled: set[str] = field(default_factory=set)

    def asking_memory(self, checkpoint: Artifact, batch: int) -> int:
        """Peak bytes of a network, or of an ensemble's members in turn, that only answers."""
        activations = max(map(self.activations, planned_models(checkpoint)))
        return self.stored_weights(checkpoint) + batch * activations

    def training_memory(self, model: ModelConfig, recipe: Recipe) -> int:
        """Peak bytes of a training: weights, optimiser and a batch's activations."""
        return 4 * self.weights(model) + 2 * recipe.batch_size * self.activations(model)

    def stored_weights(self, checkpoint: Artifact) -> int:
        """Bytes of a planned checkpoint."""
        return sum(map(self.weights, planned_models(checkpoint)))

    def weights(self, model: ModelConfig) -> int:
        """Bytes of a network in float32."""
        return weight_bytes(self.meta_network(model))

    def activations(self, model: ModelConfig) -> int:
        """Bytes of every layer's output for one image, counted on the meta device."""
        side = self.preprocessing.resolution
        return output_bytes(self.meta_network(model), torch.empty(1, 3, side, side, device="meta"))

    def meta_network(self, model: ModelConfig) -> nn.Module:
        """The network without memory."""
        return create_meta_model(model, len(self.class_names), self.preprocessing.resolution)

    def num_images(self) -> int:
        """Size of the real set; 0 where only a pass could tell."""
        counts = self.train_source.class_counts()
        return 0 if counts is None else int(counts.sum())

    def note(
        self,
        stage: str,
        units: int,
        reads: int,
        writes: int,
        memory: int,
        rate: float | None = None,
    ) -> None:
        """Add a row."""
        self.rows.append(PlanRow(stage, units, reads, writes, memory, rate))

    def placeholder(self, *parts: Any, **summary: Any) -> Artifact:
        """An artifact that will be there; ``parts`` name it."""
        key = digest("plan", parts)
        return Artifact(self.stages.root / key, key, summary)


def planned_models(checkpoint: Artifact) -> list[ModelConfig]:
    """Architectures of a planned checkpoint: one, or an ensemble's members."""
    return [ModelConfig(**model) for model in checkpoint.summary["models"]]
