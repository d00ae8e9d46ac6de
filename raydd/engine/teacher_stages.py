"""The stages of a run that make networks on the real images and ask them about these."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raydd.engine.context import Context
from raydd.engine.passes.score import score_source
from raydd.engine.selection.difficulty import DifficultyConfig, check_difficulty, import_table
from raydd.engine.training.teacher import TeacherConfig, adopt_stage, check_floor, train_teacher
from raydd.errors import Refused
from raydd.models.registry import ModelConfig
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import load_card


@dataclass
class TeacherStages(Context):
    """A run's stages around teachers and observers."""

    def squeeze(self) -> Artifact:
        """The teacher: trained on the real set, public weights, or a checkpoint of the user's.

        From here on every network and image follows the teacher's preprocessing.
        """
        artifact = self._squeeze(self.teacher, "teacher")
        self.preprocessing = load_card(artifact.folder).preprocessing
        return artifact

    def observe(self, models: Sequence[ModelConfig]) -> list[Artifact]:
        """Observers: each made as the teacher would be, but with an architecture of its own."""
        configs = [replace(self.teacher, model=model, checkpoint=None) for model in models]
        observers = [self._squeeze(config, f"observer {config.model.name}") for config in configs]
        seen = {load_card(observer.folder).preprocessing for observer in observers}
        if len(seen) > 1:
            raise Refused(
                "the observers were trained with different preprocessing, but all look at the same "
                "images; leave out those with public weights of another kind."
            )
        (self.preprocessing,) = seen
        return observers

    def score(self, checkpoint: Artifact, title: str) -> Artifact:
        """Score table of a network over the training set; refuses a teacher below its floor."""
        table = score_source(
            self.stages, self.train_source, checkpoint, self.data, self.resources, title
        )
        if title == "teacher":
            check_floor(self.teacher, table.summary["top1"], len(self.class_names))
        return table

    def check_difficulty(self, config: DifficultyConfig) -> None:
        """Refuse, before any work, a difficulty that nobody will have measured."""
        check_difficulty(config, self.teacher)

    def difficulty(self, config: DifficultyConfig) -> list[Artifact]:
        """Score tables beyond the teacher's that a difficulty is read from.

        The user's file, or further trainings of the teacher whose forgetting events count too.
        """
        scores = self.score(self.squeeze(), "teacher")
        if config.by == "table":
            return [import_table(self.stages, config, scores)]
        runs = range(1, config.runs if config.by == "forgetting" else 1)
        trained = [self._squeeze(self.teacher, f"teacher run {run}", run) for run in runs]
        return [
            self.score(item, f"teacher run {run}") for run, item in zip(runs, trained, strict=True)
        ]

    def _squeeze(self, config: TeacherConfig, title: str, run: int = 0) -> Artifact:
        if not config.is_trained:
            return adopt_stage(self.stages, config, self.class_names, self.preprocessing)
        side = self.preprocessing.resize
        parts = ("squeeze", run) if run else ("squeeze",)
        job = self.new_job(config.model, config.recipe, f"squeeze {title}", parts)
        return train_teacher(
            self.stages,
            self.train_source,
            replace(job, resolution=side, test=str(self.decode_test().folder)),
            replace(self.preprocessing, resolution=side),
            int(self.class_counts().sum()),
            self.data,
            self.resources,
            self.seed,
            title,
        )
