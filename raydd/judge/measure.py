"""Try a network on image sets, a part at a time: accuracies, single classes, similarities.

What is kept is linear in the number of classes; see :mod:`.diagnose`.
"""

import json
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from upath import UPath

from raydd.errors import Refused
from raydd.models.answers import answer
from raydd.models.features import FeatureTap
from raydd.models.preprocess import normalise
from raydd.ops.similarity import mean_pairwise_cosine
from raydd.store.checkpoint import CheckpointCard, load_frozen
from raydd.store.files import write_atomic
from raydd.store.images import iterate_pixels
from raydd.store.units import Marker

_FILE = "measured.json"
MEASURED = Marker(f"{{}}/{_FILE}")


@dataclass(frozen=True)
class MeasureJob:
    """A network and the image sets that it is tried on; picklable.

    Attributes:
        folder: where ``measured.json`` goes.
        checkpoint: folder of the network.
        images: folders of image artifacts.
        class_names: of the images; the network must have the same.
        resolution: of the images, pixels.
        per_class: also measure single classes and the similarity of their images.
        batch: images per forward pass.
        device: ``cpu`` or ``cuda``.
    """

    folder: str
    checkpoint: str
    images: tuple[str, ...]
    class_names: tuple[str, ...]
    resolution: int
    per_class: bool
    batch: int
    device: str


@torch.inference_mode()
def measure(job: MeasureJob) -> dict[str, Any]:
    """Try a network on image sets, or read what an earlier try has found.

    Returns:
        ``right`` and ``images``, counts for each set; with ``per_class`` also ``cosine`` for each
        set and then for all together, and ``class_right`` and ``class_images`` over all sets.
    """
    path = UPath(job.folder) / _FILE
    if path.exists():
        return json.loads(path.read_text())
    network, card = load_frozen(UPath(job.checkpoint), torch.device(job.device))
    _check(card, job)
    tap = FeatureTap(network, len(job.class_names))
    tallies = []
    union = _Tally(len(job.class_names), job.per_class)
    for folder in job.images:
        tally = _Tally(len(job.class_names), job.per_class)
        _walk(tap, card, folder, job, tally)
        union.join(tally)
        tallies.append(tally.figures())
    found = {name: [figures[name] for figures in tallies] for name in ("right", "images")}
    if job.per_class:
        found["cosine"] = [figures["cosine"] for figures in (*tallies, union.figures())]
        found["class_right"] = union.right.tolist()
        found["class_images"] = union.images.tolist()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(found).encode())
    return found


class _Tally:
    """Sums over the images of one set, class by class."""

    def __init__(self, num_classes: int, similarity: bool) -> None:
        self.right = torch.zeros(num_classes, dtype=torch.int64)
        self.images = torch.zeros(num_classes, dtype=torch.int64)
        self.sums: Tensor | None = None  # of unit vectors, [C, D]
        self.similarity = similarity

    def add(self, labels: Tensor, right: Tensor, features: Tensor) -> None:
        """A batch, on the CPU: sums of floats must not depend on the order of a GPU's threads."""
        self.images += torch.bincount(labels, minlength=len(self.images))
        self.right += torch.bincount(labels[right], minlength=len(self.right))
        if self.similarity:
            if self.sums is None:
                self.sums = torch.zeros(len(self.images), features.shape[1])
            self.sums.index_add_(0, labels, F.normalize(features))

    def join(self, other: "_Tally") -> None:
        self.right += other.right
        self.images += other.images
        if other.sums is not None:
            self.sums = other.sums if self.sums is None else self.sums + other.sums

    def figures(self) -> dict[str, Any]:
        cosine = None if self.sums is None else mean_pairwise_cosine(self.sums, self.images)
        return {
            "right": int(self.right.sum()),
            "images": int(self.images.sum()),
            "cosine": cosine,
        }


def _walk(
    tap: FeatureTap, card: CheckpointCard, folder: str, job: MeasureJob, tally: _Tally
) -> None:
    preprocessing = card.preprocessing
    for part in iterate_pixels(UPath(folder), job.resolution):
        batches = zip(part.images.split(job.batch), part.labels.split(job.batch), strict=True)
        for pixels, labels in batches:
            images = normalise(pixels.to(job.device), preprocessing.mean, preprocessing.std)
            logits, features = answer(tap, images)
            right = logits.argmax(1).cpu() == labels
            tally.add(labels, right, features.float().cpu() if job.per_class else features)


def _check(card: CheckpointCard, job: MeasureJob) -> None:
    if card.class_names != job.class_names:
        raise Refused(f"the network in {job.checkpoint} has other classes than the images.")
    if card.preprocessing.resolution != job.resolution:
        raise Refused(
            f"the network in {job.checkpoint} takes {card.preprocessing.resolution} pixels, the "
            f"images have {job.resolution}."
        )
