"""Stage ``train``, and the stage around every training of the loop: one fit, and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from upath import UPath

from raydd.cluster.fit import fit, rank_and_world
from raydd.engine.cost import (
    BACKWARD,
    Cost,
    Networks,
    TimedStep,
    Work,
    asking_work,
    count_images,
    models_of,
    sizes,
)
from raydd.engine.engine import Engine
from raydd.engine.passes.decode import decode_test
from raydd.engine.training.data import Batch
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import TEST_BATCH, Training, train_network
from raydd.models.registry import ModelConfig
from raydd.ops.recipe import Recipe
from raydd.ops.seeds import generator
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import CheckpointCard

if TYPE_CHECKING:
    import ray.data as rd


def train(
    engine: Engine,
    images: Sequence[Artifact],
    teacher: Artifact | None,
    model: ModelConfig,
    recipe: Recipe,
    warm_start: Artifact | None = None,
    title: str = "student",
) -> Artifact:
    """Train a network on distilled images, with the teacher's soft labels or with hard ones."""
    job = replace(
        new_job(engine, model, recipe, "train", ("train", title)),
        images=tuple(str(item.folder) for item in images),
        teacher=str(teacher.folder) if teacher else None,
        warm_start=str(warm_start.folder) if warm_start else None,
        test=str(decode_test(engine).folder),
        about={"title": title},
    )
    inputs = [item for item in (*images, teacher, warm_start) if item]

    def cost() -> Cost:
        return training_cost(engine, model, recipe, count_images(images), teacher=teacher)

    return train_stage(engine, job, inputs, title, cost)


def new_job(
    engine: Engine, model: ModelConfig, recipe: Recipe, stage: str, parts: tuple[str | int, ...]
) -> TrainJob:
    """A training without images; ``parts`` name it and fix its draws."""
    return TrainJob(
        folder="",
        model=model,
        class_names=engine.class_names,
        preprocessing=engine.preprocessing,
        images=(),
        resolution=engine.preprocessing.resolution,
        recipe=recipe,
        flip=engine.flip,
        seed_parts=(engine.seed, *parts),
        stage=stage,
        journal=engine.journal,
        device=engine.resources.device,
    )


def train_stage(
    engine: Engine,
    job: TrainJob,
    inputs: Sequence[Artifact | str],
    title: str,
    cost: Callable[[], Cost],
    stream: Callable[[], Mapping[str, rd.Dataset]] | None = None,
) -> Artifact:
    """Train one network as the stage that the job names, by as many workers as suit its batch.

    Args:
        engine: of the run.
        job: the training; its folder is filled in here.
        inputs: what the images, the teacher and the warm start come from.
        title: what the progress line says.
        cost: of the training.
        stream: opens streamed images, by the name that the loop asks for.
    Returns:
        Checkpoint artifact; its summary is what :func:`.loop.train_network` returns.
    """

    def work(folder: UPath) -> dict[str, Any]:
        arguments = {"job": replace(job, folder=str(folder))}
        resources = engine.resources.for_batch(job.recipe.batch_size)
        return fit(_worker, arguments, resources, folder, stream() if stream else None)

    return engine.stages.run(
        job.stage,
        work,
        inputs=inputs,
        config={
            "draws": list(job.seed_parts[1:]),
            "model": job.model,
            "recipe": job.recipe,
            "flip": job.flip,
            "preprocessing": job.preprocessing.to_json(),
        },
        seed=engine.seed,
        cost=cost,
        expected=lambda: {"card": planned_card(job.model, engine).to_json()},
        title=title,
        units=job.recipe.last_epoch,
    )


def planned_card(model: ModelConfig, engine: Engine) -> CheckpointCard:
    """What a checkpoint that is trained here will say about itself."""
    return CheckpointCard(model, engine.class_names, engine.preprocessing)


def training_cost(
    engine: Engine,
    model: ModelConfig,
    recipe: Recipe,
    images: float,
    side: int | None = None,
    teacher: Artifact | None = None,
) -> Cost:
    """What one training takes; see :func:`training_work`."""
    return Cost(
        writes=sizes(engine, model).weights,
        memory=training_memory(engine, model, recipe),
        work=training_work(engine, model, recipe, images, side, teacher),
        divides="batch",
    )


def training_memory(engine: Engine, model: ModelConfig, recipe: Recipe) -> int:
    """Peak bytes of a training: weights, optimiser and a batch's activations."""
    found = sizes(engine, model)
    return 4 * found.weights + 2 * recipe.batch_size * found.activations


def training_work(
    engine: Engine,
    model: ModelConfig,
    recipe: Recipe,
    images: float,
    side: int | None = None,
    teacher: Artifact | None = None,
    asked: str = "convnet",
    tested: bool = True,
) -> list[Work]:
    """One training, its tests, and what its teacher is asked.

    Args:
        engine: of the run.
        model: what is trained.
        recipe: of the training.
        images: in an epoch; nan is not known.
        side: of the stored images, pixels; None is the resolution.
        teacher: who is asked about every view that has soft labels; None where nobody is.
        asked: kind of the teacher's work.
        tested: whether the test split is looked at.
    """
    batch = max(1, recipe.batch_size if images != images else int(min(recipe.batch_size, images)))
    views, flops = recipe.last_epoch * images, (1 + BACKWARD) * sizes(engine, model).flops
    taught = recipe.soft_epochs * images
    side = side or engine.preprocessing.resolution
    step = train_step(Networks.of(engine), model, recipe, side, engine.flip, flops)
    every = max(1, recipe.last_epoch // recipe.test_points)
    tests = -(-recipe.last_epoch // every) * engine.num_tests if tested else 0
    return [
        Work(step, views / batch, batch, gradients=sizes(engine, model).weights),
        *(asking_work(engine, [model], tests, TEST_BATCH) if tests else ()),
        *(asking_work(engine, models_of(engine, teacher), taught, batch, asked) if teacher else ()),
    ]


def train_step(
    networks: Networks, model: ModelConfig, recipe: Recipe, side: int, flip: float, flops: int
) -> TimedStep:
    """A step of the loop: views, loss, gradient, optimiser; the teacher is work of its own.

    Args:
        networks: what those of the run have in common.
        model: what is trained.
        recipe: of the training.
        side: of the stored images, pixels.
        flip: probability of a mirrored view.
        flops: of one image.
    """

    def begin(count: int, device: torch.device) -> Callable[[], None]:
        job = TrainJob(
            folder="",
            model=replace(model, pretrained=False),
            class_names=tuple(map(str, range(networks.num_classes))),
            preprocessing=networks.preprocessing,
            images=(),
            resolution=side,
            recipe=recipe,
            flip=flip,
            seed_parts=("plan",),
            stage="plan",
            num_images=count,
            device=device.type,
        )
        training, draws = Training(job, rank=0, world=1), generator("plan", "views")
        batch = Batch(networks.pixels(count, device, side), networks.labels(count).to(device))

        def step() -> None:
            training.step(batch, draws)

        return step

    return TimedStep(f"train {model} {recipe} {side} {flip} {networks}", flops, "convnet", begin)


def _worker(arguments: dict[str, Any]) -> dict[str, Any]:
    """Loop of Ray Train: every rank trains on its share of each batch."""
    return train_network(arguments["job"], *rank_and_world())
