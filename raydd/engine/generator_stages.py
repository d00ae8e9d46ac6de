"""The stages of a run that make a generator, sample from it and diagnose what came out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from upath import UPath

from raydd.cluster.fit import fit
from raydd.data.distilled import hash_file
from raydd.engine.context import Context
from raydd.engine.diagnose import DiagnoseConfig, diagnose_images
from raydd.engine.generator.adopt import adopt_generator, fresh_generator
from raydd.engine.generator.checkpoint import load_generator_card, save_generator
from raydd.engine.generator.config import GeneratorConfig, GeneratorRecipe, MinimaxConfig
from raydd.engine.generator.train import GeneratorJob, generator_worker
from raydd.engine.passes.decode import place_images
from raydd.engine.sampling.config import SampleConfig
from raydd.engine.sampling.stage import SampleJob, sample_images
from raydd.engine.training.data import Feed
from raydd.errors import Refused
from raydd.models.diffusion import Generator
from raydd.store.artifacts import Artifact
from raydd.store.units import plan_units


@dataclass
class GeneratorStages(Context):
    """A run's stages around a diffusion model."""

    def generator(self, config: GeneratorConfig) -> Artifact:
        """The generator: public weights, one that was saved, or one trained on the source.

        Its summary has ``name``, ``licence`` and ``resolution``; a training adds ``steps``,
        ``loss`` and ``seconds``.

        Raises:
            Refused: see :func:`raydd.engine.generator.adopt.adopt_generator`.
        """
        if not config.is_trained:
            return self._start(config, "adopted", 0)
        fresh = self._start(config, "untrained", self.seed)
        return self._fit("generator", fresh, config.recipe)

    def tune(self, generator: Artifact, config: MinimaxConfig) -> Artifact:
        """A copy that was fine-tuned on the source by the terms of Minimax Diffusion.

        Differs from the paper, which tunes one copy for each 20 classes: one serves all.
        """
        return self._fit("tune", generator, config)

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
        """Sample one curriculum's images; the same bytes for any number of workers.

        Args:
            generator: the diffusion model.
            discriminator: checkpoint that the images shall be hard for; None samples unguided.
            reference: checkpoint trained on real images; the anchored energy needs it.
            config: constants; what is switched off in them makes its input irrelevant.
            slots: of the curriculum.
            curriculum: its number.
            earlier: curricula before, whose latents the deviation keeps away from.
        """
        adversary = config.adversary
        judge = discriminator if adversary.scale > 0 else None
        anchor = reference if judge and adversary.energy == "anchored" else None
        avoided = earlier if adversary.deviation > 0 else ()
        job = SampleJob(
            folder="",
            units=plan_units(len(self.class_names), slots, config.batch_size, None),
            curriculum=curriculum,
            generator=str(generator.folder),
            discriminator=str(judge.folder) if judge else None,
            reference=str(anchor.folder) if anchor else None,
            earlier=tuple(str(item.folder) for item in avoided),
            class_names=self.class_names,
            resolution=self.preprocessing.resolution,
            config=config,
            seed=self.seed,
            journal=self.journal,
            device=self.resources.device,
        )
        inputs = [generator, *(item for item in (judge, anchor) if item), *avoided]
        return sample_images(self.stages, job, slots, inputs, self.resources, self.seed)

    def diagnose(
        self,
        curricula: Sequence[Artifact],
        discriminators: Sequence[Artifact],
        reference: Artifact,
        config: DiagnoseConfig,
    ) -> Artifact:
        """Redundancy and validity; see :func:`raydd.engine.diagnose.diagnose_images`."""
        job = self.new_job(config.model, config.recipe, "diagnose", ("diagnose",))
        return diagnose_images(
            self.stages,
            job,
            curricula,
            discriminators,
            reference,
            config,
            self.resources,
            self.seed,
        )

    def _start(self, config: GeneratorConfig, title: str, seed: int) -> Artifact:
        """A generator as it is found, or fresh."""
        resolution = self.preprocessing.resolution

        def make() -> Generator:
            if config.is_trained:
                return fresh_generator(config, self.class_names, resolution, seed)
            return adopt_generator(config, self.class_names, resolution)

        def work(folder: UPath) -> dict[str, Any]:
            save_generator(folder, make())
            return _describe(folder)

        parts = ["path", "revision", "vae", "licence"]
        parts += ["layers", "heads", "width", "patch"] if config.is_trained else []
        return self.stages.run(
            "generator",
            work,
            inputs=_content_keys(config),
            config={
                **{name: getattr(config, name) for name in parts},
                "classes": self.class_names,
                "resolution": resolution,
            },
            seed=seed,
            title=title,
        )

    def _fit(self, name: str, start: Artifact, recipe: GeneratorRecipe) -> Artifact:
        if self.resources.num_workers and recipe.batch_size % self.resources.num_workers:
            raise Refused(
                f"a batch of {recipe.batch_size} images cannot be shared by "
                f"{self.resources.num_workers} workers alike; choose a multiple."
            )
        side = self.preprocessing.resolution
        stored = replace(self.preprocessing, resize=side)  # the whole shorter side is seen
        count = int(self.class_counts().sum())
        real = place_images(self.stages, self.train_source, stored, count, self.data)
        job = GeneratorJob(
            folder="",
            start=str(start.folder),
            feed=Feed(real.folders, side, count, recipe.batch_size, (self.seed, name)),
            recipe=recipe,
            flip=self.flip,
            stage=name,
            journal=self.journal,
            device=self.resources.device,
        )

        equal = replace(self.resources, elastic=None)  # every worker must have as many images

        def work(folder: UPath) -> dict[str, Any]:
            arguments = {"job": replace(job, folder=str(folder))}
            outcome = fit(generator_worker, arguments, equal, folder, real.datasets)
            return {**_describe(folder), **outcome}

        return self.stages.run(
            name,
            work,
            inputs=[start, real.origin],
            config={**recipe.key(), "flip": self.flip},
            seed=self.seed,
            title="training",
        )


def _describe(folder: UPath) -> dict[str, Any]:
    card = load_generator_card(folder)
    return {"name": card.name, "licence": card.licence, "resolution": card.resolution}


def _content_keys(config: GeneratorConfig) -> list[str]:
    """Hashes of the files of folders: other weights under the same path are another generator.

    Weights of the hub are known by name and revision.
    """
    folders = [UPath(path) for path in (config.path, config.vae) if path and UPath(path).is_dir()]
    files = [file for folder in folders for file in sorted(folder.rglob("*"), key=str)]
    return [str(hash_file(file)["sha256"]) for file in files if file.is_file()]
