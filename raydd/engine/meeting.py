"""How the workers of a training find each other; on one machine nobody else can find them.

Ray Train has them meet at a store of torch's that listens on every interface, and Gloo and NCCL
take the machine's outer address. A private cluster is on the loopback: there the workers meet in a
file, and their sockets stay on the loopback, too.
"""

import os
import socket
import uuid
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import ray
import ray._private.worker
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train._internal.utils import get_address_and_port
from ray.train.torch import TorchConfig
from ray.train.torch.config import (
    _set_torch_distributed_env_vars,
    _setup_torch_process_group,
    _TorchBackend,
)


class MeetingConfig(TorchConfig):
    """Torch's process group, set up by this module."""

    @property
    def backend_cls(self) -> type:
        """See :class:`ray.train.torch.TorchConfig`."""
        return _Meeting


class _Meeting(_TorchBackend):
    def on_start(self, worker_group: BaseWorkerGroup, backend_config: Any) -> None:
        """Have every worker join; the addresses of workers on a loopback are all this machine's."""
        address, _ = worker_group.execute_single(0, get_address_and_port)
        found = socket.getaddrinfo(address, None)[0][4][0]  # a node may be known by a name
        if not ip_address(found).is_loopback:
            super().on_start(worker_group, backend_config)
            return
        worker_group.execute(_set_torch_distributed_env_vars)
        worker_group.execute(_stay_on_loopback)
        session: Any = ray._private.worker._global_node
        meeting = Path(session.get_session_dir_path()) / f"meeting-{uuid.uuid4().hex}"
        has_gpus = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        joining: list[Any] = [
            worker_group.execute_single_async(
                rank,
                _setup_torch_process_group,
                backend="nccl" if has_gpus else "gloo",
                world_rank=rank,
                world_size=len(worker_group),
                init_method=f"file://{meeting}",
                timeout_s=backend_config.timeout_s,
            )
            for rank in range(len(worker_group))
        ]
        ray.get(joining)


def _stay_on_loopback() -> None:
    name = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = name
