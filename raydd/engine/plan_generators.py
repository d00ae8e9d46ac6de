"""Plans of the stages around a diffusion model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from raydd.engine.diagnose import count_trainings, count_units
from raydd.engine.diagnose_config import DiagnoseConfig
from raydd.engine.generator_config import GeneratorConfig, GeneratorRecipe, MinimaxConfig
from raydd.engine.generator_plan import GeneratorSizes, generator_sizes
from raydd.engine.plan_base import PlanBase
from raydd.engine.sample_config import SampleConfig
from raydd.engine.stages import Artifact
from raydd.engine.units import plan_units

_BACKWARD = 2  # forward passes that a backward pass costs


@dataclass
class GeneratorPlans(PlanBase):
    """See :class:`raydd.engine.generator_stages.GeneratorStages`."""

    def generator(self, config: GeneratorConfig) -> Artifact:
        """Note the adoption of a generator, or its training."""
        num_classes, side = len(self.class_names), self.preprocessing.resolution
        sizes = generator_sizes(config, num_classes, side)
        if config.is_trained:
            self._plan_fit("generator training", sizes, config.recipe)
        else:
            self.note("generator adopted", 1, *[sizes.weights] * 3)
        return self.placeholder("generator", sizes=asdict(sizes))

    def tune(self, generator: Artifact, config: MinimaxConfig) -> Artifact:
        """Note the fine-tuning, without the memories of its classes."""
        sizes = GeneratorSizes(**generator.summary["sizes"])
        self._plan_fit("tune training", sizes, config)
        return self.placeholder("tune", sizes=asdict(sizes))

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
        the transformer, its activations get gradients. The rate leaves out decoder and judges.
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
        pixels = num_classes * len(slots) * side * side * 3
        low, high = config.adversary.window
        passes = 1 + _BACKWARD * (high - low) if full else 1  # mean over the steps
        rate = 1 / (asked * passes * sizes.seconds)
        self.note(f"sample curriculum {curriculum + 1}", len(units), 0, pixels, memory, rate)
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
        images = sum(sum(item.summary["counts"]) for item in curricula)
        reads = (trained + 2) * images * self.preprocessing.resolution**2 * 3
        writes = trained * self.weights(config.model)
        memory = self.training_memory(config.model, config.recipe)
        self.note(f"diagnose {len(curricula)} curricula", units, reads, writes, memory)
        return self.placeholder("diagnose")

    def _plan_fit(self, title: str, sizes: GeneratorSizes, recipe: GeneratorRecipe) -> None:
        reads = recipe.steps * recipe.batch_size * self.preprocessing.resolution**2 * 3
        memory = 5 * sizes.weights + 2 * recipe.batch_size * sizes.activations  # with the average
        rate = 1 / ((1 + _BACKWARD) * recipe.batch_size * sizes.seconds)
        self.note(title, recipe.steps, reads, sizes.weights, memory, rate)
