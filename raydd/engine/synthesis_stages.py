"""The stages of a run that optimise images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raydd.engine.context import Context
from raydd.engine.selection.chosen import selected_ids
from raydd.engine.synthesis.loop import LoopConfig
from raydd.engine.synthesis.observers import MatchConfig, ObserverNetworks
from raydd.engine.synthesis.stage import Networks, SynthesizeJob, synthesize_images
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherNetworks
from raydd.store.artifacts import Artifact
from raydd.store.units import plan_units


@dataclass
class SynthesisStages(Context):
    """A run's stages around the recover loop."""

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
        folder = str(student.folder) if student else None
        networks = TeacherNetworks(str(teacher.folder), folder, config)
        inputs = [item for item in (start, teacher, student) if item]
        return self._synthesize(networks, config, start, inputs, slots, curriculum)

    def match(
        self,
        start: Artifact | None,
        observers: Sequence[Artifact],
        statistics: Artifact,
        patch: int,
        config: MatchConfig,
        ipc: int,
    ) -> Artifact:
        """Optimise images until the observers see what they see on the real ones.

        Args:
            start: a selection of real images, an artifact of images, or None for noise.
            observers: checkpoints, in the order of the statistics.
            statistics: of :meth:`measure`.
            patch: side of a tile in the statistics, pixels.
            config: constants of the loop.
            ipc: images per class.
        """
        networks = ObserverNetworks(
            tuple(str(item.folder) for item in observers),
            str(statistics.folder),
            tuple(len(layers) for layers in statistics.summary["layers"]),
            len(self.class_names),
            patch,
            config,
        )
        inputs = [*([start] if start else []), *observers, statistics]
        return self._synthesize(networks, config, start, inputs, range(ipc), 0)

    def _synthesize(
        self,
        networks: Networks,
        config: LoopConfig,
        start: Artifact | None,
        inputs: Sequence[Artifact],
        slots: range,
        curriculum: int,
    ) -> Artifact:
        config = replace(config, flip=config.flip and self.flip > 0)  # no mirrored digits
        num_classes = len(self.class_names)
        chosen = start is not None and "chosen" in start.summary  # a selection, no images yet
        ids = selected_ids(start, num_classes) if start and chosen else None
        by_class = isinstance(config, MatchConfig)
        job = SynthesizeJob(
            folder="",
            units=plan_units(num_classes, slots, config.batch_size, ids, by_class),
            curriculum=curriculum,
            networks=networks,
            preprocessing=self.preprocessing,
            config=config,
            start_images=str(start.folder) if start and not chosen else None,
            source=self.train_source,
            max_pixels=self.data.max_pixels,
            seed=self.seed,
            journal=self.journal,
            device=self.resources.device,
        )
        return synthesize_images(self.stages, job, slots, inputs, self.resources, self.seed)
