"""Plans of the stages around a diffusion model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from raydd.engine.diagnose import DiagnoseConfig, count_trainings, count_units
from raydd.engine.generator.config import GeneratorConfig, GeneratorRecipe, MinimaxConfig
from raydd.engine.sampling.config import SampleConfig
from raydd.plan.base import BACKWARD, PlanBase, count_images, planned_models
from raydd.plan.generator_sizes import GeneratorSizes, TransformerTrial, generator_sizes
from raydd.plan.work import Work
from raydd.store.artifacts import Artifact
from raydd.store.units import plan_units


@dataclass
class GeneratorPlans(PlanBase):
    """See :class:`raydd.engine.generator_stages.GeneratorStages`."""

    def generator(self, config: GeneratorConfig) -> Artifact:
        """Note the adoption of a generator, or its training."""
        num_classes, side = len(self.class_names), self.preprocessing.resolution
        sizes = generator_sizes(config, num_classes, side)
        if config.is_trained:
            self._plan_fit("generator training", config, sizes, config.recipe)
        else:
            self.note("generator adopted", 1, sizes.weights, sizes.weights, sizes.weights)
        return self.placeholder("generator", sizes=asdict(sizes), config=config)

    def tune(self, generator: Artifact, config: MinimaxConfig) -> Artifact:
        """Note the fine-tuning, without the memories of its classes."""
        sizes = GeneratorSizes(**generator.summary["sizes"])
        made = generator.summary["config"]
        self._plan_fit("tune training", made, sizes, config)
        return self.placeholder("tune", sizes=asdict(sizes), config=made)

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
        """Note one curriculum's units.

        A batch is asked twice for guidance by class; where the energy's gradient passes through
        the transformer, its activations get gradients. In the window every estimate is decoded and
        judged, with gradients to the latents.
        """
        num_classes, side = len(self.class_names), self.preprocessing.resolution
        units = plan_units(num_classes, slots, config.batch_size, None)
        sizes = GeneratorSizes(**generator.summary["sizes"])
        guided = discriminator is not None and config.adversary.scale > 0
        judges = sum(item is not None for item in (discriminator, reference)) if guided else 0
        teacher = self.teacher.model
        full = guided and config.adversary.gradient == "full"
        asked = config.batch_size * (1 if config.guidance_scale == 1 else 2)
        memory = sizes.weights + asked * sizes.activations * (2 if full else 1)
        memory += judges * self.weights(teacher)
        memory += 2 * judges * config.decode_batch * self.activations(teacher)
        count = num_classes * len(slots)
        low, high = config.adversary.window
        guided_steps = (high - low) if guided else 0
        doubled = asked // config.batch_size
        steered = BACKWARD * (sizes.decoder + judges * self.forward_flops(teacher))
        flops = sizes.flops * doubled * (1 + (guided_steps if full else 0))  # frozen weights
        flops += guided_steps * steered + sizes.decoder / config.steps
        trial = self._trial(generator.summary["config"], sizes)
        batch = max(len(unit.labels) for unit in units)
        work = [Work(trial, config.steps * count / batch, batch, flops)]
        row = (f"sample curriculum {curriculum + 1}", len(units), 0, count * side * side * 3)
        self.note(*row, memory, work, divides="units")
        return self.placeholder("sample", curriculum, counts=[len(slots)] * num_classes)

    def diagnose(
        self,
        curricula: Sequence[Artifact],
        discriminators: Sequence[Artifact],
        reference: Artifact,
        config: DiagnoseConfig,
    ) -> Artifact:
        """Note the trainings and the networks that are tried."""
        trained = count_trainings(len(curricula))
        units = count_units(len(curricula), len(discriminators))
        images = count_images(curricula)
        reads = (trained + 2) * images * self.preprocessing.resolution**2 * 3
        writes = trained * self.weights(config.model)
        memory = self.training_memory(config.model, config.recipe)
        model, recipe, asks = config.model, config.recipe, planned_models(reference)
        work = [
            *(
                work
                for item in curricula[:trained]
                for work in self.training_work(model, recipe, count_images([item]), tested=False)
            ),
            *self.asking_work([model], (trained + 1) * images, config.batch, "float32"),
            *self.asking_work(asks, images, config.batch, "float32"),
        ]
        title = f"diagnose {len(curricula)} curricula"
        self.note(title, units, reads, writes, memory, work, divides="tasks")
        return self.placeholder("diagnose")

    def _plan_fit(
        self, title: str, config: GeneratorConfig, sizes: GeneratorSizes, recipe: GeneratorRecipe
    ) -> None:
        views = recipe.steps * recipe.batch_size
        streamed = self.num_images * self.preprocessing.resolution**2 * 3
        decodes = views if streamed > self.data.memory_limit_mb << 20 else 0
        memory = 5 * sizes.weights + 2 * recipe.batch_size * sizes.activations  # with the average
        flops = (1 + BACKWARD) * sizes.flops + sizes.encoder
        work = [Work(self._trial(config, sizes), recipe.steps, recipe.batch_size, flops)]
        row = (title, recipe.steps, self.encoded_bytes(views), sizes.weights, memory)
        self.note(*row, work, decodes=decodes, divides="batch")

    def _trial(self, config: GeneratorConfig, sizes: GeneratorSizes) -> TransformerTrial:
        num_classes, side = len(self.class_names), self.preprocessing.resolution
        return TransformerTrial(config, num_classes, side, sizes.flops)
