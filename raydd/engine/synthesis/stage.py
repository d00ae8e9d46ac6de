"""Stage ``synthesize``: the recover loop on every unit, on any number of workers.

A unit is a block of slots times a block of classes, one optimisation batch. Units are independent
and fixed by the configuration alone, so the images are the same for any number of workers; a
finished unit is a file and is never redone.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from upath import UPath

from raydd.cluster.pool import run_units
from raydd.data.rows import Reader
from raydd.engine.cost import Cost, Networks, TimedStep, Work, models_of, sizes
from raydd.engine.engine import Engine
from raydd.engine.selection.chosen import SelectedIds
from raydd.engine.synthesis.loop import LoopConfig
from raydd.engine.synthesis.observers import MatchConfig, ObserverNetworks
from raydd.engine.synthesis.steps import match_step, recover_step
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherNetworks
from raydd.engine.synthesis.worker import NetworkNames, SynthesizeJob, Synthesizer
from raydd.store.artifacts import Artifact
from raydd.store.units import PART, Unit, name_starts, plan_units


def synthesize(
    engine: Engine,
    start: Artifact | None,
    teacher: Artifact,
    student: Artifact | None,
    config: SynthesisConfig,
    slots: range,
    curriculum: int,
) -> Artifact:
    """Optimise one curriculum's images; the same bytes for any number of workers.

    Args:
        engine: of the run.
        start: a selection of real images, or None for noise.
        teacher: checkpoint.
        student: checkpoint of the adversary, if any.
        config: constants of the loop.
        slots: of the curriculum.
        curriculum: its number.
    Returns:
        Artifact with ``parts/*.parquet``, see :func:`raydd.data.rows.image_table`.
    """
    folder = str(student.folder) if student else None
    networks = TeacherNetworks(str(teacher.folder), folder, config)
    inputs = [item for item in (start, teacher, student) if item]
    units = plan_units(engine.num_classes, slots, config.batch_size)

    def cost() -> Cost:
        asked = [teacher, *([student] if student and config.adversarial_weight > 0 else [])]
        models = [models_of(engine, item)[0] for item in asked]
        found = [sizes(engine, model) for model in models]
        flops, activations = sum(s.flops for s in found), sum(s.activations for s in found)
        step = recover_step(Networks.of(engine), models, config, flops)
        memory = sum(s.weights for s in found), activations
        return _cost(engine, start, units, step, config.steps, *memory)

    return _synthesize(engine, networks, config, start, inputs, slots, curriculum, units, cost)


def match(
    engine: Engine,
    start: Artifact | None,
    observers: Sequence[Artifact],
    statistics: Artifact,
    patch: int,
    config: MatchConfig,
    ipc: int,
) -> Artifact:
    """Optimise images until the observers see what they see on the real ones.

    Args:
        engine: of the run.
        start: a selection of real images, an artifact of images, or None for noise.
        observers: checkpoints, in the order of the statistics.
        statistics: of :func:`raydd.engine.passes.statistics.measure`.
        patch: side of a tile in the statistics, pixels.
        config: constants of the loop.
        ipc: images per class.
    """
    networks = ObserverNetworks(
        tuple(str(item.folder) for item in observers),
        str(statistics.folder),
        tuple(len(layers) for layers in statistics.summary["layers"]),
        engine.num_classes,
        patch,
        config,
    )
    inputs = [*([start] if start else []), *observers, statistics]
    units = plan_units(engine.num_classes, range(ipc), config.batch_size, by_class=True)

    def cost() -> Cost:
        models = [model for item in observers for model in models_of(engine, item)]
        found = [sizes(engine, model) for model in models]
        flops, activations = sum(s.flops for s in found), max(s.activations for s in found)
        step = match_step(Networks.of(engine), models, patch, config, flops)
        memory = sum(s.weights for s in found), activations
        return _cost(engine, start, units, step, config.steps / len(models), *memory)

    return _synthesize(engine, networks, config, start, inputs, range(ipc), 0, units, cost)


def _synthesize(
    engine: Engine,
    networks: NetworkNames,
    config: LoopConfig,
    start: Artifact | None,
    inputs: Sequence[Artifact],
    slots: range,
    curriculum: int,
    units: Sequence[Unit],
    cost: Callable[[], Cost],
) -> Artifact:
    config = replace(config, flip=config.flip and engine.flip > 0)  # no mirrored digits
    chosen = start if start and start.stage == "select" else None
    job = SynthesizeJob(
        folder="",
        curriculum=curriculum,
        networks=networks,
        config=config,
        start_images=str(start.folder) if start and not chosen else None,
        reader=Reader(engine.train_source, engine.preprocessing, engine.data.max_pixels),
        seed=engine.seed,
        journal=engine.journal,
        device=engine.resources.device,
        capture=engine.resources.capture,
    )
    ends = [slots.start, slots.stop]
    summary = {"slots": ends, "counts": [len(slots)] * engine.num_classes}

    def work(folder: UPath) -> dict[str, Any]:
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        todo = PART.left(folder, units)
        if chosen:
            ids = SelectedIds(chosen.folder, engine.num_classes)
            todo = name_starts(todo, ids, slots.start)
        run_units(Synthesizer, replace(job, folder=str(folder)), todo, engine.resources)
        return {"curriculum": curriculum, **summary}

    return engine.stages.run(
        "synthesize",
        work,
        inputs=inputs,
        config={"synthesis": config, "slots": ends, "curriculum": curriculum},
        seed=engine.seed,
        cost=cost,
        expected=lambda: summary,
        title=f"curriculum {curriculum + 1}",
        units=len(units),
        done=[PART],
    )


def _cost(
    engine: Engine,
    start: Artifact | None,
    units: Sequence[Unit],
    step: TimedStep,
    steps: float,
    weights: int,
    activations: int,
) -> Cost:
    """What the units take, each so many steps; bytes of weights, and of activations per image."""
    count, batch = (f(len(unit.labels) for unit in units) for f in (sum, max))
    pixels, is_real = count * engine.pixel_bytes, start is not None and start.stage == "select"
    return Cost(
        reads=pixels if start else 0,
        writes=pixels,
        memory=weights + 2 * batch * activations,
        work=[Work(step, steps * count / batch, batch)],
        decodes=count if is_real else 0,
        fetches=count if is_real else 0,
        divides="units",
    )
