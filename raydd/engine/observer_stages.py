"""The stages of a run that look at the real images through observers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from upath import UPath

from raydd.engine.context import Context
from raydd.engine.passes.statistics import measure_statistics
from raydd.engine.passes.statistics_sums import StatisticsConfig, StatisticsJob
from raydd.engine.synthesis.crop import crop_images
from raydd.engine.synthesis.tiles import CropConfig, CropJob
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import join_checkpoints


@dataclass
class ObserverStages(Context):
    """A run's stages around observers."""

    def ensemble(self, members: Sequence[Artifact]) -> Artifact:
        """One checkpoint whose logits are the mean of the members'."""
        if len(members) == 1:
            return members[0]

        def work(folder: UPath) -> dict[str, Any]:
            return {"model": join_checkpoints(folder, [item.folder for item in members]).name}

        title = f"{len(members)} observers"
        return self.stages.run("ensemble", work, inputs=members, config=None, seed=0, title=title)

    def measure(self, observers: Sequence[Artifact], config: StatisticsConfig) -> Artifact:
        """Statistics of the real images in the layers of all observers."""
        job = StatisticsJob(
            folder="",
            units=(),
            observers=(),
            config=config,
            source=self.train_source,
            preprocessing=self.preprocessing,
            flip=self.flip,
            max_pixels=self.data.max_pixels,
            seed=self.seed,
            device=self.resources.device,
        )
        return measure_statistics(self.stages, job, observers, self.resources)

    def crop(
        self, selection: Artifact, observer: Artifact, config: CropConfig, ipc: int
    ) -> Artifact:
        """Images tiled from crops of real ones; see :func:`.crop.crop_images`.

        Args:
            selection: of the pool of every class.
            observer: checkpoint that the crops are shown to.
            config: how crops are drawn, scored and tiled.
            ipc: images per class.
        """
        job = CropJob(
            folder="",
            selection=str(selection.folder),
            observer=str(observer.folder),
            config=config,
            ipc=ipc,
            source=self.train_source,
            preprocessing=self.preprocessing,
            max_pixels=self.data.max_pixels,
            seed=self.seed,
            journal=self.journal,
            device=self.resources.device,
        )
        return crop_images(self.stages, job, selection, observer, self.resources)
