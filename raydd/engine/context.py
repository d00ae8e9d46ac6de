"""What every stage of a run needs: sources, storage, cluster, seed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from raydd.cluster.connect import Resources
from raydd.data.labels import LabelInfo
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source
from raydd.engine.labels.data import LabelConfig
from raydd.engine.labels.relabel import plan_labels
from raydd.engine.passes.decode import count_classes, decode_source
from raydd.engine.passes.stream import DataConfig
from raydd.engine.training.job import TrainJob
from raydd.engine.training.teacher import TeacherConfig
from raydd.models.registry import ModelConfig
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Artifact, Stages
from raydd.store.checkpoint import CheckpointCard, load_card


@dataclass
class Context:
    """One run's source, cluster and storage.

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
        labels: form of the soft labels that the product carries and the judge trains from.
        validation: images per class that no selection takes and that judge instead of the test
            split; 0 judges on the test split.
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
    labels: LabelConfig = field(default_factory=LabelConfig)
    validation: int = 0

    def decode_test(self) -> Artifact:
        """The test split's pixels."""
        return decode_source(self.stages, self.test_source, "test", self.preprocessing, self.data)

    def class_counts(self) -> np.ndarray:
        """Images of each class, int64 [C]; counted by a pass where the source does not know."""
        counts = self.train_source.class_counts()
        return count_classes(self.stages, self.train_source) if counts is None else counts

    def label_info(self, images: Sequence[Artifact], recipe: Recipe) -> LabelInfo:
        """Which views of an image set are labelled how; ``recipe`` is the protocol's."""
        count = sum(sum(item.summary["counts"]) for item in images)
        return plan_labels(
            self.labels,
            recipe,
            self.flip,
            self.preprocessing,
            len(self.class_names),
            count,
            self.seed,
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of every artifact."""
        return self.train_source.class_names

    def card(self, checkpoint: Artifact) -> CheckpointCard:
        """What a checkpoint says about itself."""
        return load_card(checkpoint.folder)

    def new_job(
        self, model: ModelConfig, recipe: Recipe, stage: str, parts: tuple[str | int, ...]
    ) -> TrainJob:
        """A training without images; ``parts`` name it and fix its draws."""
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
