"""``plan=true``: the driver walks through its stages, and only their sizes are computed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from raydd.engine.engine import Engine
from raydd.engine.evaluate import ProtocolConfig
from raydd.engine.recover_config import SynthesisConfig
from raydd.engine.select import Rung
from raydd.engine.stages import Artifact, digest
from raydd.engine.synthesize import plan_units
from raydd.models.registry import ModelConfig, create_meta_model
from raydd.ops.recipe import Recipe

_SCORE_ROW_BYTES = 24  # measured: zstd parquet, short ids
_FLOAT = 4


@dataclass(frozen=True)
class PlanRow:
    """One stage.

    Attributes:
        stage: name.
        units: grain of resume: shards, epochs, batches or trainings.
        reads: bytes read.
        writes: bytes written.
        memory: peak bytes of one worker: weights, optimiser and activations of a batch.
    """

    stage: str
    units: int
    reads: int
    writes: int
    memory: int


@dataclass
class Planner(Engine):
    """An engine whose stages only note what they would do."""

    rows: list[PlanRow] = field(default_factory=list)

    def squeeze(self) -> Artifact:
        """Note the teacher's training, or its adoption."""
        config, weights = self.teacher, self._weights(self.teacher.model)
        if config.is_trained:
            size = self._num_images() * self.preprocessing.resize**2 * 3
            epochs, memory = (
                config.recipe.epochs,
                self._training_memory(config.model, config.recipe),
            )
            self._note("decode train", len(self.train_source.shards()), size, size, 0)
            self._note("squeeze teacher", epochs, epochs * size, weights, memory)
        else:
            self._note("squeeze teacher", 1, weights, weights, weights)
        return self._placeholder("squeeze")

    def score(self, checkpoint: Artifact, title: str) -> Artifact:
        """Note one pass over the real set."""
        count, side = self._num_images(), self.preprocessing.resolution
        memory = self._weights(self.teacher.model) + self.data.score_batch * self._activations(
            self.teacher.model
        )
        self._note(
            f"score {title}",
            len(self.train_source.shards()),
            count * side * side * 3,
            count * _SCORE_ROW_BYTES,
            memory,
        )
        return self._placeholder("score", title)

    def select(
        self,
        tables: Sequence[Artifact],
        rung: Rung,
        ladder: Sequence[str],
        count: int,
        used: Sequence[Artifact] = (),
        curriculum: int = 0,
        draw: str = "start",
    ) -> Artifact:
        """Note one fold over score tables."""
        rows = count * len(self.class_names)
        reads = len(tables) * self._num_images() * _SCORE_ROW_BYTES
        self._note(
            f"select {draw} {curriculum}", 1, reads, rows * 64, max(4 * rows, 1_000_000) * 100
        )
        return self._placeholder("select", draw, curriculum)

    def synthesize(
        self,
        start: Artifact | None,
        teacher: Artifact,
        student: Artifact | None,
        config: SynthesisConfig,
        slots: range,
        curriculum: int,
    ) -> Artifact:
        """Note one curriculum's units."""
        num_classes, side = len(self.class_names), self.preprocessing.resolution
        units = plan_units(num_classes, slots, config.batch_size, None)
        batch = max(len(unit.labels) for unit in units)
        networks = 2 if student else 1
        memory = networks * (
            self._weights(self.teacher.model) + 2 * batch * self._activations(self.teacher.model)
        )
        pixels = num_classes * len(slots) * side * side * 3
        self._note(
            f"synthesize curriculum {curriculum + 1}",
            len(units),
            pixels if start else 0,
            pixels,
            memory,
        )
        return self._placeholder("synthesize", curriculum)

    def train(
        self,
        images: Sequence[Artifact],
        teacher: Artifact,
        model: ModelConfig,
        recipe: Recipe,
        learning_rate: float,
        warm_start: Artifact | None,
        title: str,
    ) -> Artifact:
        """Note one training on distilled images."""
        self._note(
            f"train {title}",
            recipe.epochs,
            0,
            self._weights(model),
            self._training_memory(model, recipe),
        )
        return self._placeholder("train", title)

    def random_images(self, teacher_scores: Artifact, ipc: int, draw: int) -> Artifact:
        """Note the fetch of one random subset."""
        side = self.preprocessing.resolution
        size = ipc * len(self.class_names) * side * side * 3
        self._note(f"fetch random {draw}", 1, size, size, size)
        return self._placeholder("fetch", draw)

    def evaluate(
        self,
        images: Sequence[Sequence[Artifact]],
        protocol: ProtocolConfig,
        teacher: Artifact,
        title: str,
    ) -> list[dict[str, Any]]:
        """Note the trainings of a protocol."""
        units = len(protocol.architectures) * protocol.seeds
        memory = max(
            self._training_memory(model, protocol.recipe) for model in protocol.architectures
        )
        self._note(
            f"evaluate {title}", units, 0, sum(map(self._weights, protocol.architectures)), memory
        )
        return []

    def _num_images(self) -> int:
        counts = self.train_source.class_counts()
        return 0 if counts is None else int(counts.sum())

    def _training_memory(self, model: ModelConfig, recipe: Recipe) -> int:
        return 4 * self._weights(model) + 2 * recipe.batch_size * self._activations(model)

    def _weights(self, model: ModelConfig) -> int:
        return _FLOAT * sum(
            p.numel()
            for p in create_meta_model(
                model, len(self.class_names), self.preprocessing.resolution
            ).parameters()
        )

    def _activations(self, model: ModelConfig) -> int:
        """Bytes of every layer's output for one image, counted on the meta device."""
        network, total = (
            self._meta(model),
            0,
        )

        def count(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal total
            total += output.numel() if isinstance(output, torch.Tensor) else 0

        for module in network.modules():
            if not list(module.children()):
                module.register_forward_hook(count)
        side = self.preprocessing.resolution
        network.eval()(torch.empty(1, 3, side, side, device="meta"))
        return total * _FLOAT

    def _meta(self, model: ModelConfig) -> nn.Module:
        return create_meta_model(model, len(self.class_names), self.preprocessing.resolution)

    def _note(self, stage: str, units: int, reads: int, writes: int, memory: int) -> None:
        self.rows.append(PlanRow(stage, units, reads, writes, memory))

    def _placeholder(self, *parts: Any) -> Artifact:
        key = digest("plan", parts)
        return Artifact(self.stages.root / key, key)
