"""``plan=true``: the driver walks through its stages, and only their sizes are computed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raydd.engine.core import open_core
from raydd.engine.difficulty import DifficultyConfig
from raydd.engine.evaluate import ProtocolConfig
from raydd.engine.fetch import PART_ROWS
from raydd.engine.plan_generators import GeneratorPlans
from raydd.engine.plan_observers import ObserverPlans
from raydd.engine.recover_config import SynthesisConfig
from raydd.engine.relabel import label_bytes
from raydd.engine.select import Ranking
from raydd.engine.stages import Artifact
from raydd.engine.units import plan_units
from raydd.models.registry import ModelConfig
from raydd.ops.recipe import Recipe

_SHORTLIST_ROW_BYTES = 100  # columns and an id
_SCORE_ROW_BYTES = 24  # measured: zstd parquet, short ids


@dataclass
class Planner(GeneratorPlans, ObserverPlans):
    """An engine whose stages only note what they would do."""

    def squeeze(self) -> Artifact:
        """Note the teacher's training, or its adoption."""
        return self._plan_squeeze(self.teacher.model, "teacher")

    def observe(self, models: Sequence[ModelConfig]) -> list[Artifact]:
        """Note each observer's training, or its adoption."""
        return [self._plan_squeeze(model, f"observer {model.name}") for model in models]

    def score(self, checkpoint: Artifact, title: str) -> Artifact:
        """Note one pass over the real set."""
        count, side = self.num_images(), self.preprocessing.resolution
        memory = self.asking_memory(checkpoint, self.data.score_batch)
        self.note(
            f"score {title}",
            len(self.train_source.shards()),
            count * side * side * 3,
            count * _SCORE_ROW_BYTES,
            memory,
        )
        return self.placeholder("score", title)

    def difficulty(self, config: DifficultyConfig) -> list[Artifact]:
        """Note the further trainings of the teacher, or the walk through the user's table."""
        if config.by == "table":
            self.note("difficulty table", 1, *[self.num_images() * _SCORE_ROW_BYTES] * 3)
            return [self.placeholder("difficulty")]
        runs = range(1, config.runs if config.by == "forgetting" else 1)
        return [self.score(self.squeeze(), f"teacher run {run}") for run in runs]

    def select(
        self,
        tables: Sequence[Artifact],
        ranking: Ranking,
        count: int | Sequence[int],
        used: Sequence[Artifact] = (),
        curriculum: int = 0,
        draw: str = "start",
    ) -> Artifact:
        """Note one walk over score tables; every class is taken to have enough."""
        chosen = np.broadcast_to(np.asarray(count), len(self.class_names)).tolist()
        rows = sum(chosen)
        reads = len(tables) * self.num_images() * _SCORE_ROW_BYTES
        memory = (4 * rows + 1_000_000) * _SHORTLIST_ROW_BYTES
        self.note(f"select {draw} {curriculum}", 1, reads, rows * 64, memory)
        return self.placeholder("select", draw, curriculum, chosen=chosen)

    def fetch(
        self, selection: Artifact, after: Sequence[Artifact], curriculum: int, title: str
    ) -> Artifact:
        """Note the reading of chosen images."""
        counts, side = selection.summary["chosen"], self.preprocessing.resolution
        size = sum(counts) * side * side * 3
        memory = 2 * PART_ROWS * side * side * 3
        self.note(f"fetch {title}", -(-sum(counts) // PART_ROWS), size, size, memory)
        return self.placeholder("fetch", title, counts=counts)

    def adopt_core(self, path: str, count: int) -> Artifact:
        """Note the copy of a distilled set's first slots."""
        open_core(path, count, self.class_names, self.preprocessing.resolution)
        size = count * len(self.class_names) * self.preprocessing.resolution**2 * 3
        self.note("core", 1, size, size, size)
        return self.placeholder("core", counts=[count] * len(self.class_names))

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
            self.weights(self.teacher.model) + 2 * batch * self.activations(self.teacher.model)
        )
        pixels = num_classes * len(slots) * side * side * 3
        self.note(
            f"synthesize curriculum {curriculum + 1}",
            len(units),
            pixels if start else 0,
            pixels,
            memory,
        )
        return self.placeholder("synthesize", curriculum, counts=[len(slots)] * num_classes)

    def train(
        self,
        images: Sequence[Artifact],
        teacher: Artifact | None,
        model: ModelConfig,
        recipe: Recipe,
        warm_start: Artifact | None = None,
        title: str = "student",
    ) -> Artifact:
        """Note one training on distilled images."""
        self.note(
            f"train {title}",
            recipe.epochs,
            0,
            self.weights(model),
            self.training_memory(model, recipe),
        )
        return self.placeholder("train", title, models=[asdict(model)])

    def relabel(
        self, images: Sequence[Artifact], teacher: Artifact, recipe: Recipe, title: str
    ) -> Artifact | None:
        """Note the labels of an image set, once."""
        if self.labels.form == "online":
            return None
        artifact = self.placeholder("relabel", [item.key for item in images])
        if artifact.key not in self.labelled:
            self.labelled.add(artifact.key)
            info, weights = self.label_info(images, recipe), self.stored_weights(teacher)
            stored = label_bytes(info) * info.num_images * info.epochs
            writes = stored if info.form == "stored" else weights // 2
            memory = self.asking_memory(teacher, info.batch_size)
            pixels = info.num_images * self.preprocessing.resolution**2 * 3
            self.note(f"relabel {title}", max(1, info.num_blocks), pixels, writes, memory)
        return artifact

    def decode_test(self) -> Artifact:
        """The test split is decoded once, with nothing to note."""
        return self.placeholder("decode", "test")

    def evaluate(
        self,
        images: Sequence[Sequence[Artifact]],
        protocol: ProtocolConfig,
        teacher: Artifact,
        test: Artifact,
        title: str,
    ) -> list[dict[str, Any]]:
        """Note the trainings of a protocol."""
        units = len(protocol.architectures) * protocol.seeds
        for group in images:
            self.relabel(group, teacher, protocol.recipe, title)
        memory = max(
            self.training_memory(model, protocol.recipe) for model in protocol.architectures
        )
        self.note(
            f"evaluate {title}", units, 0, sum(map(self.weights, protocol.architectures)), memory
        )
        return []

    def _plan_squeeze(self, model: ModelConfig, title: str) -> Artifact:
        weights, recipe = self.weights(model), self.teacher.recipe
        if self.teacher.is_trained and not model.pretrained:
            size = self.num_images() * self.preprocessing.resize**2 * 3
            if not any(row.stage == "decode train" for row in self.rows):
                self.note("decode train", len(self.train_source.shards()), size, size, 0)
            memory = self.training_memory(model, recipe)
            self.note(f"squeeze {title}", recipe.epochs, recipe.epochs * size, weights, memory)
        else:
            self.note(f"squeeze {title}", 1, weights, weights, weights)
        return self.placeholder("squeeze", title, models=[asdict(model)])
