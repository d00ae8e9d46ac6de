"""Stage ``evaluate``: fresh networks trained on an image set under a named protocol.

A unit is one training, (architecture, seed); each is one Ray task on one core or GPU and leaves
``outcome.json`` in a folder of its own. Random real images of the same size go through the same
function: that is the point of it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from upath import UPath

from raydd.cluster.connect import Resources
from raydd.cluster.tasks import run_many
from raydd.engine.labels.data import LABELS
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import train_network
from raydd.engine.training.state import OUTCOME
from raydd.models.registry import ModelConfig
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Artifact, Stages


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
        if self.seeds < 1 or not self.architectures:
            raise ValueError("a protocol needs at least one architecture and one seed")

    def resolve(self, counts: Sequence[int]) -> "ProtocolConfig":
        """The protocol for a set of that many images of each class: its recipe has the epochs."""
        ipc = sum(counts) / len(counts)
        fitting = [epochs for most, epochs in self.epochs_by_ipc if ipc <= most]
        epochs = fitting[0] if fitting else self.recipe.epochs
        if 0 < self.many_classes <= len(counts):
            epochs = max(1, int(self.many_classes_factor * epochs))
        recipe = replace(self.recipe, epochs=epochs)
        return replace(self, recipe=recipe, epochs_by_ipc=[], many_classes=0)


def evaluate_images(
    stages: Stages,
    images: Sequence[Sequence[Artifact]],
    labels: Sequence[Artifact | None],
    job: TrainJob,
    protocol: ProtocolConfig,
    test: Artifact,
    teacher: Artifact | None,
    resources: Resources,
    seed: int,
    title: str,
) -> Artifact:
    """Train every architecture with every seed and report the accuracies.

    Args:
        stages: where results are kept.
        images: image artifacts for each seed; a distilled set is the same for all of them.
        labels: seeded or stored labels for each seed, or None: the teacher is asked online. All
            trainings on one set share views and labels then, and differ in their initialisation.
        job: template with class names, preprocessing, flip, device and journal.
        protocol: what is trained and how, see :meth:`ProtocolConfig.resolve`.
        test: artifact of the decoded test split.
        teacher: artifact that gives soft labels online; hard labels need none.
        resources: how many trainings run at once, and where.
        seed: run seed.
        title: ``distilled`` or ``random``.
    Returns:
        Artifact with a folder per training, see :func:`unit_name`; the ``results`` of its summary
        are one dict each: architecture, images (the title), seed, top1_last, top1_best, curve and
        seconds; accuracies in [0, 1].
    """
    if protocol.labels == "hard":
        teacher = None
    asked = str(teacher.folder) if teacher else None
    template = replace(job, recipe=protocol.recipe, test=str(test.folder), teacher=asked)
    given = list(labels) or [None] * protocol.seeds
    units = [(model, s) for model in protocol.architectures for s in range(protocol.seeds)]

    def work(folder: UPath) -> dict[str, Any]:
        jobs = [_unit_job(template, folder, m, images[s], seed, s, title) for m, s in units]
        jobs = [_with_labels(job, given[s]) for job, (_, s) in zip(jobs, units, strict=True)]
        names = [{"architecture": _name(m), "images": title, "seed": s} for m, s in units]
        outcomes = zip(names, train_many(jobs, resources), strict=True)
        return {"results": [{**name, **outcome} for name, outcome in outcomes]}

    return stages.run(
        "evaluate",
        work,
        inputs=[*(i for group in images for i in group), test, *filter(None, [teacher, *given])],
        config={
            "protocol": json.loads(json.dumps(protocol, default=vars)),
            "flip": job.flip,
            "preprocessing": job.preprocessing.to_json(),
        },
        seed=seed,
        title=title,
        units=len(units),
        count_done=lambda folder: len(list(folder.glob(f"*/{OUTCOME}"))),
    )


def unit_name(architecture: str, seed: int) -> str:
    """Folder of a training below its stage: state, checkpoint, ``outcome.json``."""
    return f"{architecture}-seed{seed}"


def train_many(jobs: Sequence[TrainJob], resources: Resources) -> list[dict[str, Any]]:
    """Run independent trainings, see :func:`run_many`."""
    return run_many(train_network, jobs, resources)


def _unit_job(
    template: TrainJob,
    folder: UPath,
    model: ModelConfig,
    images: Sequence[Artifact],
    run_seed: int,
    seed: int,
    title: str,
) -> TrainJob:
    """One training in a new folder of its own, which is named by architecture and seed."""
    name = unit_name(_name(model), seed)
    (folder / name).mkdir(parents=True, exist_ok=True)
    return replace(
        template,
        folder=str(folder / name),
        model=model,
        images=tuple(str(item.folder) for item in images),
        seed_parts=(run_seed, "evaluate", _name(model), seed),
        stage=f"evaluate {title} {name}",
    )


def _with_labels(job: TrainJob, labels: Artifact | None) -> TrainJob:
    return replace(job, labels=str(labels.folder / LABELS), teacher=None) if labels else job


def _name(model: ModelConfig) -> str:
    width = f"-w{model.width}" if model.width else ""
    norm = f"-{model.norm}" if model.norm != "batch" else ""
    return f"{model.name}{width}{norm}".replace("/", "-")
