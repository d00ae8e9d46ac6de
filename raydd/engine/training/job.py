"""What one training needs to know; the loop is :mod:`.loop`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from raydd.data.preprocessing import Preprocessing
from raydd.models.registry import ModelConfig
from raydd.ops.recipe import Recipe


@dataclass
class TrainJob:
    """Everything a worker needs to train one network; picklable.

    Attributes:
        folder: where state, checkpoint and ``outcome.json`` go.
        model: architecture of the network.
        class_names: names of the outputs.
        preprocessing: of the network's input.
        images: folders of ``decode``, ``synthesize`` or ``fetch`` artifacts; empty: the images
            arrive through ``ray.train.get_dataset_shard("train")``.
        resolution: side of the stored training images, pixels.
        num_images: size of a streamed set; it fixes the steps of an epoch on every rank.
        recipe: epochs, optimiser, augmentation, loss.
        flip: probability of a mirrored view, a property of the data.
        teacher: folder of the checkpoint that gives soft labels; None trains on hard labels.
        labels: folder of seeded or stored labels, see :mod:`raydd.engine.labels`; they bring the
            views too, and no teacher is asked.
        warm_start: folder of a checkpoint to start from.
        test: folder of the decoded test split; None measures nothing.
        seed_parts: name of this training; fixes initialisation and every draw.
        stage: that it belongs to, in the journal.
        about: what tells it from the stage's other trainings, in the journal.
        journal: path of ``metrics.jsonl``.
        device: ``cpu`` or ``cuda``.
        notes_dynamics: note for every real image how often the network forgot it, and its margin.
        checkpoint_seconds: from one epoch checkpoint to the next; less where writing is quick.
    """

    folder: str
    model: ModelConfig
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    images: tuple[str, ...]
    resolution: int
    recipe: Recipe
    flip: float
    seed_parts: tuple[str | int, ...]
    stage: str
    about: Mapping[str, str | int] = field(default_factory=dict)
    num_images: int = 0
    teacher: str | None = None
    labels: str | None = None
    warm_start: str | None = None
    test: str | None = None
    journal: str | None = None
    device: str = "cpu"
    notes_dynamics: bool = False
    checkpoint_seconds: float = 20.0
