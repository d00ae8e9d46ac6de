"""Checkpoints: safetensors beside a json card that says how the network must be used."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import safetensors.torch
import torch
from torch import nn
from upath import UPath

from raydd.data.preprocessing import Preprocessing
from raydd.models.ensemble import Ensemble
from raydd.models.layout import lay_out
from raydd.models.registry import ModelConfig, create_model
from raydd.store.files import write_atomic

WEIGHTS, CARD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class CheckpointCard:
    """What a user of the weights must know.

    Attributes:
        model: architecture.
        class_names: names of the outputs, in order.
        preprocessing: what the network was trained with.
        top1: accuracy on the test split, [0, 1]; None if it was not measured.
        others: further members of an ensemble, whose logits are averaged with the model's.
    """

    model: ModelConfig
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    top1: float | None = None
    others: tuple[ModelConfig, ...] = ()

    @property
    def name(self) -> str:
        """The architectures, for people."""
        return " + ".join(member.name for member in (self.model, *self.others))

    def to_json(self) -> dict[str, Any]:
        """The card as json values."""
        return {
            "model": asdict(self.model),
            "class_names": list(self.class_names),
            "preprocessing": self.preprocessing.to_json(),
            "top1": self.top1,
            **({"others": [asdict(member) for member in self.others]} if self.others else {}),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CheckpointCard":
        """Inverse of :meth:`to_json`."""
        return cls(
            ModelConfig(**values["model"]),
            tuple(values["class_names"]),
            Preprocessing.from_json(values["preprocessing"]),
            values["top1"],
            tuple(ModelConfig(**member) for member in values.get("others", [])),
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
    members = [
        create_model(
            replace(member, pretrained=False),
            len(card.class_names),
            card.preprocessing.resolution,
        )
        for member in (card.model, *card.others)
    ]
    network = Ensemble(members) if card.others else members[0]
    network.load_state_dict(safetensors.torch.load((folder / WEIGHTS).read_bytes()))
    return network, card


def join_checkpoints(folder: UPath, members: Sequence[UPath]) -> CheckpointCard:
    """Write several checkpoints as one ensemble; they must share classes and preprocessing."""
    loaded = [load_checkpoint(member) for member in members]
    cards = [card for _, card in loaded]
    card = replace(cards[0], top1=None, others=tuple(other.model for other in cards[1:]))
    save_checkpoint(folder, Ensemble([network for network, _ in loaded]), card)
    return card


def load_frozen(folder: UPath, device: torch.device) -> tuple[nn.Module, CheckpointCard]:
    """Rebuild the network for inference: on ``device``, without gradients."""
    network, card = load_checkpoint(folder)
    network.eval().requires_grad_(False)
    return lay_out(network, device), card
