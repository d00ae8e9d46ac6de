"""What training loops share: the state that survives a kill, and workers."""

import io
import json
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from upath import UPath

from raydd.store.files import write_atomic
from raydd.store.units import Marker

OUTCOME = "outcome.json"  # of a finished training
TRAINED = Marker(f"{{}}/{OUTCOME}")  # of trainings in folders of their own
_STATE = "state.pt"
_SHARE = 0.02  # of a training's time that quick writes may take


def finished_outcome(folder: str) -> dict[str, Any] | None:
    """What a finished training came to; None of one that is not."""
    path = UPath(folder) / OUTCOME
    return json.loads(path.read_text()) if path.exists() else None


class StateFile:
    """The newest state of a training; rank 0 writes it, every rank reads it.

    Args:
        folder: of the stage.
        seconds: from one write to the next; less where writing is quick.
    """

    def __init__(self, folder: UPath, seconds: float) -> None:
        self.path, self.seconds = folder / _STATE, seconds
        self._written, self._cost = time.monotonic(), 0.0

    @property
    def is_due(self) -> bool:
        """Whether the newest write is old enough for another."""
        pause = min(self.seconds, self._cost / _SHARE)
        return time.monotonic() - self._written >= pause

    def write(self, values: Mapping[str, Any]) -> None:
        """Replace the state: state dicts and json values."""
        started = time.monotonic()
        sink = io.BytesIO()
        torch.save(dict(values), sink)
        write_atomic(self.path, sink.getvalue())
        self._written = time.monotonic()
        self._cost = self._written - started

    def read(self, device: torch.device) -> dict[str, Any] | None:
        """The state on a device; None where nothing was written yet."""
        if not self.path.exists():
            return None
        content = io.BytesIO(self.path.read_bytes())
        return torch.load(content, map_location=device, weights_only=True)


def loss_scaler(dtype: torch.dtype, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss where gradients are float16; does nothing for other dtypes."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)


def restore_scaler(scaler: torch.amp.GradScaler, values: dict[str, Any]) -> None:
    """Continue where a scaler was; a state that was written without one starts it anew."""
    if values:
        scaler.load_state_dict(values)


def distributed(network: nn.Module, world: int) -> nn.Module:
    """The network, sharing its gradients with those of the other workers where there are any.

    BatchNorm sees a worker's own images; the statistics that are kept are rank 0's, which every
    step hands to the others.
    """
    if world == 1:
        return network
    import ray.train.torch  # single tasks do without it

    # its device is the job's; Ray would look at what the worker holds
    device = next(network.parameters()).device
    return ray.train.torch.prepare_model(network, move_to_device=device)
