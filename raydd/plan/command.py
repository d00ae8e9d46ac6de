"""``plan=true``: say what a run would do, how large it is and how long it takes."""

import os
from dataclasses import replace

from raydd.cluster.connect import Resources, local_resources
from raydd.config.dataset import open_sources
from raydd.config.tree import RunConfig, make_engine
from raydd.data.sources import Source
from raydd.data.sources.counted import CountedSource
from raydd.errors import Refused
from raydd.judge.product import judge
from raydd.plan.calibrate import calibrate
from raydd.plan.machines import named_machine
from raydd.plan.planner import Planner
from raydd.plan.table import plan_lines
from raydd.plan.work import Machine
from raydd.session import _check_request, _distil
from raydd.store.files import open_storage
from raydd.store.progress import Progress


def plan(config: RunConfig, progress: Progress) -> None:
    """Say what a run would do, how large it is and how long it takes; starts no Ray."""
    cluster = config.cluster
    named = [named_machine(cluster.plan_for)] if cluster.plan_for else []
    planner = walk(config, progress)
    machines = [*([this_machine(config, planner)] if cluster.plan_seconds else []), *named]
    for line in plan_lines(planner.rows, machines):
        progress.say(line)


def walk(config: RunConfig, progress: Progress) -> Planner:
    """Walk through a run's stages without work: the planner then has a row for each."""
    sources = _plan_sources(config, progress)
    nothing, storage = Resources(0, 0, False, 1, 1, 0), open_storage(config.storage)
    planner = make_engine(
        Planner,
        config,
        sources,
        nothing,
        progress,
        storage,
        config.labels,
        validation=config.validation,
    )
    product = _distil(planner, config)
    if config.evaluate:
        judge(planner, product, config.protocol)
    return planner


def _plan_sources(config: RunConfig, progress: Progress) -> tuple[Source, Source]:
    """The data, or their published numbers where they are not at hand."""
    data = config.dataset
    train: Source
    test: Source
    try:
        train, test = open_sources(data)
    except Refused as reason:
        if not (data.num_classes and data.train_images and data.test_images):
            raise
        progress.say(
            f"{reason} Planned from published numbers: {data.num_classes:,} classes, "
            f"{data.train_images:,} training and {data.test_images:,} test images."
        )
        train = CountedSource(data.num_classes, data.train_images)
        test = CountedSource(data.num_classes, data.test_images)
    _check_request(config, train)
    return train, test


def this_machine(config: RunConfig, planner: Planner) -> Machine:
    """Time the plan's steps with what a private cluster on this machine would have."""
    # a GPU that is asked for may be the named machine's
    here = replace(config.cluster, use_gpu=config.cluster.use_gpu and None)
    return calibrate(
        planner.rows,
        planner.train_source,
        planner.preprocessing,
        config.data.max_pixels,
        local_resources(here),
        os.cpu_count() or 1,
        config.cluster.plan_seconds,
    )
