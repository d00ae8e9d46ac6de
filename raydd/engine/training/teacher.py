"""Stages ``squeeze`` and ``ensemble``: networks that know the real images.

A teacher is trained on the real set or taken from where it already is; so is every observer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from upath import UPath

from raydd.data.classes import check_class_order
from raydd.data.distilled import hash_file
from raydd.data.preprocessing import Preprocessing
from raydd.engine.cost import Cost, sizes, weights
from raydd.engine.engine import Engine
from raydd.engine.passes.decode import decode_test, place_images
from raydd.engine.training.stage import new_job, train_stage, training_cost
from raydd.errors import Refused
from raydd.models.registry import ModelConfig, create_meta_model, create_model
from raydd.ops.configs import later, settled
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import (
    CARD,
    WEIGHTS,
    CheckpointCard,
    join_checkpoints,
    load_card,
    load_checkpoint,
    save_checkpoint,
)
from raydd.store.weights import load_weights


@dataclass
class TeacherConfig:
    """Which network teaches, and how it is made.

    Attributes:
        model: architecture; ``pretrained=true`` takes public weights instead of training.
        recipe: how it is trained on the real set, with hard labels.
        checkpoint: a checkpoint folder of raydd, or a .safetensors / .pt file with weights of
            ``model``; null trains (or takes public weights).
        min_top1: least accuracy on the real training images, [0, 1]; null is three times chance.
            A teacher below it most likely has another class order.
        exchanged_classes: go on with a teacher that nearly always takes some classes for one
            another.
        seed: of its training; null is the run's. Runs that differ in their seed share a teacher
            then, and the images alone differ.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    recipe: Recipe = field(default_factory=Recipe)
    checkpoint: str | None = None
    min_top1: float | None = None
    exchanged_classes: bool = False
    seed: int | None = later(None)

    @property
    def is_trained(self) -> bool:
        """Whether the real set must be read to make this teacher."""
        return self.checkpoint is None and not self.model.pretrained


def squeeze(engine: Engine) -> Artifact:
    """The teacher: trained on the real set, public weights, or a checkpoint of the user's.

    Images and networks that follow it are made by ``engine.seen_by(teacher)``.
    """
    return make_teacher(engine, engine.teacher, "teacher")


def observe(engine: Engine, models: Sequence[ModelConfig]) -> list[Artifact]:
    """Observers: each made as the teacher would be, but with an architecture of its own."""
    configs = [replace(engine.teacher, model=model, checkpoint=None) for model in models]
    observers = [make_teacher(engine, c, f"observer {c.model.name}") for c in configs]
    if len({engine.card(observer).preprocessing for observer in observers}) > 1:
        raise Refused(
            "the observers were trained with different preprocessing, but all look at the same "
            "images; leave out those with public weights of another kind."
        )
    return observers


def ensemble(engine: Engine, members: Sequence[Artifact]) -> Artifact:
    """One checkpoint whose logits are the mean of the members'."""
    if len(members) == 1:
        return members[0]

    def work(folder: UPath) -> dict[str, Any]:
        return {"model": join_checkpoints(folder, [item.folder for item in members]).name}

    def expected() -> dict[str, Any]:
        cards = [engine.card(item) for item in members]
        others = tuple(card.model for card in cards[1:])
        return {"card": replace(cards[0], top1=None, others=others).to_json()}

    def cost() -> Cost:
        size = sum(weights(engine, item) for item in members)
        return Cost(size, size, size)

    return engine.stages.run(
        "ensemble",
        work,
        inputs=members,
        config=None,
        seed=0,
        cost=cost,
        expected=expected,
        title=f"{len(members)} observers",
    )


def make_teacher(engine: Engine, config: TeacherConfig, title: str, run: int = 0) -> Artifact:
    """Stage ``squeeze``: train a network on the real set, or take it from where it already is.

    The real set is read from memory where it fits, streamed where it does not. Without mixing, the
    checkpoint folder also tells how often every image was forgotten, and its mean margin.

    Args:
        engine: of the run.
        config: what is made.
        title: what the progress line says.
        run: number of a repeated training; another draws otherwise.
    """
    if not config.is_trained:
        return _adopt(engine, config)
    if config.seed is not None:
        engine = replace(engine, seed=config.seed)
    side = engine.preprocessing.resize
    real = place_images(engine, replace(engine.preprocessing, resolution=side))
    job = new_job(
        engine, config.model, config.recipe, "squeeze", ("squeeze", run) if run else ("squeeze",)
    )
    job = replace(
        job,
        resolution=side,
        test=str(decode_test(engine).folder),
        images=real.folders,
        num_images=real.count,
        # a mixed view has no class of its own to be right about
        notes_dynamics=config.recipe.mix == "none",
        about={"title": title},
    )

    def cost() -> Cost:
        looked = real.cost(engine, side, config.recipe.last_epoch)
        made = training_cost(engine, config.model, config.recipe, real.count, side)
        return replace(made, reads=looked.reads, decodes=looked.decodes)

    return train_stage(engine, job, [real.origin], title, cost, real.stream)


def _adopt(engine: Engine, config: TeacherConfig) -> Artifact:
    """Stage around :func:`adopt_teacher`; every seed shares it."""
    names, preprocessing = engine.class_names, engine.preprocessing

    def cost() -> Cost:
        card = adopted_card(config, names, preprocessing)
        size = sum(sizes(engine, model).weights for model in (card.model, *card.others))
        return Cost(size, size, size)

    return engine.stages.run(
        "squeeze",
        lambda folder: adopt_teacher(folder, config, names, preprocessing),
        inputs=[_content_key(config.checkpoint)] if config.checkpoint else [],
        config={**_made_by(config), "classes": names},
        seed=0,
        cost=cost,
        expected=lambda: {"card": adopted_card(config, names, preprocessing).to_json()},
        title="teacher",
    )


def _made_by(config: TeacherConfig) -> dict[str, Any]:
    """What decides an adopted teacher, as json values."""
    left_out = ("exchanged_classes", "seed")  # neither decides what is adopted
    return {name: value for name, value in settled(config).items() if name not in left_out}


def _content_key(checkpoint: str) -> str:
    """Hash of a checkpoint's weights: other weights under the same path are another teacher."""
    path = UPath(checkpoint)
    weights = path / WEIGHTS if (path / CARD).exists() else path
    if not weights.is_file():
        raise Refused(f"teacher.checkpoint={checkpoint} is neither a checkpoint folder nor a file.")
    return str(hash_file(weights)["sha256"])


def adopt_teacher(
    folder: UPath, config: TeacherConfig, class_names: tuple[str, ...], preprocessing: Preprocessing
) -> dict[str, Any]:
    """Copy a teacher that exists into a stage folder, with its card.

    Args:
        folder: stage folder.
        config: names public weights or a checkpoint.
        class_names: of the source; a checkpoint folder with others is refused.
        preprocessing: for weights that bring none.
    Returns:
        Summary with the architecture's name.
    Raises:
        Refused: the file is no plain weight file, does not fit the architecture, or has another
            class order.
    """
    card = adopted_card(config, class_names, preprocessing)
    try:
        check_class_order(class_names, card.class_names, "the teacher checkpoint")
    except ValueError as error:
        raise Refused(str(error)) from error
    if config.checkpoint and (UPath(config.checkpoint) / CARD).exists():
        network, _ = load_checkpoint(UPath(config.checkpoint))
    else:
        network = create_model(config.model, len(class_names), preprocessing.resolution)
        if config.checkpoint:
            what = f"teacher.checkpoint={config.checkpoint}"
            load_weights(network, UPath(config.checkpoint), what)
    save_checkpoint(folder, network, card)
    return {"model": card.model.name, "top1": card.top1}


def adopted_card(
    config: TeacherConfig, class_names: tuple[str, ...], preprocessing: Preprocessing
) -> CheckpointCard:
    """What a teacher that exists says about itself, without its weights; arguments as above."""
    if config.checkpoint and (UPath(config.checkpoint) / CARD).exists():
        return load_card(UPath(config.checkpoint))
    if config.checkpoint is None:
        network = create_meta_model(config.model, len(class_names), preprocessing.resolution)
        preprocessing = _public_preprocessing(network, preprocessing)
    return CheckpointCard(config.model, class_names, preprocessing)


def _public_preprocessing(network: nn.Module, default: Preprocessing) -> Preprocessing:
    """Timm networks know the constants they were trained with; sizes stay the source's."""
    public = getattr(network, "pretrained_cfg", None)
    if not public or "mean" not in public:
        return default
    return Preprocessing(
        default.resolution, default.resize, tuple(public["mean"]), tuple(public["std"])
    )
