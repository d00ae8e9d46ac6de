"""The stage around the training loop: one fit, in this process or on the cluster's workers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import ray.data as rd
from upath import UPath

from raydd.cluster.connect import Resources
from raydd.cluster.fit import fit, rank_and_world
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import train_network
from raydd.store.artifacts import Artifact, Stages


def train_stage(
    stages: Stages,
    name: str,
    job: TrainJob,
    inputs: Sequence[Artifact | str],
    resources: Resources,
    seed: int,
    title: str,
    datasets: Mapping[str, rd.Dataset] | None = None,
) -> Artifact:
    """Train one network as a stage.

    Args:
        stages: where the checkpoint is kept.
        name: of the stage, ``squeeze`` or ``train``.
        job: the training; its folder is filled in here.
        inputs: what the images, the teacher and the warm start come from.
        resources: workers and devices.
        seed: run seed.
        title: what the progress line says.
        datasets: streamed images, by the name that the loop asks for.
    Returns:
        Checkpoint artifact; its summary is what :func:`.loop.train_network` returns.
    """

    def work(folder: UPath) -> dict[str, Any]:
        arguments = {"job": replace(job, folder=str(folder))}
        return fit(_worker, arguments, resources, folder, datasets)

    config = {
        "draws": list(job.seed_parts[1:]),
        "model": asdict(job.model),
        "recipe": asdict(job.recipe),
        "flip": job.flip,
        "preprocessing": job.preprocessing.to_json(),
    }
    return stages.run(name, work, inputs=inputs, config=config, seed=seed, title=title)


def _worker(arguments: dict[str, Any]) -> dict[str, Any]:
    """Loop of Ray Train: every rank trains on its share of each batch."""
    return train_network(arguments["job"], *rank_and_world())
