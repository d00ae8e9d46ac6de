"""How the workers of a training find each other; on one machine nobody else can find them.

Gloo takes the address of the host's name, on many machines a loopback that no other machine
reaches, NCCL any outer one: both are told to use the interface of Ray's own address. Ray Train has
the workers meet at a store of torch's that listens on every interface. A private cluster is on the
loopback: there they meet in a file instead.
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
        worker_group.execute(_use_own_interface)
        address, _ = worker_group.execute_single(0, get_address_and_port)
        found = socket.getaddrinfo(address, None)[0][4][0]  # a node may be known by a name
        if not ip_address(found).is_loopback:
            super().on_start(worker_group, backend_config)
            return
        worker_group.execute(_set_torch_distributed_env_vars)
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


def _use_own_interface() -> None:
    """Name the interface of this node's address; what the user has set stays."""
    import psutil  # Ray's own copy

    own = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if own in (address.address for address in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
