"""CUDD: synthesise images curriculum by curriculum, adversarial to the current student.

Source: Ma, Cao et al., arXiv 2405.09150; the recover loop is SRe2L's (arXiv 2306.13092). Presets
of this driver: ``sre2l`` and ``cda`` (arXiv 2311.18838): one curriculum, noise start, no student;
``curricular_easy``: of each rung the easiest images first.
Deviations from the paper and the official code, and our numbers: ``curricular.md`` beside this
file.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise

from raydd.engine.product import Curriculum, Product, slot_ranges
from raydd.engine.selection.difficulty import DifficultyConfig, check_difficulty, difficulty
from raydd.engine.selection.ladder import ladder
from raydd.engine.selection.ranking import START_ORDERS
from raydd.engine.synthesis.teacher import SynthesisConfig
from raydd.engine.vocabulary import Engine, score, score_teacher, select, squeeze, synthesize, train
from raydd.models.registry import ModelConfig
from raydd.ops.configs import LATER, check_at_least_one, check_choices, later
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Artifact


@dataclass
class StudentConfig:
    """The adversary of the later curricula.

    Attributes:
        model: architecture.
        recipe: how it is trained on everything distilled so far, with the teacher's soft labels.
        warm_start: continue from the previous curriculum's student instead of starting anew.
        warm_learning_rate: peak learning rate of a warm-started student.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    recipe: Recipe = field(default_factory=Recipe)
    warm_start: bool = True
    warm_learning_rate: float = 0.0005


def _margins() -> DifficultyConfig:
    return DifficultyConfig(by="aum")


@dataclass
class CurricularConfig:
    """Knobs of the driver.

    Attributes:
        name: label of the preset in run names and reports.
        ipc: images per class.
        boundaries: inner curriculum boundaries b_1 < ... < b_{J-1}, in slots; empty for one
            curriculum, null for two of equal length.
        synthesis: constants of the recover loop.
        student: the adversary.
        order: of the start images on a rung of the ladder: "random" (the paper), or "simple", the
            least difficult first.
        difficulty: of "simple"; its "logit" is the teacher's.
    """

    name: str = "curricular"
    ipc: int = 10
    boundaries: list[int] | None = None
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    order: str = later("random")
    difficulty: DifficultyConfig = field(default_factory=_margins, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_at_least_one(self, "ipc")
        check_choices(self, {"order": START_ORDERS})
        if self.easiest and self.synthesis.start == "noise":
            raise ValueError(f"order={self.order} orders real start images: start=noise has none")
        if not self.easiest and self.difficulty != _margins():
            raise ValueError("difficulty orders start images with order=simple alone")
        if any(low >= high for low, high in pairwise([0, *self.inner(), self.ipc])):
            raise ValueError(
                f"method.boundaries={self.inner()} must rise strictly between 0 and "
                f"method.ipc={self.ipc}."
            )

    @property
    def easiest(self) -> DifficultyConfig | None:
        """By what the start images are ordered; None where they are random."""
        return self.difficulty if self.order == "simple" else None

    def inner(self) -> list[int]:
        """The boundaries, derived from the images per class where none are given."""
        if self.boundaries is None:
            return [self.ipc // 2] if self.ipc > 1 else []
        return list(self.boundaries)

    def real_ipc(self) -> int:
        """Real images that every class must have."""
        return 0 if self.synthesis.start == "noise" else self.ipc


def distil(engine: Engine, config: CurricularConfig) -> Product:
    """Run the method; steps are numbered as in the paper's algorithm."""
    if easiest := config.easiest:
        check_difficulty(engine, easiest)
    teacher = squeeze(engine)
    engine = engine.seen_by(teacher)
    scores = score_teacher(engine, teacher)
    tables = [scores, *(difficulty(engine, easiest, scores) if easiest else [])]
    product = Product(teacher, scores)
    student: Artifact | None = None
    curricula = slot_ranges(config.ipc, config.inner())
    for curriculum, slots in enumerate(curricula):
        start = None
        if config.synthesis.start != "noise":  # step 2a: the ladder
            asked = [score(engine, student, f"student {curriculum}")] if student else []
            order, used = ladder(easiest, len(tables), bool(student)), product.starts
            start = select(engine, [*tables, *asked], order, len(slots), used, curriculum)
        # step 2b
        images = synthesize(engine, start, teacher, student, config.synthesis, slots, curriculum)
        product.curricula.append(Curriculum(images, start))  # step 2c
        if curriculum + 1 < len(curricula) and config.synthesis.adversarial_weight > 0:  # step 2d
            student = train_student(engine, config.student, product, student)
    return product


def train_student(
    engine: Engine, config: StudentConfig, product: Product, previous: Artifact | None
) -> Artifact:
    """Train the next curriculum's adversary on the union of all images so far."""
    warm = previous if config.warm_start else None
    rate = config.warm_learning_rate if warm else config.recipe.learning_rate
    title = f"student {len(product.curricula)}"
    recipe = replace(config.recipe, learning_rate=rate)
    return train(engine, product.images, product.teacher, config.model, recipe, warm, title)
