"""Stages ``generator`` and ``tune``: a diffusion model, and a copy that was fine-tuned."""

from dataclasses import replace
from typing import Any

from upath import UPath

from raydd.cluster.fit import fit
from raydd.data.distilled import hash_file
from raydd.engine.cost import BACKWARD, Cost, Work
from raydd.engine.engine import Engine
from raydd.engine.generator.adopt import adopt_generator, fresh_generator
from raydd.engine.generator.checkpoint import load_generator_card, save_generator
from raydd.engine.generator.config import GeneratorConfig, GeneratorRecipe, MinimaxConfig
from raydd.engine.generator.cost import config_of, sizes_of, transformer_step
from raydd.engine.generator.latent_data import KeptLatents
from raydd.engine.generator.latents import cache_latents, count_views, is_cached, latent_bytes
from raydd.engine.generator.train import GeneratorJob, generator_worker
from raydd.engine.passes.decode import RealImages, class_counts, place_images
from raydd.engine.training.data import Feed
from raydd.models.diffusion import Generator
from raydd.store.artifacts import Artifact


def generator(engine: Engine, config: GeneratorConfig) -> Artifact:
    """The generator: public weights, one that was saved, or one trained on the source.

    Its summary has ``name``, ``licence`` and ``resolution``; a training adds ``steps``, ``loss``
    and ``seconds``.

    Raises:
        Refused: see :func:`raydd.engine.generator.adopt.adopt_generator`.
    """
    if not config.is_trained:
        return _start(engine, config, "adopted", 0)
    fresh = _start(engine, config, "untrained", _seeded(engine, config.recipe).seed)
    return _fit(engine, "generator", fresh, config.recipe)


def tune(engine: Engine, generator: Artifact, config: MinimaxConfig) -> Artifact:
    """A copy that was fine-tuned on the source by the terms of Minimax Diffusion.

    Differs from the paper, which tunes one copy for each 20 classes: one serves all.
    """
    return _fit(engine, "tune", generator, config)


def _start(engine: Engine, config: GeneratorConfig, title: str, seed: int) -> Artifact:
    """A generator as it is found, or fresh."""
    names, resolution = engine.class_names, engine.preprocessing.resolution

    def make() -> Generator:
        if config.is_trained:
            return fresh_generator(config, names, resolution, seed)
        return adopt_generator(config, names, resolution)

    def work(folder: UPath) -> dict[str, Any]:
        save_generator(folder, make())
        return _describe(folder)

    def cost() -> Cost:
        size = sizes_of(engine, config).weights
        return Cost(0 if config.is_trained else size, size, size)

    parts = ["path", "revision", "vae", "licence"]
    parts += ["layers", "heads", "width", "patch"] if config.is_trained else []
    return engine.stages.run(
        "generator",
        work,
        inputs=_content_keys(config),
        config={
            **{name: getattr(config, name) for name in parts},
            "classes": names,
            "resolution": resolution,
        },
        seed=seed,
        cost=cost,
        expected=lambda: {"config": config},
        title=title,
    )


def _seeded(engine: Engine, recipe: GeneratorRecipe) -> Engine:
    """The engine with the training's own seed, if it has one."""
    return engine if recipe.seed is None else replace(engine, seed=recipe.seed)


def _fit(engine: Engine, name: str, start: Artifact, recipe: GeneratorRecipe) -> Artifact:
    engine = _seeded(engine, recipe)
    resources, side = engine.resources, engine.preprocessing.resolution
    images = class_counts(engine).sum().item()
    if is_cached(engine, start, recipe, images):
        kept, real = _keep_latents(engine, start, recipe, images)
    else:
        # the whole shorter side is seen
        kept, real = None, place_images(engine, replace(engine.preprocessing, resize=side))
    job = GeneratorJob(
        folder="",
        start=str(start.folder),
        feed=Feed(real.folders, side, real.count, recipe.batch_size, (engine.seed, name)),
        latents=kept,
        recipe=recipe,
        flip=engine.flip,
        stage=name,
        journal=engine.journal,
        device=resources.device,
    )

    def work(folder: UPath) -> dict[str, Any]:
        arguments = {"job": replace(job, folder=str(folder))}
        workers = min(resources.num_workers, recipe.batch_size)
        fixed = replace(resources, num_workers=workers, elastic=None)  # draws are by their number
        streamed = real.stream() if real.stream else None
        outcome = fit(generator_worker, arguments, fixed, folder, streamed)
        return {**_describe(folder), **outcome}

    def cost() -> Cost:
        sizes, views = sizes_of(engine, config_of(start)), recipe.steps * recipe.batch_size
        step = transformer_step(engine, config_of(start), sizes.flops)
        flops = (1 + BACKWARD) * sizes.flops + (0 if kept else sizes.encoder)
        looked = _reads(engine, kept, real, views / real.count)
        return replace(
            looked,
            writes=sizes.weights,
            # with the average; the memories of Minimax's classes are left out
            memory=5 * sizes.weights + 2 * recipe.batch_size * sizes.activations,
            work=[Work(step, recipe.steps, recipe.batch_size, flops, sizes.weights)],
            divides="batch",
        )

    return engine.stages.run(
        name,
        work,
        inputs=[start, real.origin],
        config={**recipe.key(), "flip": engine.flip},
        seed=engine.seed,
        cost=cost,
        expected=lambda: {"config": config_of(start)},
        title="training",
        units=recipe.steps,
    )


def _keep_latents(
    engine: Engine, start: Artifact, recipe: GeneratorRecipe, images: int
) -> tuple[KeptLatents, RealImages]:
    """Where the latents of all images are kept, and that they stand for the images."""
    artifact, views = cache_latents(engine, start, recipe.precision), count_views(engine)
    held = images * views * latent_bytes(engine.preprocessing.resolution)
    in_memory = held <= engine.data.memory_limit_mb << 20
    return KeptLatents(str(artifact.folder), views, in_memory), RealImages((), images, artifact)


def _reads(engine: Engine, kept: KeptLatents | None, real: RealImages, epochs: float) -> Cost:
    """What a training of so many epochs reads: images, or latents once or in every epoch."""
    side = engine.preprocessing.resolution
    if kept is None:
        return real.cost(engine, side, epochs)
    held = real.count * kept.views * latent_bytes(side)
    return Cost(reads=held if kept.in_memory else epochs * held)


def _describe(folder: UPath) -> dict[str, Any]:
    card = load_generator_card(folder)
    return {"name": card.name, "licence": card.licence, "resolution": card.resolution}


def _content_keys(config: GeneratorConfig) -> list[str]:
    """Hashes of the files of folders: other weights under the same path are another generator.

    Weights of the hub are known by name and revision.
    """
    folders = [UPath(path) for path in (config.path, config.vae) if path and UPath(path).is_dir()]
    files = [file for folder in folders for file in sorted(folder.rglob("*"), key=str)]
    return [str(hash_file(file)["sha256"]) for file in files if file.is_file()]
