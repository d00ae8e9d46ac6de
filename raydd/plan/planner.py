"""``plan=true``: the driver walks through its stages, and only their sizes are computed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raydd.data.sources import Source
from raydd.engine.labels.relabel import label_bytes
from raydd.engine.protocol import ProtocolConfig
from raydd.engine.selection.core import open_core
from raydd.engine.selection.difficulty import DifficultyConfig
from raydd.engine.selection.fetch import PART_ROWS
from raydd.engine.selection.select import Ranking
from raydd.engine.synthesis.teacher import SynthesisConfig
from raydd.models.registry import ModelConfig
from raydd.ops.recipe import Recipe
from raydd.plan.base import BACKWARD, count_images, planned_models
from raydd.plan.generators import GeneratorPlans
from raydd.plan.observers import ObserverPlans
from raydd.plan.trials import RecoverTrial
from raydd.plan.work import Work
from raydd.store.artifacts import Artifact
from raydd.store.units import plan_units

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
        count, batch = self.num_images, self.data.score_batch
        self.note(
            f"score {title}",
            len(self.train_source.shards()),
            self.encoded_bytes(count),
            count * _SCORE_ROW_BYTES,
            self.asking_memory(checkpoint, batch),
            self.asking_work(planned_models(checkpoint), count, batch, "float32"),
            decodes=count,
            divides="rows",
        )
        return self.placeholder("score", title)

    def difficulty(self, config: DifficultyConfig) -> list[Artifact]:
        """Note the further trainings of the teacher, or the walk through the user's table."""
        if config.by == "table":
            size = self.num_images * _SCORE_ROW_BYTES
            self.note("difficulty table", 1, size, size, size)
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
        reads = len(tables) * self.num_images * _SCORE_ROW_BYTES
        memory = (4 * rows + 1_000_000) * _SHORTLIST_ROW_BYTES
        self.note(f"select {draw} {curriculum}", 1, reads, rows * 64, memory)
        return self.placeholder("select", draw, curriculum, chosen=chosen)

    def fetch(
        self, selection: Artifact, after: Sequence[Artifact], curriculum: int, title: str
    ) -> Artifact:
        """Note the reading of chosen images."""
        counts, side = selection.summary["chosen"], self.preprocessing.resolution
        count, image = sum(counts), side * side * 3
        reads, writes, memory = self.encoded_bytes(count), count * image, 2 * PART_ROWS * image
        units = -(-count // PART_ROWS)
        self.note(f"fetch {title}", units, reads, writes, memory, decodes=count, divides="tasks")
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
        (model,) = planned_models(teacher)
        other = planned_models(student)[0] if student else None
        networks = [model, *([other] if other and config.adversarial_weight > 0 else [])]
        memory = sum(self.weights(n) + 2 * batch * self.activations(n) for n in networks)
        count = num_classes * len(slots)
        pixels = count * side * side * 3
        flops = BACKWARD * sum(map(self.forward_flops, networks))  # forward, and to the pixels
        trial = RecoverTrial(self.networks, model, other, config, flops)
        self.note(
            f"synthesize curriculum {curriculum + 1}",
            len(units),
            pixels if start else 0,
            pixels,
            memory,
            [Work(trial, config.steps * count / batch, batch)],
            decodes=count if start else 0,
            divides="units",
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
            self.training_work(model, recipe, count_images(images), teacher=teacher),
            divides="batch",
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
            views = info.num_images * info.epochs if info.form == "stored" else info.batch_size
            self.note(
                f"relabel {title}",
                max(1, info.num_blocks),
                info.num_images * self.preprocessing.resolution**2 * 3,
                writes,
                self.asking_memory(teacher, info.batch_size),
                self.asking_work(planned_models(teacher), views, info.batch_size, "exact"),
                divides="units" if info.form == "stored" else "none",
            )
        return artifact

    def decode_test(self) -> Artifact:
        """Note the decoding of the test split, once."""
        self._plan_decode("test", self.test_source, self.num_tests, self.preprocessing.resolution)
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
        models, recipe = protocol.architectures, protocol.recipe
        # stored labels bring what a teacher would say, seeded ones ask it in exact arithmetic
        asks = protocol.labels == "soft" and self.labels.form != "stored"
        asked = "exact" if self.labels.form == "seeded" else "convnet"
        work = [
            one
            for model in models
            for group in images
            for one in self.training_work(
                model, recipe, count_images(group), teacher=teacher if asks else None, asked=asked
            )
        ]
        memory = max(self.training_memory(model, recipe) for model in models)
        reads = units * self.num_tests * self.preprocessing.resolution**2 * 3
        writes = protocol.seeds * sum(map(self.weights, models))
        self.note(f"evaluate {title}", units, reads, writes, memory, work, divides="tasks")
        return []

    def _plan_squeeze(self, model: ModelConfig, title: str) -> Artifact:
        weights, recipe, count = self.weights(model), self.teacher.recipe, self.num_images
        if self.teacher.is_trained and not model.pretrained:
            side, decodes = self.preprocessing.resize, 0
            if count * side**2 * 3 <= self.data.memory_limit_mb << 20:
                self._plan_decode("train", self.train_source, count, side)
                reads = count * side**2 * 3
            else:  # streamed in every epoch
                decodes = recipe.epochs * count
                reads = recipe.epochs * self.encoded_bytes(count)
            memory = self.training_memory(model, recipe)
            work = self.training_work(model, recipe, count, side)
            row = (f"squeeze {title}", recipe.epochs, reads, weights, memory)
            self.note(*row, work, decodes=decodes, divides="batch")
        else:
            self.note(f"squeeze {title}", 1, weights, weights, weights)
        return self.placeholder("squeeze", title, models=[asdict(model)])

    def _plan_decode(self, split: str, source: Source, count: int, side: int) -> None:
        """Note, once, that a split is decoded and kept."""
        stage, size = f"decode {split}", count * side**2 * 3
        if not any(row.stage == stage for row in self.rows):
            units, reads = len(source.shards()), self.encoded_bytes(count)
            self.note(stage, units, reads, size, 0, decodes=count, divides="tasks")
