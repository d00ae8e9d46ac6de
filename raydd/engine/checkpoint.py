"""Checkpoints: safetensors beside a json card that says how the network must be used."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch
from torch import nn
from upath import UPath

from raydd.data.preprocessing import Preprocessing
from raydd.engine.stages import write_atomic
from raydd.models.registry import ModelConfig, create_model

WEIGHTS, CARD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class CheckpointCard:
    """What a user of the weights must know.

    Attributes:
        model: architecture.
        class_names: names of the outputs, in order.
        preprocessing: what the network was trained with.
        top1: accuracy on the test split, [0, 1]; None if it was not measured.
    """

    model: ModelConfig
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    top1: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The card as json values."""
        return {
            "model": asdict(self.model),
            "class_names": list(self.class_names),
            "preprocessing": self.preprocessing.to_json(),
            "top1": self.top1,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CheckpointCard":
        """Inverse of :meth:`to_json`."""
        return cls(
            ModelConfig(**values["model"]),
            tuple(values["class_names"]),
            Preprocessing.from_json(values["preprocessing"]),
            values["top1"],
        )


def save_checkpoint(folder: UPath, network: nn.Module, card: CheckpointCard) -> None:
    """Write weights and card; the card last, so that it implies whole weights."""
    state = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    write_atomic(folder / WEIGHTS, safetensors.torch.save(state))
    write_atomic(folder / CARD, json.dumps(card.to_json(), indent=1).encode())


def load_card(folder: UPath) -> CheckpointCard:
    """Read the card alone."""
    return CheckpointCard.from_json(json.loads((folder / CARD).read_text()))


def load_checkpoint(folder: UPath) -> tuple[nn.Module, CheckpointCard]:
    """Rebuild the network on the CPU, in float32.

    Returns:
        The network with its weights, and the card.
    """
    card = load_card(folder)
    architecture = ModelConfig(**{**asdict(card.model), "pretrained": False})
    network = create_model(architecture, len(card.class_names), card.preprocessing.resolution)
    network.load_state_dict(safetensors.torch.load((folder / WEIGHTS).read_bytes()))
    return network, card


def load_frozen(folder: UPath, device: torch.device) -> tuple[nn.Module, CheckpointCard]:
    """Rebuild the network for inference: on ``device``, channels last, without gradients."""
    network, card = load_checkpoint(folder)
    network.eval().requires_grad_(False)
    return network.to(device).to(memory_format=torch.channels_last), card
