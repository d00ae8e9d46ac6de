"""Stage ``statistics``: what the layers of the observers see on the real images of each class.

One streaming pass over the real set serves all observers: a batch is decoded once. A unit of work
is a fixed run of shards; it leaves exact sums in float64, which are added up in the order of the
units, so that the statistics do not depend on the workers. Of every group (the channels or the
tiles of a layer's input) each image gives its mean and its variance over the pixels; of a class,
count, sum of means, sum of squared means and sum of variances are enough for both variances that
may be asked for: within the images alone (the authors' code), or in total.
Source: arXiv 2404.13733 (EDC, class statistics) and arXiv 2311.17950 (G-VBSM).
"""

import functools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from upath import UPath

from raydd.cluster.pool import run_units
from raydd.engine.cost import Cost, Networks, Work, models_of, sizes
from raydd.engine.engine import Engine
from raydd.engine.passes.statistics_batches import StatisticsConfig, StatisticsJob
from raydd.engine.passes.statistics_sums import SUMS, Measurer, statistics_step, unit_name
from raydd.models.observer import ObserverTap, running_statistics
from raydd.models.registry import create_meta_model
from raydd.store.arrays import new_array, open_array, read_rows
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import load_frozen

_READERS = 8


def measure(
    engine: Engine,
    observers: Sequence[Artifact],
    stored: Artifact | None,
    config: StatisticsConfig,
) -> Artifact:
    """Measure what the layers of all observers see on the real images.

    Args:
        engine: of the run.
        observers: checkpoints; all must share one preprocessing.
        stored: the decoded images; None decodes them.
        config: what is measured.

    Returns:
        Artifact with ``observerNN/NNN.npy`` for every tapped layer: [C + 1, 2 w], means then
        variances of the layer's w channels and tiles; a row for each class and the last one for
        the whole set. Its summary lists the ``layers`` of each observer.
    """
    source = engine.train_source
    shards = np.array_split(range(len(source.shards())), config.units)
    job = StatisticsJob(
        folder="",
        units=tuple(tuple(map(int, part)) for part in shards if len(part)),
        observers=tuple(str(item.folder) for item in observers),
        config=config,
        source=source,
        preprocessing=engine.preprocessing,
        flip=engine.flip,
        max_pixels=engine.data.max_pixels,
        seed=engine.seed,
        device=engine.resources.device,
        stored=str(stored.folder) if stored else None,
    )

    def work(folder: UPath) -> dict[str, Any]:
        own = replace(job, folder=str(folder), decoders=engine.resources.count_decoders_each())
        todo = SUMS.left(folder, range(len(own.units)), unit_name)
        run_units(Measurer, own, todo, engine.resources)
        return {"layers": [_finish(own, number) for number in range(len(own.observers))]}

    return engine.stages.run(
        "statistics",
        work,
        inputs=[*observers, source.fingerprint],
        config={"statistics": config, "flip": engine.flip, "max_pixels": job.max_pixels},
        seed=engine.seed if config.view != "none" else 0,
        cost=lambda: _cost(engine, observers, config, job),
        expected=lambda: {"layers": [tap.layers for tap in _taps(engine, observers, config)]},
        title=f"{len(observers)} observers",
        units=len(job.units),
        done=[SUMS],
    )


def _cost(
    engine: Engine, observers: Sequence[Artifact], config: StatisticsConfig, job: StatisticsJob
) -> Cost:
    """The sums are mapped files; what is in memory of them is what fits."""
    models = [model for item in observers for model in models_of(engine, item)]
    width = sum(sum(tap.sizes) for tap in _taps(engine, observers, config))
    sums = engine.num_classes * 3 * width * 8
    kept = (engine.num_classes + 1) * 2 * width * np.dtype(config.dtype).itemsize
    common, count, batch = Networks.of(engine), engine.num_images, config.batch
    found = [sizes(engine, model) for model in models]
    pairs = zip(models, found, strict=True)
    steps = [statistics_step(common, model, config.patch, s.flops) for model, s in pairs]
    return Cost(
        reads=count * engine.pixel_bytes if job.stored else engine.encoded_bytes(count),
        writes=len(job.units) * sums + kept,
        memory=sums + sum(s.weights for s in found) + batch * max(s.activations for s in found),
        work=[Work(step, count / batch, batch) for step in steps],
        decodes=0 if job.stored else count,
        divides="units",
    )


def _taps(
    engine: Engine, observers: Sequence[Artifact], config: StatisticsConfig
) -> list[ObserverTap]:
    """The observers' taps, without memory."""
    side = engine.preprocessing.resolution
    return [
        ObserverTap(
            create_meta_model(model, engine.num_classes, side).eval(),
            side,
            config.patch,
            per_image=True,
        )
        for item in observers
        for model in models_of(engine, item)
    ]


def read_targets(
    folder: UPath, observer: int, num_layers: int, num_classes: int, labels: Sequence[int]
) -> np.ndarray:
    """Targets of one observer for a batch of images, read without the other classes.

    Args:
        folder: of the stage.
        observer: number of the observer.
        num_layers: how many layers it has.
        num_classes: C.
        labels: class of each image of the batch.

    Returns:
        float32 [2, 2, W]: of the whole set and of the mixture of the batch's classes (the mean
        over the batch of what belongs to each image's class), each means and variances.
    """
    first, stop = min(labels), max(labels) + 1
    weights = np.bincount(np.asarray(labels) - first, minlength=stop - first) / len(labels)

    def read(number: int) -> np.ndarray:
        path = _layer_path(folder, observer, number)
        everything = read_rows(path, num_classes, num_classes + 1)[0]
        mixed = weights @ read_rows(path, first, stop).astype(np.float64)
        return np.stack([everything, mixed]).reshape(2, 2, -1)

    with ThreadPoolExecutor(_READERS) as pool:  # an object store answers each after a while
        return np.concatenate(list(pool.map(read, range(num_layers))), axis=2).astype(np.float32)


def _finish(job: StatisticsJob, observer: int) -> list[dict[str, Any]]:
    """Add up the units of one observer, layer by layer, and write its arrays."""
    network, card = load_frozen(UPath(job.observers[observer]), torch.device("cpu"))
    tap = ObserverTap(network, card.preprocessing.resolution, job.config.patch)
    remembered = running_statistics(network, tap.layers)
    markers = [SUMS.path(job.folder, unit_name(number)) for number in range(len(job.units))]
    counts = np.sum([json.loads(path.read_text())["counts"] for path in markers], axis=0)
    (UPath(job.folder) / f"observer{observer:02d}").mkdir(exist_ok=True)
    begin = 0
    for number, layer in enumerate(tap.layers):
        end = begin + sum(layer.sizes)
        known = None
        if job.config.batch_norm_targets == "running":
            known = np.stack([value[begin:end].numpy() for value in remembered])
        path = _layer_path(UPath(job.folder), observer, number)
        with new_array(path, (len(counts) + 1, 2 * (end - begin)), job.config.dtype) as array:
            sums = _sum_columns([path.parent for path in markers], observer, begin, end)
            array[...] = class_statistics(sums, counts, job.config.variance, known).reshape(
                array.shape
            )
        begin = end
    return [asdict(layer) for layer in tap.layers]


def _sum_columns(folders: Sequence[UPath], observer: int, begin: int, end: int) -> np.ndarray:
    """Columns of all units' sums, float64 [C, 3, end - begin], added in the order of the units."""
    parts = (open_array(folder / f"observer{observer:02d}.npy") for folder in folders)
    return functools.reduce(np.add, (part[:, :, begin:end] for part in parts))


def class_statistics(
    sums: np.ndarray, counts: np.ndarray, variance: str, known: np.ndarray | None = None
) -> np.ndarray:
    """Means and variances of each class and of the whole set.

    Args:
        sums: float64 [C, 3, w]: of the images' means, of their squares, of the images' variances.
        counts: int [C], images of each class.
        variance: "within" is the mean variance of an image; "total" adds the variance of the means
            (the law of total variance: all images have as many pixels).
        known: [2, w], means and variances that stand for the whole set where they are not nan.

    Returns:
        float64 [C + 1, 2, w], the last for the whole set; it stands in for a class without images.
    """
    sums = np.concatenate([sums, sums.sum(axis=0, keepdims=True)])
    counts = np.append(counts, counts.sum())
    mean, square, var = np.moveaxis(sums / np.maximum(counts, 1)[:, None, None], 1, 0)
    if variance == "total":
        var = var + np.maximum(square - mean**2, 0)
    result = np.stack([mean, var], axis=1)
    if known is not None:
        result[-1] = np.where(np.isnan(known), result[-1], known)
    result[counts == 0] = result[-1]
    return result


def _layer_path(folder: UPath, observer: int, number: int) -> UPath:
    return folder / f"observer{observer:02d}" / f"{number:03d}.npy"
