"""ACS: sample images curriculum by curriculum, steered against what a discriminator knows.

Source: Zou, Chen, Chen, Zhang, arXiv 2508.01264; its body is not public, so that everything but
the outer loop is a reconstruction, each choice a key: ``acs.md`` beside this file lists them. The
generator is a diffusion transformer (arXiv 2212.09748), optionally fine-tuned after Minimax
Diffusion (arXiv 2311.15529). Presets: ``dit`` (unguided sampling), ``minimax`` (the same from the
fine-tuned generator).
"""

from dataclasses import dataclass, field, replace

from raydd.engine.generator.config import GeneratorConfig, MinimaxConfig
from raydd.engine.product import Curriculum, Product, slot_ranges
from raydd.engine.sampling.config import SampleConfig
from raydd.engine.vocabulary import Engine, generator, sample, score_teacher, squeeze, train, tune
from raydd.judge.diagnose import DiagnoseConfig, diagnose
from raydd.models.registry import ModelConfig
from raydd.ops.configs import check_at_least_one
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Artifact


@dataclass
class DiscriminatorConfig:
    """The class classifier that later curricula are sampled against.

    Attributes:
        model: architecture.
        recipe: how the first one is trained on everything sampled so far, with hard labels.
        warm_start: continue from the previous curriculum's discriminator.
        warm_epochs: epochs of a warm-started one.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    recipe: Recipe = field(default_factory=Recipe)
    warm_start: bool = True
    warm_epochs: int = 100


@dataclass
class AcsConfig:
    """Knobs of the driver.

    Attributes:
        name: label of the preset in run names and reports.
        ipc: images per class.
        per_curriculum: b, images per class and curriculum; the last one may have fewer.
        generator: the diffusion model.
        tuning: Minimax fine-tuning of the generator; null samples from it as it is.
        sampling: constants of the sampler and of its guidance.
        discriminator: the adversary.
        diagnosis: what is measured of the curricula, for the report; null measures nothing.
    """

    name: str = "acs"
    ipc: int = 10
    per_curriculum: int = 5
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    tuning: MinimaxConfig | None = None
    sampling: SampleConfig = field(default_factory=SampleConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    diagnosis: DiagnoseConfig | None = field(default_factory=DiagnoseConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_at_least_one(self, "ipc", "per_curriculum")

    def real_ipc(self) -> int:
        """Real images that every class must have: it starts from none."""
        return 0


def distil(engine: Engine, config: AcsConfig) -> Product:
    """Run the method; steps are numbered as in ``acs.md``."""
    teacher = squeeze(engine)  # f_ref: it anchors the guidance and judges validity
    engine = engine.seen_by(teacher)
    made = generator(engine, config.generator)
    if config.tuning:
        made = tune(engine, made, config.tuning)
    product = Product(teacher, score_teacher(engine, teacher), generator=made)
    discriminators: list[Artifact] = []
    boundaries = range(config.per_curriculum, config.ipc, config.per_curriculum)
    curricula = slot_ranges(config.ipc, boundaries)
    for curriculum, slots in enumerate(curricula):
        adversary = discriminators[-1] if discriminators else None  # none yet: step 1
        images = sample(
            engine, made, adversary, teacher, config.sampling, slots, curriculum, product.images
        )
        product.curricula.append(Curriculum(images))
        asked = config.sampling.adversary.scale > 0 or config.diagnosis
        if asked and curriculum + 1 < len(curricula):  # step 2
            discriminators.append(train_discriminator(engine, config, product, adversary))
    if config.diagnosis:
        product.diagnosis = diagnose(
            engine, product.images, discriminators, teacher, config.diagnosis
        )
    return product


def train_discriminator(
    engine: Engine, config: AcsConfig, product: Product, previous: Artifact | None
) -> Artifact:
    """Train D_k on the hard labels of everything sampled so far."""
    adversary = config.discriminator
    warm = previous if adversary.warm_start else None
    recipe = replace(adversary.recipe, epochs=adversary.warm_epochs) if warm else adversary.recipe
    title = f"discriminator {len(product.curricula)}"
    return train(engine, product.images, None, adversary.model, recipe, warm, title)
