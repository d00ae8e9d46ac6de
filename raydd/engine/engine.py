"""What a driver sees: every stage is one call that returns an artifact."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source
from raydd.engine.checkpoint import load_card
from raydd.engine.cluster import Resources
from raydd.engine.evaluate import ProtocolConfig, evaluate_images
from raydd.engine.fetch import fetch_images
from raydd.engine.pixels import DataConfig, decode_source
from raydd.engine.recover_config import SynthesisConfig
from raydd.engine.score import score_source
from raydd.engine.select import Rung, select_per_class, selected_ids
from raydd.engine.squeeze import TeacherConfig, adopt_stage, check_floor, train_teacher
from raydd.engine.stages import Artifact, Stages
from raydd.engine.stream import count_classes
from raydd.engine.synthesize import SynthesizeJob, plan_units, synthesize_images
from raydd.engine.train_job import TrainJob
from raydd.engine.train_stage import train_stage
from raydd.models.registry import ModelConfig
from raydd.ops.recipe import Recipe
from raydd.ops.seeds import derive_seed


@dataclass
class Engine:
    """The stages of one run, bound to its source, cluster and storage.

    Attributes:
        stages: runs and caches stages.
        train_source: real training images.
        test_source: real test images.
        preprocessing: of networks trained here.
        flip: probability of a mirrored view, a property of the data.
        teacher: how the teacher is made.
        data: how images are read.
        resources: workers and devices.
        seed: run seed.
        journal: path of ``metrics.jsonl``.
    """

    stages: Stages
    train_source: Source
    test_source: Source
    preprocessing: Preprocessing
    flip: float
    teacher: TeacherConfig
    data: DataConfig
    resources: Resources
    seed: int
    journal: str | None = None

    def squeeze(self) -> Artifact:
        """The teacher: trained on the real set, public weights, or a checkpoint of the user's.

        From here on every network and image follows the teacher's preprocessing.
        """
        if self.teacher.is_trained:
            artifact = self._squeeze()
        else:
            artifact = adopt_stage(self.stages, self.teacher, self.class_names, self.preprocessing)
        self.preprocessing = load_card(artifact.folder).preprocessing
        return artifact

    def score(self, checkpoint: Artifact, title: str) -> Artifact:
        """Score table of a network over the training set; refuses a teacher below its floor."""
        table = score_source(
            self.stages, self.train_source, checkpoint, self.data, self.resources, title
        )
        if title == "teacher":
            check_floor(self.teacher, table.summary["top1"], len(self.class_names))
        return table

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
        """Choose ``count`` real images per class, lowest rung first, uniformly inside a rung.

        Args:
            tables: aligned score tables.
            rung: maps their columns to int8 rungs.
            ladder: names of the rungs, for the report.
            count: images per class.
            used: earlier selections; no image is chosen twice.
            curriculum: number of the curriculum.
            draw: what the images are chosen for; names the random order.
        """
        seed = derive_seed(self.seed, "select", draw, curriculum)
        config = {"ladder": list(ladder), "count": count, "draw": draw, "curriculum": curriculum}
        return self.stages.run(
            "select",
            lambda folder: select_per_class(
                folder, tables, rung, ladder, count, used, seed, len(self.class_names)
            ),
            inputs=[*tables, *used],
            config=config,
            seed=self.seed,
            title=f"{draw} {curriculum}",
        )

    def synthesize(
        self,
        start: Artifact | None,
        teacher: Artifact,
        student: Artifact | None,
        config: SynthesisConfig,
        slots: range,
        curriculum: int,
    ) -> Artifact:
        """Optimise one curriculum's images; the same bytes for any number of workers."""
        config = replace(config, flip=config.flip and self.flip > 0)  # no mirrored digits
        num_classes = len(self.class_names)
        ids = selected_ids(start, num_classes) if start else None
        job = SynthesizeJob(
            folder="",
            units=plan_units(num_classes, slots, config.batch_size, ids),
            curriculum=curriculum,
            teacher=str(teacher.folder),
            student=str(student.folder) if student else None,
            config=config,
            source=self.train_source,
            max_pixels=self.data.max_pixels,
            seed=self.seed,
            journal=self.journal,
            device=self.resources.device,
            threads=self.resources.threads_per_worker,
        )
        inputs = [item for item in (start, teacher, student) if item]
        return synthesize_images(self.stages, job, slots, inputs, self.resources, self.seed)

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
        """Train a network on distilled images with the teacher's soft labels."""
        recipe = replace(recipe, learning_rate=learning_rate)
        job = replace(
            self._job(model, recipe, title, ("train", title)),
            images=tuple(str(item.folder) for item in images),
            teacher=str(teacher.folder),
            warm_start=str(warm_start.folder) if warm_start else None,
            test=str(self.decode_test().folder),
        )
        inputs = [*images, teacher, *([warm_start] if warm_start else [])]
        return train_stage(self.stages, "train", job, inputs, self.resources, self.seed, title)

    def evaluate(
        self,
        images: Sequence[Sequence[Artifact]],
        protocol: ProtocolConfig,
        teacher: Artifact,
        title: str,
    ) -> list[dict[str, Any]]:
        """Accuracies of fresh networks; see :func:`raydd.engine.evaluate.evaluate_images`."""
        job = self._job(protocol.architectures[0], protocol.recipe, title, ())
        return evaluate_images(
            self.stages,
            images,
            job,
            protocol,
            self.decode_test(),
            teacher,
            self.resources,
            self.seed,
            title,
        )

    def random_images(self, teacher_scores: Artifact, ipc: int, draw: int) -> Artifact:
        """``ipc`` random real images of every class, another draw for every number."""
        chosen = self.select(
            [teacher_scores], _no_preference, ("random",), ipc, curriculum=draw, draw="random"
        )
        return fetch_images(
            self.stages, self.train_source, chosen, self.preprocessing, self.data, f"random {draw}"
        )

    def decode_test(self) -> Artifact:
        """The test split's pixels."""
        return decode_source(self.stages, self.test_source, "test", self.preprocessing, self.data)

    def class_counts(self) -> np.ndarray:
        """Images of each class, int64 [C]; counted by a pass where the source does not know."""
        counts = self.train_source.class_counts()
        return count_classes(self.stages, self.train_source) if counts is None else counts

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of every artifact."""
        return self.train_source.class_names

    def checkpoint_top1(self, checkpoint: Artifact) -> float | None:
        """Test accuracy on a checkpoint's card, [0, 1]."""
        return load_card(checkpoint.folder).top1

    def _squeeze(self) -> Artifact:
        side = self.preprocessing.resize
        job = self._job(self.teacher.model, self.teacher.recipe, "squeeze teacher", ("squeeze",))
        return train_teacher(
            self.stages,
            self.train_source,
            replace(job, resolution=side, test=str(self.decode_test().folder)),
            replace(self.preprocessing, resolution=side),
            int(self.class_counts().sum()),
            self.data,
            self.resources,
            self.seed,
        )

    def _job(
        self, model: ModelConfig, recipe: Recipe, stage: str, parts: tuple[str | int, ...]
    ) -> TrainJob:
        return TrainJob(
            folder="",
            model=model,
            class_names=self.class_names,
            preprocessing=self.preprocessing,
            images=(),
            resolution=self.preprocessing.resolution,
            recipe=recipe,
            flip=self.flip,
            seed_parts=(self.seed, *parts),
            stage=stage,
            journal=self.journal,
            device=self.resources.device,
        )


def _no_preference(tables: list[dict[str, np.ndarray]]) -> np.ndarray:
    return np.zeros(len(tables[0]["id"]), np.int8)
