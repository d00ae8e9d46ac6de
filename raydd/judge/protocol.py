"""Stage ``evaluate``: fresh networks trained on an image set under a named protocol.

A unit is one training, (architecture, seed); each is one Ray task on one core or GPU and leaves
``outcome.json`` in a folder of its own. Random real images of the same size go through the same
function: that is the point of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from upath import UPath

from raydd.cluster.tasks import run_many
from raydd.engine.cost import Cost, count_images, sizes
from raydd.engine.engine import Engine
from raydd.engine.labels.data import LABELS
from raydd.engine.labels.relabel import relabel
from raydd.engine.passes.decode import decode_test
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import train_network
from raydd.engine.training.stage import new_job, training_memory, training_work
from raydd.engine.training.state import TRAINED, finished_outcome
from raydd.models.registry import ModelConfig
from raydd.ops.configs import check_at_least_one
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Artifact, Stage


@dataclass
class ProtocolConfig:
    """How a set of images is judged; printed with every result.

    Attributes:
        name: of the protocol.
        architectures: networks trained from scratch, the first is the headline.
        seeds: trainings per architecture and image set.
        labels: "soft" (the teacher's, in the form that ``labels.form`` names) or "hard".
        recipe: epochs, optimiser, views, loss.
        epochs_by_ipc: pairs of the most images per class and the epochs for so many, rising; above
            the last, and where it is empty, the recipe's epochs hold.
        many_classes: from so many classes on the epochs are multiplied by ``many_classes_factor``;
            0 is never.
        many_classes_factor: above 0.
    """

    name: str = "soft"
    architectures: list[ModelConfig] = field(default_factory=lambda: [ModelConfig()])
    seeds: int = 3
    labels: str = "soft"
    recipe: Recipe = field(default_factory=Recipe)
    epochs_by_ipc: list[list[int]] = field(default_factory=list)
    many_classes: int = 0
    many_classes_factor: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        pairs = self.epochs_by_ipc
        if any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
            raise ValueError(f"protocol.epochs_by_ipc takes pairs of counts from 1 on, got {pairs}")
        if any(left[0] >= right[0] for left, right in pairwise(pairs)):
            raise ValueError(f"protocol.epochs_by_ipc must rise, got {pairs}")
        if self.many_classes < 0 or self.many_classes_factor <= 0:
            raise ValueError("many_classes must be at least 0 and many_classes_factor above 0")
        if self.labels not in ("soft", "hard"):
            raise ValueError(f"protocol.labels must be soft or hard, got {self.labels!r}")
        check_at_least_one(self, "seeds")
        if not self.architectures:
            raise ValueError("protocol.architectures names no network: a protocol needs one")

    def resolve(self, counts: Sequence[int]) -> "ProtocolConfig":
        """The protocol for a set of that many images of each class: its recipe has the epochs."""
        ipc = sum(counts) / len(counts)
        fitting = [epochs for most, epochs in self.epochs_by_ipc if ipc <= most]
        epochs = fitting[0] if fitting else self.recipe.epochs
        if 0 < self.many_classes <= len(counts):
            epochs = max(1, int(self.many_classes_factor * epochs))
        recipe = replace(self.recipe, epochs=epochs)
        return replace(self, recipe=recipe, epochs_by_ipc=[], many_classes=0)


@dataclass(frozen=True)
class Judging:
    """Trainings on one image set that are asked for.

    Attributes:
        stage: what they are a stage of; its artifact has a folder per training, see
            :func:`unit_name`, and the ``results`` of its summary are one dict each: architecture,
            images (the title), seed, top1_last, top1_best, curve and seconds; accuracies in [0, 1].
        names: the first three of each.
        jobs: the trainings, in a folder.
    """

    stage: Stage
    names: Sequence[dict[str, Any]]
    jobs: Callable[[UPath], list[TrainJob]]


def ask_judges(
    engine: Engine,
    images: Sequence[Sequence[Artifact]],
    protocol: ProtocolConfig,
    teacher: Artifact | None,
    title: str,
    labels: Artifact | None = None,
    test: Artifact | None = None,
) -> Judging:
    """Ask for every architecture and every seed on image sets; makes the labels that they need.

    Args:
        engine: of the run.
        images: artifacts of each seed's set; a distilled set is the same for all of them.
        protocol: what is trained and how, see :meth:`ProtocolConfig.resolve`.
        teacher: gives soft labels; hard ones need none.
        title: of the image set, e.g. ``distilled`` or ``random``.
        labels: soft labels that the set brings; None makes them as the configuration says. All
            trainings on one set then share views and labels, and differ in their initialisation.
        test: images that are judged on; None is the test split.
    """
    teacher = teacher if protocol.labels == "soft" else None
    given: list[Artifact | None] = [labels] * protocol.seeds
    if teacher and not labels:
        given = [relabel(engine, i, teacher, protocol.recipe, title) for i in images]
    test = test or decode_test(engine)
    template = new_job(engine, protocol.architectures[0], protocol.recipe, "evaluate", ())
    asked = str(teacher.folder) if teacher else None
    template = replace(template, test=str(test.folder), teacher=asked)
    units = [(model, s) for model in protocol.architectures for s in range(protocol.seeds)]
    names = [{"architecture": _name(m), "images": title, "seed": s} for m, s in units]

    def jobs(folder: UPath) -> list[TrainJob]:
        return [
            _unit_job(template, folder, model, images[s], given[s], name)
            for (model, s), name in zip(units, names, strict=True)
        ]

    stage = Stage(
        "evaluate",
        inputs=[*(i for group in images for i in group), test, *filter(None, [teacher, *given])],
        config={
            "protocol": protocol,
            "flip": engine.flip,
            "preprocessing": engine.preprocessing.to_json(),
        },
        seed=engine.seed,
        cost=lambda: _cost(engine, images, protocol, teacher),
        expected=lambda: {"results": []},
        title=title,
        units=len(units),
        done=[TRAINED],
    )
    return Judging(stage, names, jobs)


def train_judges(engine: Engine, asked: Sequence[Judging]) -> list[Artifact]:
    """Train what was asked for, on all image sets in one queue: no device waits for a set to end.

    Args:
        engine: of the run.
        asked: image sets, in the order in which their trainings are started.
    Returns:
        The artifact of each; what a training comes to does not depend on the others.
    """
    known = {judging.stage.key: judging for judging in asked}

    def work(folders: Mapping[str, UPath]) -> dict[str, dict[str, Any]]:
        jobs = [job for key, folder in folders.items() for job in known[key].jobs(folder)]
        found = [finished_outcome(job.folder) for job in jobs]
        todo = (job for job, outcome in zip(jobs, found, strict=True) if outcome is None)
        made = iter(run_many(train_network, todo, engine.resources))
        done = iter([outcome or next(made) for outcome in found])
        return {
            key: {"results": [{**name, **next(done)} for name in known[key].names]}
            for key in folders
        }

    return engine.stages.run_together([judging.stage for judging in asked], work)


def unit_name(architecture: str, seed: int) -> str:
    """Folder of a training below its stage: state, checkpoint, ``outcome.json``."""
    return f"{architecture}-seed{seed}"


def _unit_job(
    template: TrainJob,
    folder: UPath,
    model: ModelConfig,
    images: Sequence[Artifact],
    labels: Artifact | None,
    about: dict[str, Any],
) -> TrainJob:
    """One training in a new folder of its own, which is named by architecture and seed."""
    own = folder / unit_name(about["architecture"], about["seed"])
    own.mkdir(parents=True, exist_ok=True)
    return replace(
        template,
        folder=str(own),
        model=model,
        images=tuple(str(item.folder) for item in images),
        teacher=None if labels else template.teacher,
        labels=str(labels.folder / LABELS) if labels else None,
        seed_parts=(*template.seed_parts, "evaluate", about["architecture"], about["seed"]),
        about=about,
    )


def _cost(
    engine: Engine,
    images: Sequence[Sequence[Artifact]],
    protocol: ProtocolConfig,
    teacher: Artifact | None,
) -> Cost:
    # stored labels bring what a teacher would say, seeded ones ask it in exact arithmetic
    asked = "exact" if engine.labels.form == "seeded" else "convnet"
    teacher = None if engine.labels.form == "stored" else teacher
    models, recipe, seeds = protocol.architectures, protocol.recipe, protocol.seeds
    trainings = [(model, count_images(group)) for model in models for group in images]
    return Cost(
        reads=len(models) * seeds * engine.num_tests * engine.pixel_bytes,
        writes=seeds * sum(sizes(engine, model).weights for model in models),
        memory=max(training_memory(engine, model, recipe) for model in models),
        work=[
            work
            for model, count in trainings
            for work in training_work(engine, model, recipe, count, None, teacher, asked)
        ],
        divides="tasks",
    )


def _name(model: ModelConfig) -> str:
    width = f"-w{model.width}" if model.width else ""
    norm = f"-{model.norm}" if model.norm != "batch" else ""
    return f"{model.name}{width}{norm}".replace("/", "-")
