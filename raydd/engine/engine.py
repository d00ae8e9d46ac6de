"""What every stage of a run needs: the first argument of each; nothing changes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from raydd.cluster.resources import Resources
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources.base import Estimated, Source
from raydd.store.artifacts import Artifact, Stages
from raydd.store.checkpoint import CheckpointCard, load_card

if TYPE_CHECKING:
    from raydd.engine.labels.data import LabelConfig
    from raydd.engine.passes.stream import DataConfig
    from raydd.engine.training.teacher import TeacherConfig

ENCODED_BYTES = 110_000  # a mean image of ImageNet; small ones are about as large as their pixels


@dataclass(frozen=True)
class Engine:
    """One run's data, cluster and storage.

    Attributes:
        stages: runs and caches stages.
        train_source: real training images.
        test_source: real test images.
        preprocessing: of the images and networks that are made.
        flip: probability of a mirrored view, a property of the data.
        teacher: how the teacher is made.
        data: how images are read.
        resources: workers and devices.
        seed: run seed.
        labels: form of the soft labels that the product carries and the judge trains from.
        journal: path of ``metrics.jsonl``.
        validation: images per class that no selection takes and that judge instead of the test
            split; 0 judges on the test split.
        known_images: images of the training and the test split where the sources cannot tell; for
            plans.
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
    labels: LabelConfig
    journal: str | None = None
    validation: int = 0
    known_images: tuple[int | None, int | None] = (None, None)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of every artifact."""
        return self.train_source.class_names

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    def card(self, checkpoint: Artifact) -> CheckpointCard:
        """What a checkpoint says about itself; of a planned one, what it will say."""
        told = checkpoint.summary.get("card")
        return CheckpointCard.from_json(told) if told else load_card(checkpoint.folder)

    def seen_by(self, checkpoint: Artifact) -> Engine:
        """The same engine, whose images are made for a network: with its preprocessing."""
        return replace(self, preprocessing=self.card(checkpoint).preprocessing)

    @cached_property
    def num_images(self) -> float:
        """Size of the real set, for plans; nan where only a pass could tell."""
        return _count(self.train_source, self.known_images[0])

    @cached_property
    def num_tests(self) -> float:
        """Size of the test split, for plans; nan where only a pass could tell."""
        return _count(self.test_source, self.known_images[1])

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the pixels of an image."""
        return self.preprocessing.resolution**2 * 3

    def encoded_bytes(self, count: float) -> float:
        """Bytes of so many real images as they are stored, roughly."""
        return count * min(self.preprocessing.resize**2 * 3, ENCODED_BYTES)


def _count(source: Source, known: int | None) -> float:
    counts = source.class_counts()
    if counts is not None:
        return int(counts.sum())
    if known is not None:
        return known
    estimated = source.estimate_count() if isinstance(source, Estimated) else None
    return math.nan if estimated is None else estimated
