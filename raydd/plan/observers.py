"""Plans of the stages around observers."""

from collections.abc import Sequence
from dataclasses import dataclass

from raydd.engine.passes.statistics_sums import StatisticsConfig
from raydd.engine.synthesis.observers import MatchConfig
from raydd.engine.synthesis.tiles import CropConfig
from raydd.models.observer import ObserverTap
from raydd.models.registry import ModelConfig
from raydd.plan.base import BACKWARD, PlanBase, planned_models
from raydd.plan.trials import MatchTrial, StatisticsTrial
from raydd.plan.work import Work
from raydd.store.artifacts import Artifact
from raydd.store.units import plan_units


@dataclass
class ObserverPlans(PlanBase):
    """See :class:`raydd.engine.observer_stages.ObserverStages`."""

    def ensemble(self, members: Sequence[Artifact]) -> Artifact:
        """Note the joint checkpoint."""
        if len(members) == 1:
            return members[0]
        models = [model for member in members for model in member.summary["models"]]
        artifact = self.placeholder("ensemble", models=models)
        size = self.stored_weights(artifact)
        self.note(f"ensemble {len(members)} observers", 1, size, size, size)
        return artifact

    def measure(self, observers: Sequence[Artifact], config: StatisticsConfig) -> Artifact:
        """Note the pass; its sums are mapped files, what is in memory is what fits."""
        num_classes = len(self.class_names)
        models = [model for item in observers for model in planned_models(item)]
        taps = [self._tap(model, config) for model in models]
        width = sum(sum(tap.sizes) for tap in taps)
        units = min(config.units, len(self.train_source.shards()))
        sums = num_classes * 3 * width * 8
        bytes_each = 2 if config.dtype == "float16" else 4
        stored = (num_classes + 1) * 2 * width * bytes_each
        memory = sums + sum(map(self.weights, models))
        memory += config.batch * max(map(self.activations, models))
        count, batch = self.num_images, config.batch
        work = [
            Work(StatisticsTrial(self.networks, model, config.patch, flops), count / batch, batch)
            for model, flops in zip(models, map(self.forward_flops, models), strict=True)
        ]
        self.note(
            f"statistics {len(taps)} observers",
            units,
            self.encoded_bytes(count),
            units * sums + stored,
            memory,
            work,
            decodes=count,
            divides="units",
        )
        return self.placeholder("statistics", layers=[[0] * len(tap.layers) for tap in taps])

    def crop(
        self, selection: Artifact, observer: Artifact, config: CropConfig, ipc: int
    ) -> Artifact:
        """Note the crops of a pool of real images."""
        num_classes, side = len(self.class_names), self.preprocessing.resolution
        pool, written = sum(selection.summary["chosen"]), num_classes * ipc * side * side * 3
        models, crops = planned_models(observer), pool * config.crops
        memory = self.asking_memory(observer, config.batch)
        memory += max(selection.summary["chosen"]) * (config.tiles * side) ** 2 * 3
        self.note(
            "crop",
            -(-num_classes // config.block),
            self.encoded_bytes(pool),
            written,
            memory,
            self.asking_work(models, crops, config.batch, "float32"),
            decodes=pool,
            divides="units",
        )
        return self.placeholder("crop", counts=[ipc] * num_classes)

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
        models = [model for item in observers for model in planned_models(item)]
        memory = sum(map(self.weights, models)) + 2 * batch * max(map(self.activations, models))
        count = num_classes * ipc
        pixels, real = count * side * side * 3, start is not None and "chosen" in start.summary
        # forward and to the pixels; the running average of the images is asked without a gradient
        passes = BACKWARD + (config.flatness_weight > 0)
        flops = passes * sum(map(self.forward_flops, models))
        trial = MatchTrial(self.networks, tuple(models), patch, config, flops)
        rounds = config.steps / len(models) * count / batch
        self.note(
            "synthesize curriculum 1",
            len(units),
            pixels if start else 0,
            pixels,
            memory,
            [Work(trial, rounds, batch)],
            decodes=count if real else 0,
            divides="units",
        )
        return self.placeholder("synthesize", 0, counts=[ipc] * num_classes)

    def _tap(self, model: ModelConfig, config: StatisticsConfig) -> ObserverTap:
        network = self.meta_network(model).eval()
        return ObserverTap(network, self.preprocessing.resolution, config.patch, per_image=True)
