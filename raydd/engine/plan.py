"""``plan=true``: the driver walks through its stages, and only their sizes are computed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from raydd.engine.core import open_core
from raydd.engine.diagnose_config import DiagnoseConfig
from raydd.engine.difficulty import DifficultyConfig
from raydd.engine.engine import Engine
from raydd.engine.evaluate import ProtocolConfig
from raydd.engine.fetch import PART_ROWS
from raydd.engine.generator_config import GeneratorConfig, GeneratorRecipe, MinimaxConfig
from raydd.engine.generator_plan import GeneratorSizes, generator_sizes
from raydd.engine.rded_config import CropConfig
from raydd.engine.recover_config import MatchConfig, SynthesisConfig
from raydd.engine.relabel import label_bytes
from raydd.engine.sample_config import SampleConfig
from raydd.engine.select import Ranking
from raydd.engine.stages import Artifact, digest
from raydd.engine.statistics_config import StatisticsConfig
from raydd.engine.units import plan_units
from raydd.models.observer import ObserverTap
from raydd.models.registry import ModelConfig, create_meta_model
from raydd.models.sizes import output_bytes, weight_bytes
from raydd.ops.recipe import Recipe

_SHORTLIST_ROW_BYTES = 100  # columns and an id
_SCORE_ROW_BYTES = 24  # measured: zstd parquet, short ids


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
    labelled: set[str] = field(default_factory=set)

    def squeeze(self) -> Artifact:
        """Note the teacher's training, or its adoption."""
        return self._plan_squeeze(self.teacher.model, "teacher")

    def observe(self, models: Sequence[ModelConfig]) -> list[Artifact]:
        """Note each observer's training, or its adoption."""
        return [self._plan_squeeze(model, f"observer {model.name}") for model in models]

    def ensemble(self, members: Sequence[Artifact]) -> Artifact:
        """Note the joint checkpoint."""
        if len(members) == 1:
            return members[0]
        models = [model for member in members for model in member.summary["models"]]
        artifact = self._placeholder("ensemble", models=models)
        size = self._stored_weights(artifact)
        self._note(f"ensemble {len(members)} observers", 1, size, size, size)
        return artifact

    def measure(self, observers: Sequence[Artifact], config: StatisticsConfig) -> Artifact:
        """Note the pass; its sums are mapped files, what is in memory is what fits."""
        side, num_classes = self.preprocessing.resolution, len(self.class_names)
        models = [model for item in observers for model in _models(item)]
        taps = [self._tap(model, config) for model in models]
        width = sum(sum(tap.sizes) for tap in taps)
        units = min(config.units, len(self.train_source.shards()))
        sums = num_classes * 3 * width * 8
        bytes_each = 2 if config.dtype == "float16" else 4
        stored = (num_classes + 1) * 2 * width * bytes_each
        memory = sums + sum(map(self._weights, models))
        memory += config.batch * max(map(self._activations, models))
        reads = self._num_images() * side * side * 3
        self._note(f"statistics {len(taps)} observers", units, reads, units * sums + stored, memory)
        return self._placeholder("statistics", layers=[[0] * len(tap.layers) for tap in taps])

    def crop(
        self, selection: Artifact, observer: Artifact, config: CropConfig, ipc: int
    ) -> Artifact:
        """Note the crops of a pool of real images."""
        num_classes, side = len(self.class_names), self.preprocessing.resolution
        pool, written = sum(selection.summary["chosen"]), num_classes * ipc * side * side * 3
        reads = pool * (config.tiles * side) ** 2 * 3
        memory = self._asking_memory(observer, config.batch)
        memory += max(selection.summary["chosen"]) * (config.tiles * side) ** 2 * 3
        self._note("crop", -(-num_classes // config.block), reads, written, memory)
        return self._placeholder("crop", counts=[ipc] * num_classes)

    def match(
        self,
        start: Artifact | None,
        observers: Sequence[Artifact],
        statistics: Artifact,
        patch: int,
        config: MatchConfig,
        ipc: int,
    ) -> Artifact:
        """Note the units; the targets of a unit are a few rows of the statistics."""
        num_classes, side = len(self.class_names), self.preprocessing.resolution
        units = plan_units(num_classes, range(ipc), config.batch_size, None, by_class=True)
        batch = max(len(unit.labels) for unit in units)
        models = [model for item in observers for model in _models(item)]
        memory = sum(map(self._weights, models)) + 2 * batch * max(map(self._activations, models))
        pixels = num_classes * ipc * side * side * 3
        self._note("synthesize curriculum 1", len(units), pixels if start else 0, pixels, memory)
        return self._placeholder("synthesize", 0, counts=[ipc] * num_classes)

    def generator(self, config: GeneratorConfig) -> Artifact:
        """Note the adoption of a generator, or its training."""
        num_classes, side = len(self.class_names), self.preprocessing.resolution
        sizes = generator_sizes(config, num_classes, side)
        if config.is_trained:
            self._plan_fit("generator training", sizes, config.recipe)
        else:
            self._note("generator adopted", 1, *[sizes.weights] * 3)
        return self._placeholder("generator", sizes=asdict(sizes))

    def tune(self, generator: Artifact, config: MinimaxConfig) -> Artifact:
        """Note the fine-tuning, without the memories of its classes."""
        sizes = GeneratorSizes(**generator.summary["sizes"])
        self._plan_fit("tune training", sizes, config)
        return self._placeholder("tune", sizes=asdict(sizes))

    def _plan_fit(self, title: str, sizes: GeneratorSizes, recipe: GeneratorRecipe) -> None:
        reads = recipe.steps * recipe.batch_size * self.preprocessing.resolution**2 * 3
        memory = 5 * sizes.weights + 2 * recipe.batch_size * sizes.activations  # with the average
        self._note(title, recipe.steps, reads, sizes.weights, memory)

    def score(self, checkpoint: Artifact, title: str) -> Artifact:
        """Note one pass over the real set."""
        count, side = self._num_images(), self.preprocessing.resolution
        memory = self._asking_memory(checkpoint, self.data.score_batch)
        self._note(
            f"score {title}",
            len(self.train_source.shards()),
            count * side * side * 3,
            count * _SCORE_ROW_BYTES,
            memory,
        )
        return self._placeholder("score", title)

    def difficulty(self, config: DifficultyConfig) -> list[Artifact]:
        """Note the further trainings of the teacher, or the walk through the user's table."""
        if config.by == "table":
            self._note("difficulty table", 1, *[self._num_images() * _SCORE_ROW_BYTES] * 3)
            return [self._placeholder("difficulty")]
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
        reads = len(tables) * self._num_images() * _SCORE_ROW_BYTES
        memory = (4 * rows + 1_000_000) * _SHORTLIST_ROW_BYTES
        self._note(f"select {draw} {curriculum}", 1, reads, rows * 64, memory)
        return self._placeholder("select", draw, curriculum, chosen=chosen)

    def fetch(
        self, selection: Artifact, after: Sequence[Artifact], curriculum: int, title: str
    ) -> Artifact:
        """Note the reading of chosen images."""
        counts, side = selection.summary["chosen"], self.preprocessing.resolution
        size = sum(counts) * side * side * 3
        memory = 2 * PART_ROWS * side * side * 3
        self._note(f"fetch {title}", -(-sum(counts) // PART_ROWS), size, size, memory)
        return self._placeholder("fetch", title, counts=counts)

    def adopt_core(self, path: str, count: int) -> Artifact:
        """Note the copy of a distilled set's first slots."""
        open_core(path, count, self.class_names, self.preprocessing.resolution)
        size = count * len(self.class_names) * self.preprocessing.resolution**2 * 3
        self._note("core", 1, size, size, size)
        return self._placeholder("core", counts=[count] * len(self.class_names))

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
        return self._placeholder("synthesize", curriculum, counts=[len(slots)] * num_classes)

    def sample(
        self,
        generator: Artifact,
        discriminator: Artifact | None,
        reference: Artifact | None,
        config: SampleConfig,
        slots: range,
        curriculum: int,
        earlier: Sequence[Artifact] = (),
    ) -> Artifact:
        """Note one curriculum's units; of the memory, weights and what the judges see at once."""
        num_classes, side = len(self.class_names), self.preprocessing.resolution
        units = plan_units(num_classes, slots, config.batch_size, None)
        judges = sum(item is not None for item in (discriminator, reference))
        seen = min(config.decode_batch, config.batch_size)
        memory = generator.summary.get("weights", 0) + judges * (
            self._weights(self.teacher.model) + 2 * seen * self._activations(self.teacher.model)
        )
        pixels = num_classes * len(slots) * side * side * 3
        self._note(f"sample curriculum {curriculum + 1}", len(units), 0, pixels, memory)
        return self._placeholder("sample", curriculum, counts=[len(slots)] * num_classes)

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
        self._note(
            f"train {title}",
            recipe.epochs,
            0,
            self._weights(model),
            self._training_memory(model, recipe),
        )
        return self._placeholder("train", title, models=[asdict(model)])

    def relabel(
        self, images: Sequence[Artifact], teacher: Artifact, recipe: Recipe, title: str
    ) -> Artifact | None:
        """Note the labels of an image set, once."""
        if self.labels.form == "online":
            return None
        artifact = self._placeholder("relabel", [item.key for item in images])
        if artifact.key not in self.labelled:
            self.labelled.add(artifact.key)
            info, weights = self.label_info(images, recipe), self._stored_weights(teacher)
            stored = label_bytes(info) * info.num_images * info.epochs
            writes = stored if info.form == "stored" else weights // 2
            memory = self._asking_memory(teacher, info.batch_size)
            pixels = info.num_images * self.preprocessing.resolution**2 * 3
            self._note(f"relabel {title}", max(1, info.num_blocks), pixels, writes, memory)
        return artifact

    def evaluate(
        self,
        images: Sequence[Sequence[Artifact]],
        protocol: ProtocolConfig,
        teacher: Artifact,
        title: str,
    ) -> list[dict[str, Any]]:
        """Note the trainings of a protocol."""
        units = len(protocol.architectures) * protocol.seeds
        for group in images:
            self.relabel(group, teacher, protocol.recipe, title)
        memory = max(
            self._training_memory(model, protocol.recipe) for model in protocol.architectures
        )
        self._note(
            f"evaluate {title}", units, 0, sum(map(self._weights, protocol.architectures)), memory
        )
        return []

    def diagnose(
        self,
        curricula: Sequence[Artifact],
        discriminators: Sequence[Artifact],
        reference: Artifact,
        config: DiagnoseConfig,
    ) -> Artifact:
        """Note the trainings and the networks that are tried."""
        trained = len(curricula) if len(curricula) > 1 else 0
        units = 2 * trained + len(discriminators) + 1
        images = sum(sum(item.summary["counts"]) for item in curricula)
        reads = (trained + 2) * images * self.preprocessing.resolution**2 * 3
        writes = trained * self._weights(config.model)
        memory = self._training_memory(config.model, config.recipe)
        self._note(f"diagnose {len(curricula)} curricula", units, reads, writes, memory)
        return self._placeholder("diagnose")

    def _plan_squeeze(self, model: ModelConfig, title: str) -> Artifact:
        weights, recipe = self._weights(model), self.teacher.recipe
        if self.teacher.is_trained and not model.pretrained:
            size = self._num_images() * self.preprocessing.resize**2 * 3
            if not any(row.stage == "decode train" for row in self.rows):
                self._note("decode train", len(self.train_source.shards()), size, size, 0)
            memory = self._training_memory(model, recipe)
            self._note(f"squeeze {title}", recipe.epochs, recipe.epochs * size, weights, memory)
        else:
            self._note(f"squeeze {title}", 1, weights, weights, weights)
        return self._placeholder("squeeze", title, models=[asdict(model)])

    def _stored_weights(self, checkpoint: Artifact) -> int:
        return sum(map(self._weights, _models(checkpoint)))

    def _asking_memory(self, checkpoint: Artifact, batch: int) -> int:
        """Peak bytes of a network, or of an ensemble's members in turn, that only answers."""
        activations = max(map(self._activations, _models(checkpoint)))
        return self._stored_weights(checkpoint) + batch * activations

    def _tap(self, model: ModelConfig, config: StatisticsConfig) -> ObserverTap:
        network = self._meta(model).eval()
        return ObserverTap(network, self.preprocessing.resolution, config.patch, per_image=True)

    def _num_images(self) -> int:
        counts = self.train_source.class_counts()
        return 0 if counts is None else int(counts.sum())

    def _training_memory(self, model: ModelConfig, recipe: Recipe) -> int:
        return 4 * self._weights(model) + 2 * recipe.batch_size * self._activations(model)

    def _weights(self, model: ModelConfig) -> int:
        return weight_bytes(self._meta(model))

    def _activations(self, model: ModelConfig) -> int:
        """Bytes of every layer's output for one image, counted on the meta device."""
        side = self.preprocessing.resolution
        return output_bytes(self._meta(model), torch.empty(1, 3, side, side, device="meta"))

    def _meta(self, model: ModelConfig) -> nn.Module:
        return create_meta_model(model, len(self.class_names), self.preprocessing.resolution)

    def _note(self, stage: str, units: int, reads: int, writes: int, memory: int) -> None:
        self.rows.append(PlanRow(stage, units, reads, writes, memory))

    def _placeholder(self, *parts: Any, **summary: Any) -> Artifact:
        key = digest("plan", parts)
        return Artifact(self.stages.root / key, key, summary)


def _models(checkpoint: Artifact) -> list[ModelConfig]:
    """Architectures of a planned checkpoint: one, or an ensemble's members."""
    return [ModelConfig(**model) for model in checkpoint.summary["models"]]
