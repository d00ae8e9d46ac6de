"""CCFS: keep a small distilled core, then add real images coarse to fine, curriculum by curriculum.

Source: Chen et al., CVPR 2025, arXiv 2503.18872. Presets of this driver: ``random`` (no core, no
filter); ``forgetting``, ``aum`` and ``el2n`` (easiest or hardest images first) and ``ccs`` (strata
of difficulty) likewise. Deviations from the papers and the official code, and our numbers:
``ccfs.md`` beside this file.
"""

from dataclasses import dataclass, field

import numpy as np

from raydd.engine.product import Curriculum, Product, arrangement
from raydd.engine.selection.coarse_to_fine import SelectionConfig, ranking
from raydd.engine.selection.difficulty import check_difficulty, difficulty
from raydd.engine.selection.filter import FilterConfig
from raydd.engine.selection.select import check_supply
from raydd.engine.synthesis.teacher import SynthesisConfig
from raydd.engine.vocabulary import (
    Engine,
    adopt_core,
    fetch,
    score,
    score_teacher,
    select,
    squeeze,
    synthesize,
    train,
)


@dataclass
class CcfsConfig(SelectionConfig):
    """Knobs of the driver; those of its selections are a :class:`SelectionConfig`'s.

    Attributes:
        name: label of the preset in run names and reports.
        ipc: images per class, distilled and real.
        alpha: distilled fraction of them, [0, 1], rounded down to whole images per class.
        curricula: J, rounds of selection.
        core: folder of a distilled set whose first slots are the core; null synthesises it.
        synthesis: constants of a synthesised core.
        filter_model: network of the coarse stage.
    """

    name: str = "ccfs"
    ipc: int = 50
    alpha: float = 0.2
    curricula: int = 3
    core: str | None = None
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    filter_model: FilterConfig = field(default_factory=FilterConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        super().__post_init__()
        if self.ipc < 1 or self.curricula < 1 or not 0 <= self.alpha <= 1:
            raise ValueError("ipc and curricula must be at least 1, and alpha within [0, 1]")
        if self.coarse != "off" and not arrangement(self.ipc, self.alpha, self.curricula)[0]:
            raise ValueError(
                f"alpha={self.alpha} of ipc={self.ipc} is no distilled image, and the first filter "
                "needs some: raise alpha or set coarse=off"
            )

    def real_ipc(self) -> int:
        """Real images that every class must have."""
        real = sum(arrangement(self.ipc, self.alpha, self.curricula)[1])
        return real if self.shortfall == "error" and self.balanced else 0


def distil(engine: Engine, config: CcfsConfig) -> Product:
    """Run the method; steps are numbered as in the paper's algorithm."""
    if config.fine != "random":
        check_difficulty(engine, config.difficulty)
    core_ipc, real_ipc = arrangement(config.ipc, config.alpha, config.curricula)  # step 2
    core = adopt_core(engine, config.core, core_ipc) if config.core and core_ipc else None
    teacher = squeeze(engine)
    engine = engine.seen_by(teacher)
    product = Product(teacher, score_teacher(engine, teacher))  # step 3
    if config.teacher_correct == "on":
        check_supply(engine, product.scores, config.real_ipc())
    tables = [product.scores, *difficulty(engine, config.difficulty, product.scores)]
    if core_ipc:  # step 1
        core = core or synthesize(engine, None, teacher, None, config.synthesis, range(core_ipc), 0)
        product.curricula.append(Curriculum(core))
    owed, nominal = np.zeros(len(engine.class_names), int), core_ipc
    for number, ipc in enumerate(filter(None, real_ipc), 1):
        network, scores = None, None
        if config.coarse != "off":
            recipe = config.filter_model.recipe_for(nominal)
            model, title = config.filter_model.model, f"filter {number}"
            network = train(engine, product.images, teacher, model, recipe, title=title)  # step 4a
            scores = score(engine, network, title)  # step 4b
        asked, answers = ipc + owed, [*tables, *([scores] if scores else [])]
        order = ranking(config, len(tables))
        # step 4c
        chosen = select(engine, answers, order, asked.tolist(), product.starts, number, "real")
        owed = asked - chosen.summary["chosen"] if config.shortfall == "rollover" else owed
        images = fetch(engine, chosen, product.images, number, f"real {number}")  # step 4d
        product.curricula.append(Curriculum(images, chosen, config.difficulty.by, network, scores))
        nominal += ipc
    return product
