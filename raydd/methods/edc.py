"""EDC: match the statistics of many observers, softly by class; labels of their ensemble.

Source: Shao et al., arXiv 2404.13733. Presets of this driver: ``gvbsm`` (arXiv 2311.17950: the
whole set's statistics alone, noise start) and ``rded`` (arXiv 2312.03526: the start images are the
product, nothing is optimised). Deviations from the papers and the official code, and our numbers:
``edc.md`` beside this file.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from raydd.engine.passes.statistics_batches import StatisticsConfig
from raydd.engine.product import Curriculum, Product
from raydd.engine.selection.difficulty import DifficultyConfig, easiest_first
from raydd.engine.selection.ranking import ANY, START_ORDERS
from raydd.engine.synthesis.observers import MatchConfig
from raydd.engine.synthesis.tiles import CropConfig
from raydd.engine.vocabulary import (
    Engine,
    class_counts,
    crop,
    ensemble,
    match,
    measure,
    observe,
    score_teacher,
    select,
    stored_images,
)
from raydd.models.registry import ModelConfig
from raydd.ops.configs import check_at_least_one, check_choices, later
from raydd.store.artifacts import Artifact

SUREST = easiest_first(replace(ANY, ladder=("surest",)), DifficultyConfig(by="logit"), static=1)


@dataclass
class EdcConfig:
    """Knobs of the driver.

    Attributes:
        name: label of the preset in run names and reports.
        ipc: images per class.
        observers: networks that are asked, each trained by the teacher's recipe; empty for the
            teacher's architecture alone.
        labelers: positions of the observers whose mean logits are the soft labels; empty for all.
        statistics: what is measured on the real images.
        crops: how start images are made where ``synthesis.start`` is "rded".
        synthesis: constants of the recover loop; null leaves the start images as they are (RDED).
        order: of real start images: "random" (the paper), or "simple", those first whose class the
            labelers are surest of.
    """

    name: str = "edc"
    ipc: int = 10
    observers: list[ModelConfig] = field(default_factory=list)
    labelers: list[int] = field(default_factory=list)
    statistics: StatisticsConfig = field(default_factory=StatisticsConfig)
    crops: CropConfig = field(default_factory=CropConfig)
    synthesis: MatchConfig | None = field(default_factory=MatchConfig)
    order: str = later("random")

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_at_least_one(self, "ipc")
        check_choices(self, {"order": START_ORDERS})
        if self.order != "random" and not self.starts_real:
            raise ValueError(
                f"order={self.order} is of real start images: set synthesis.start=real"
            )
        count = max(1, len(self.observers))
        wrong = [position for position in self.labelers if not 0 <= position < count]
        if wrong:
            raise ValueError(
                f"method.labelers={list(self.labelers)} must name observers by position, 0 to "
                f"{count - 1}."
            )

    @property
    def starts_real(self) -> bool:
        """Whether whole real images are what is optimised."""
        return self.synthesis is not None and self.synthesis.start == "real"

    def real_ipc(self) -> int:
        """Real images that every class must have; the pool of tiles is looked at when it is cut."""
        return self.ipc if self.starts_real else 0


def distil(engine: Engine, config: EdcConfig) -> Product:
    """Run the method; steps are numbered as in the paper's algorithm."""
    observers = observe(engine, config.observers or [engine.teacher.model])  # S0
    engine = engine.seen_by(observers[0])
    labelers = [observers[position] for position in config.labelers] or observers
    teacher = ensemble(engine, labelers)  # S4: the labels are asked online, or stored by the run
    scores = score_teacher(engine, teacher)
    product, synthesis = Product(teacher, scores), config.synthesis
    if synthesis is None:  # RDED
        tiles = crop_tiles(engine, config, teacher, scores)
        product.curricula.append(Curriculum(tiles))
        return product
    start = chosen = None  # S2
    if synthesis.start == "real":
        ranking = ANY if config.order == "random" else SUREST
        start = chosen = select(engine, [scores], ranking, config.ipc)
    elif synthesis.start == "rded":
        start = crop_tiles(engine, config, teacher, scores)
    stored = stored_images(engine, engine.preprocessing)
    statistics = measure(engine, observers, stored, config.statistics)  # S1
    patch = config.statistics.patch
    # S3
    images = match(engine, start, observers, statistics, patch, synthesis, config.ipc)
    product.curricula.append(Curriculum(images, chosen))
    return product


def crop_tiles(engine: Engine, config: EdcConfig, teacher: Artifact, scores: Artifact) -> Artifact:
    """RDED's images: the crops of a random pool that the teacher is surest of."""
    pool = np.fmin(class_counts(engine), config.crops.pool).astype(int).tolist()
    smaller = replace(ANY, shortfall="rollover")  # broken images leave a class with fewer
    chosen = select(engine, [scores], smaller, pool, draw="pool")
    return crop(engine, chosen, teacher, config.crops, config.ipc)
