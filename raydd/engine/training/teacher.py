"""Stage ``squeeze``: a teacher, trained on the real set or taken from where it already is."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import safetensors.torch
import torch
from torch import nn
from upath import UPath

from raydd.cluster.connect import Resources
from raydd.data.classes import check_class_order
from raydd.data.distilled import hash_file
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source
from raydd.engine.passes.decode import place_images
from raydd.engine.passes.stream import DataConfig
from raydd.engine.training.job import TrainJob
from raydd.engine.training.stage import train_stage
from raydd.errors import Refused
from raydd.models.registry import ModelConfig, create_model
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Artifact, Stages
from raydd.store.checkpoint import CARD, WEIGHTS, CheckpointCard, load_checkpoint, save_checkpoint


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
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    recipe: Recipe = field(default_factory=Recipe)
    checkpoint: str | None = None
    min_top1: float | None = None

    @property
    def is_trained(self) -> bool:
        """Whether the real set must be read to make this teacher."""
        return self.checkpoint is None and not self.model.pretrained


def train_teacher(
    stages: Stages,
    source: Source,
    job: TrainJob,
    preprocessing: Preprocessing,
    count: int,
    data: DataConfig,
    resources: Resources,
    seed: int,
    title: str,
) -> Artifact:
    """Train a teacher on the real set: from memory where the set fits, streamed where it does not.

    Without mixing, the checkpoint folder also tells how often every image was forgotten.

    Args:
        stages: where the checkpoint is kept.
        source: the real training images.
        job: the training; its images are filled in here.
        preprocessing: of the stored images, before the recipe crops them.
        count: images in the source.
        data: memory limit, and how images are read.
        resources: workers and devices.
        seed: run seed.
        title: what the progress line says.
    """
    real = place_images(stages, source, preprocessing, count, data)
    # a mixed view has no class of its own to be right about
    counted = job.recipe.mix == "none"
    job = replace(job, images=real.folders, num_images=count, count_forgetting=counted)
    return train_stage(stages, "squeeze", job, [real.origin], resources, seed, title, real.datasets)


def adopt_stage(
    stages: Stages,
    config: TeacherConfig,
    class_names: tuple[str, ...],
    preprocessing: Preprocessing,
) -> Artifact:
    """Stage around :func:`adopt_teacher`; every seed shares it."""
    return stages.run(
        "squeeze",
        lambda folder: adopt_teacher(folder, config, class_names, preprocessing),
        inputs=[_content_key(config.checkpoint)] if config.checkpoint else [],
        config={**asdict(config), "classes": class_names},
        seed=0,
        title="teacher",
    )


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
    if config.checkpoint is None:
        network = create_model(config.model, len(class_names), preprocessing.resolution)
        card = CheckpointCard(
            config.model, class_names, _public_preprocessing(network, preprocessing)
        )
    elif (UPath(config.checkpoint) / CARD).exists():
        network, card = load_checkpoint(UPath(config.checkpoint))
        try:
            check_class_order(class_names, card.class_names, "the teacher checkpoint")
        except ValueError as error:
            raise Refused(str(error)) from error
    else:
        network = create_model(config.model, len(class_names), preprocessing.resolution)
        _load_weights(network, UPath(config.checkpoint))
        card = CheckpointCard(config.model, class_names, preprocessing)
    save_checkpoint(folder, network, card)
    return {"model": card.model.name, "top1": card.top1}


def check_floor(config: TeacherConfig, top1: float, num_classes: int) -> None:
    """Refuse a teacher that is right on too few of the real training images.

    Args:
        config: its ``min_top1``.
        top1: accuracy on the real training images, [0, 1].
        num_classes: C; three times chance is the floor where the user names none.
    """
    floor = 3 / num_classes if config.min_top1 is None else config.min_top1
    if top1 < min(floor, 0.5):
        raise Refused(
            f"the teacher is right on {top1:.1%} of the real training images, less than "
            f"teacher.min_top1={floor:.3g}; its class order or preprocessing most likely differs "
            "from the data set's."
        )


def _public_preprocessing(network: nn.Module, default: Preprocessing) -> Preprocessing:
    """Timm networks know the constants they were trained with; sizes stay the source's."""
    public = getattr(network, "pretrained_cfg", None)
    if not public or "mean" not in public:
        return default
    return Preprocessing(
        default.resolution, default.resize, tuple(public["mean"]), tuple(public["std"])
    )


def _load_weights(network: nn.Module, path: UPath) -> None:
    if not path.exists():
        raise Refused(f"teacher.checkpoint={path} does not exist.")
    state: Any  # a file may hold anything
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load(path.read_bytes())
        else:
            with path.open("rb") as file:
                state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise Refused(
            f"teacher.checkpoint={path} is not a plain weight file (weights_only load failed: "
            f"{str(error).splitlines()[0]}); save the network's state_dict and try again."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise Refused(
            f"teacher.checkpoint={path} does not fit teacher.model.name: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
