"""A run on GPUs that only Ray believes in: it schedules for real, torch computes on the CPU.

python tests/logical_gpus.py FOLDER CLUSTER METHOD...   # prints what every stage held, as json
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from raydd.cluster.resources import resolve
from raydd.config.tree import compose_config, make_engine
from raydd.judge.product import judge
from raydd.session import check, distil
from raydd.store.artifacts import Stages
from raydd.store.files import open_storage
from raydd.store.progress import Progress

# nodes of a cluster as (CPUs, GPUs), the head first, and one that joins later
CLUSTERS: dict[str, tuple[list[tuple[int, int]], tuple[int, int] | None]] = {
    "1 GPU, 2 CPUs": ([(2, 1)], None),
    "2 GPUs, 2 CPUs": ([(2, 2)], None),
    "2 GPUs, 4 CPUs": ([(4, 2)], None),
    "a head without CPUs": ([(0, 0), (2, 2)], None),
    "a GPU that joins later": ([(2, 1)], (1, 1)),
}
COMMON = [
    "teacher.model.width=8",
    "teacher.recipe.epochs=4",
    "teacher.recipe.batch_size=128",  # two workers
    "protocol.recipe.epochs=2",
    "protocol.seeds=2",
]
METHODS = {
    "curricular": [
        "method.ipc=4", "method.boundaries=[2]", "method.synthesis.steps=4",
        "method.synthesis.batch_size=10",
        "method.student.model.width=8", "method.student.recipe.epochs=4", "labels.form=stored",
    ],
    "ccfs": [
        "method=ccfs", "method.ipc=10", "method.curricula=2", "method.synthesis.steps=4",
        "method.synthesis.batch_size=10", "method.filter_model.model.width=8",
        "method.filter_model.recipe.epochs=4", "data.memory_limit_mb=0",  # the teacher is streamed
    ],
    "edc": ["method=edc", "method.ipc=4", "method.synthesis.steps=4",
            "method.synthesis.batch_size=40",
            "method.observers=[{name:resnet10_thin,width:8},{name:convnet2,width:8}]"],
    "rded": ["method=rded", "method.ipc=4"],
    "acs": [
        "method=acs", "method.ipc=4", "method.per_curriculum=2", "method.generator.layers=2",
        "method.generator.width=16", "method.generator.heads=2",
        "method.generator.recipe.steps=6", "method.generator.recipe.batch_size=21",
        "method.sampling.steps=4", "method.sampling.batch_size=10",
        "method.discriminator.recipe.epochs=2", "method.discriminator.warm_epochs=1",
        "method.diagnosis.recipe.epochs=2",
    ],
}  # fmt: skip


class Watched(Progress):
    """Notes what every stage holds of the cluster, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, dict[str, float]] = {}

    @contextmanager
    def stage(
        self, label: str, units: int, finished: int = 0, count: Callable[[], int] | None = None
    ) -> Iterator[None]:
        """See :class:`raydd.store.progress.Progress`."""
        stop, held = threading.Event(), {"GPU": 0.0, "CPU": 0.0}
        watcher = threading.Thread(target=_watch, args=(held, stop), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
        self.held[label] = held


def _watch(held: dict[str, float], stop: threading.Event) -> None:
    while not stop.wait(0.1):
        total, free = ray.cluster_resources(), ray.available_resources()
        for name in held:
            held[name] = max(held[name], total.get(name, 0) - free.get(name, 0))


def start(name: str) -> Callable[[], None]:
    """Start a cluster and join it; returns what adds the machine that is late."""
    nodes, late = CLUSTERS[name]
    few = {"object_store_memory": 100 << 20}
    head, *others = nodes
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": head[0],
            "num_gpus": head[1],
            "include_dashboard": False,
            **few,
        },
    )
    for cpus, gpus in others:
        cluster.add_node(num_cpus=cpus, num_gpus=gpus, **few)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    cluster.wait_for_nodes()

    def join() -> None:
        if late:
            cluster.add_node(num_cpus=late[0], num_gpus=late[1], **few)

    return join


def carry_out(folder: str, method: str) -> dict[str, Any]:
    """A run: what its stages held, and how many images and results came of it."""
    words = [*COMMON, *METHODS[method], f"storage={folder}", f"name={method}"]
    config = compose_config(words)
    Path(folder, method).mkdir(parents=True)
    progress, storage = Watched(), open_storage(config.storage)
    found = resolve(config.cluster, ray.cluster_resources())
    resources = replace(found, device="cpu", grows=True)
    assert resources.use_gpu
    engine = make_engine(
        config, check(config), resources, Stages(storage, progress), storage / method
    )
    product = distil(engine, config)
    results = judge(engine.seen_by(product.teacher), product, config.protocol)
    return {"images": sum(product.counts), "results": len(results), "held": progress.held}


def main() -> None:
    """See the module."""
    folder, cluster, *methods = sys.argv[1:]
    join = start(cluster)
    late = threading.Timer(20.0, join)
    late.start()
    found: dict[str, Any] = {}
    for method in methods:
        started = time.monotonic()
        found[method] = carry_out(folder, method)
        found[method]["seconds"] = round(time.monotonic() - started)
        print(method, json.dumps(found[method]), file=sys.stderr, flush=True)
    late.cancel()
    found["gpus"] = ray.cluster_resources()["GPU"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
