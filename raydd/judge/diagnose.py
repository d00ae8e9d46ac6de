"""Stage ``diagnose``: do curricula repeat each other, and are their images of their classes?

A fresh network is trained on each curriculum and tried on the others: where they repeat each other
it knows them already. Every discriminator is tried on the curriculum that came after it, and a
reference trained on real data on all of them. A unit is a training (``outcome.json``) or a network
that is tried (``measured.json``). Images are read a part at a time, and what is kept of them is
linear in the number of classes.

Source: the cross-increment accuracy of LGD, which is lower where there is less redundancy.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from upath import UPath

from raydd.cluster.tasks import run_many
from raydd.engine.cost import Cost, asking_work, count_images, models_of, sizes
from raydd.engine.engine import Engine
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import train_network
from raydd.engine.training.stage import new_job, training_memory, training_work
from raydd.engine.training.state import TRAINED
from raydd.judge.measure import MEASURED, MeasureJob, measure
from raydd.models.registry import ModelConfig
from raydd.ops.configs import check_at_least_one
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Artifact


@dataclass
class DiagnoseConfig:
    """The networks that tell whether curricula repeat each other.

    Attributes:
        model: trained from scratch on each curriculum and tried on the others.
        recipe: of these trainings, with hard labels.
        batch: images per forward pass of a network that is tried.
        listed_classes: how many of the classes that the reference recognises least are named.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    recipe: Recipe = field(default_factory=Recipe)
    batch: int = 100
    listed_classes: int = 10

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_at_least_one(self, "batch", "listed_classes")


def diagnose(
    engine: Engine,
    curricula: Sequence[Artifact],
    discriminators: Sequence[Artifact],
    reference: Artifact,
    config: DiagnoseConfig,
) -> Artifact:
    """Compare curricula.

    Args:
        engine: of the run.
        curricula: K image artifacts, in order.
        discriminators: checkpoints; number j was trained on the curricula up to j.
        reference: checkpoint trained on real data.
        config: networks and sizes.
    Returns:
        Artifact with the summary::

            {"model", "cross": [[accuracy of the network of curriculum i on curriculum j, None for
                                 i = j]], "cross_mean": off the diagonal, None for one curriculum,
             "curricula": [{"images", "validity": accuracy of the reference, "discriminator":
                            accuracy of the one before, or None, "cosine": or None}],
             "union": {"images", "validity", "cosine"},
             "classes": [{"class_index", "class_name", "images", "validity"}]}  # least valid first

        Accuracies in [0, 1]; ``cosine`` is the mean over classes of the mean cosine of two images'
        features before the reference's last layer, None where no class has two images; ``classes``
        has those only of which the reference recognised not all images.
    Raises:
        Refused: a network has other classes or another resolution than the images.
        ValueError: more discriminators than curricula that came after one.
    """
    if len(discriminators) >= max(1, len(curricula)):
        raise ValueError("every discriminator needs a curriculum after those it was trained on")

    job = new_job(engine, config.model, config.recipe, "diagnose", ("diagnose",))
    crossed = count_trainings(len(curricula))

    def work(folder: UPath) -> dict[str, Any]:
        trained = [_training(job, folder, curricula, number) for number in range(crossed)]
        run_many(train_network, trained, engine.resources)
        crosses = [UPath(item.folder) for item in trained]
        jobs = _measure_jobs(job, folder, crosses, curricula, discriminators, reference, config)
        found = run_many(measure, list(jobs), engine.resources)
        return _summary(found, crossed, config, job.class_names)

    trained = {"flip": job.flip, "preprocessing": job.preprocessing.to_json()}
    count = len(discriminators)
    return engine.stages.run(
        "diagnose",
        work,
        inputs=[*curricula, *discriminators, reference],
        config={"diagnose": config, **trained, "discriminators": count},
        seed=engine.seed,
        cost=lambda: _cost(engine, curricula, reference, config),
        expected=dict,
        title=f"{len(curricula)} curricula",
        # trainings, and networks that are tried: those trained, the discriminators, the reference
        units=2 * crossed + count + 1,
        done=[TRAINED, MEASURED],
    )


def count_trainings(curricula: int) -> int:
    """Networks that are trained: one per curriculum where there is another to try it on."""
    return curricula if curricula > 1 else 0


def _cost(
    engine: Engine, curricula: Sequence[Artifact], reference: Artifact, config: DiagnoseConfig
) -> Cost:
    trained, images = count_trainings(len(curricula)), count_images(curricula)
    model, recipe, batch = config.model, config.recipe, config.batch
    return Cost(
        reads=(trained + 2) * images * engine.pixel_bytes,
        writes=trained * sizes(engine, model).weights,
        memory=training_memory(engine, model, recipe),
        work=[
            *(
                work
                for item in curricula[:trained]
                for work in training_work(engine, model, recipe, count_images([item]), tested=False)
            ),
            *asking_work(engine, [model], (trained + 1) * images, batch, "float32"),
            *asking_work(engine, models_of(engine, reference), images, batch, "float32"),
        ],
        divides="tasks",
    )


def _training(job: TrainJob, folder: UPath, curricula: Sequence[Artifact], number: int) -> TrainJob:
    own = folder / f"curriculum{number}"
    own.mkdir(parents=True, exist_ok=True)
    return replace(
        job,
        folder=str(own),
        images=(str(curricula[number].folder),),
        seed_parts=(*job.seed_parts, number),
        about={"curriculum": number},
    )


def _measure_jobs(
    job: TrainJob,
    folder: UPath,
    crosses: Sequence[UPath],
    curricula: Sequence[Artifact],
    discriminators: Sequence[Artifact],
    reference: Artifact,
    config: DiagnoseConfig,
) -> Iterator[MeasureJob]:
    """The networks of single curricula, the discriminators, and the reference at the end."""

    def of(name: str, checkpoint: UPath, images: Sequence[Artifact]) -> MeasureJob:
        return MeasureJob(
            folder=str(folder / name),
            checkpoint=str(checkpoint),
            images=tuple(str(item.folder) for item in images),
            class_names=job.class_names,
            resolution=job.resolution,
            per_class=name == "reference",
            batch=config.batch,
            device=job.device,
        )

    for i, checkpoint in enumerate(crosses):
        yield of(f"curriculum{i}", checkpoint, [*curricula[:i], *curricula[i + 1 :]])
    for i, item in enumerate(discriminators):
        yield of(f"discriminator{i}", item.folder, [curricula[i + 1]])
    yield of("reference", reference.folder, curricula)


def _summary(
    found: Sequence[dict[str, Any]],
    crosses: int,
    config: DiagnoseConfig,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """What the networks found: those of single curricula, the discriminators, the reference."""
    known = found[-1]
    return {
        "model": config.model.name,
        **_cross(found[:crosses]),
        **_curricula(found[crosses:-1], known),
        "classes": _failures(known, class_names, config.listed_classes),
    }


def _cross(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rows: list[list[float | None]] = [[*_accuracies(item)] for item in found]
    known = [value for row in rows for value in row if value is not None]
    for i, row in enumerate(rows):
        row.insert(i, None)
    return {"cross": rows, "cross_mean": sum(known) / len(known) if known else None}


def _curricula(tried: Sequence[dict[str, Any]], known: dict[str, Any]) -> dict[str, Any]:
    discriminators = [None, *(_accuracies(item)[0] for item in tried)]
    discriminators += [None] * (len(known["images"]) - len(discriminators))
    *cosines, together = known["cosine"]
    columns = zip(known["images"], _accuracies(known), discriminators, cosines, strict=True)
    names = ("images", "validity", "discriminator", "cosine")
    images, right = sum(known["images"]), sum(known["right"])
    return {
        "curricula": [dict(zip(names, column, strict=True)) for column in columns],
        "union": {"images": images, "validity": right / max(1, images), "cosine": together},
    }


def _failures(
    known: dict[str, Any], class_names: Sequence[str], listed: int
) -> list[dict[str, Any]]:
    """The classes of which the reference recognises least, those without any failure left out."""
    rows = [
        {"class_index": c, "class_name": class_names[c], "images": count, "validity": right / count}
        for c, (right, count) in enumerate(
            zip(known["class_right"], known["class_images"], strict=True)
        )
        if right < count
    ]
    return heapq.nsmallest(listed, rows, key=lambda row: (row["validity"], row["class_index"]))


def _accuracies(found: dict[str, Any]) -> list[float]:
    pairs = zip(found["right"], found["images"], strict=True)
    return [right / max(1, images) for right, images in pairs]
