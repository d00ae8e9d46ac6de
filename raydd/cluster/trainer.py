"""A loop in Ray Train: in the process that calls it, or on a group of workers.

Whoever imports this imports Ray Data and Ray Train, which takes seconds: :mod:`.fit` does so when
there is something to train.
"""

import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import ray
import ray._private.worker
import ray.data as rd
import ray.exceptions
import ray.train
from ray.train import ControllerError
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train._internal.utils import get_address_and_port
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import (
    _set_torch_distributed_env_vars,
    _setup_torch_process_group,
    _TorchBackend,
)
from upath import UPath

from raydd.cluster.failures import LoopError, StopOnError
from raydd.cluster.resources import Resources
from raydd.store.files import storage_arguments
from raydd.store.memory import keep_memory

# A group that finds no room within a minute tries again so often: a spot machine is replaced within
# minutes, and a fit that can never start must end.
_STARTS = 15
_RESIZE_SECONDS = 30.0  # how often an elastic training looks for machines that joined


@dataclass(frozen=True)
class Single:
    """A loop in the process that calls this; picklable. See :func:`.fit.fit`."""

    loop: Callable[[dict[str, Any]], Any]
    arguments: dict[str, Any]
    folder: UPath
    datasets: Mapping[str, rd.Dataset]

    def __call__(self, job: None) -> Any:
        """What the loop returned."""
        return _run(self.trainer(scaling_config=ray.train.ScalingConfig(num_workers=0)))

    def trainer(self, **more: Any) -> TorchTrainer:
        """Of Ray Train."""
        run = {"name": "train", **storage_arguments(self.folder), **more.pop("run", {})}
        return TorchTrainer(
            self.loop,
            train_loop_config=self.arguments,
            datasets=dict(self.datasets),
            run_config=ray.train.RunConfig(**run),
            **more,
        )


def fit_group(single: Single, resources: Resources) -> Any:
    """The same loop on several workers, bound into one group."""
    # an elastic group takes all the CPUs that it finds: readers of a stream would wait for ever
    may_stretch = resources.use_gpu or not single.datasets
    workers = (resources.elastic if may_stretch else None) or resources.num_workers
    # the types are Ray Train's first version, what runs is the second
    scaling = ray.train.ScalingConfig(
        num_workers=workers,  # type: ignore[arg-type]
        elastic_resize_monitor_interval_s=_RESIZE_SECONDS,  # type: ignore[call-arg]
        use_gpu=resources.use_gpu,
        resources_per_worker=resources.per_worker,
    )
    failures = ray.train.FailureConfig(
        max_failures=resources.max_failures,
        controller_failure_limit=_STARTS,  # type: ignore[call-arg]
    )
    trainer = single.trainer(
        torch_config=ProcessGroupConfig(backend="gloo" if resources.device == "cpu" else "nccl"),
        scaling_config=scaling,
        run={"failure_config": failures, "callbacks": [StopOnError()]},
    )
    try:
        return _run(trainer)
    except ray.exceptions.RayActorError as error:
        raise RuntimeError(
            "the controller of Ray Train died; run the same command to continue"
        ) from error
    except ControllerError as error:
        if isinstance(error.controller_failure, LoopError):
            raise error.controller_failure.error from error
        raise


def _run(trainer: TorchTrainer) -> Any:
    handler = signal.getsignal(signal.SIGINT)
    try:
        return trainer.fit().return_value  # type: ignore[attr-defined] # as above
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)  # fit replaces it and never puts it back


class ProcessGroupConfig(TorchConfig):
    """Torch's process group, set up by this module."""

    @property
    def backend_cls(self) -> type:
        """See :class:`ray.train.torch.TorchConfig`."""
        return _Meeting


class _Meeting(_TorchBackend):
    def on_start(self, worker_group: BaseWorkerGroup, backend_config: Any) -> None:
        """Have every worker join; the addresses of workers on a loopback are all this machine's."""
        worker_group.execute(_use_own_interface)
        worker_group.execute(keep_memory)
        address, _ = worker_group.execute_single(0, get_address_and_port)
        found = socket.getaddrinfo(address, None)[0][4][0]  # a node may be known by a name
        if not ip_address(found).is_loopback:
            super().on_start(worker_group, backend_config)
            return
        worker_group.execute(_set_torch_distributed_env_vars)
        session: Any = ray._private.worker._global_node
        meeting = Path(session.get_session_dir_path()) / f"meeting-{uuid.uuid4().hex}"
        joining: list[Any] = [
            worker_group.execute_single_async(
                rank,
                _setup_torch_process_group,
                backend=backend_config.backend,
                world_rank=rank,
                world_size=len(worker_group),
                init_method=f"file://{meeting}",
                timeout_s=backend_config.timeout_s,
            )
            for rank in range(len(worker_group))
        ]
        ray.get(joining)


def _use_own_interface() -> None:
    """Name the interface of this node's address; what the user has set stays."""
    import psutil  # Ray's own copy

    own = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if own in (address.address for address in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
