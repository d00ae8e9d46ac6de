"""A PyTorch loop of one's own on a distilled set, with its soft labels and without them.

python -m raydd.run name=labelled labels.form=seeded
python examples/train_own_loop.py runs/labelled/distilled [EPOCHS]

Its network is smaller than the one that judges the set, and its loop plain: accuracies are lower
than the report's. On few images of easy classes the teacher's labels add little.
"""

import sys

import torch
import torch.nn.functional as F
from digits import accuracy, read_digits, small_network
from torch import Tensor

import raydd

TEMPERATURE = 4.0


def soft_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Difference of two softened distributions."""
    wanted = F.softmax(teacher / TEMPERATURE, 1)
    return F.kl_div(F.log_softmax(logits / TEMPERATURE, 1), wanted, reduction="batchmean")


def train(folder: str, epochs: int, soft: bool) -> torch.nn.Module:
    """Train a fresh network on the views of the set that its labels are of."""
    torch.manual_seed(0)
    labels, network = raydd.open_labels(folder), small_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.002)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * labels.steps)
    for epoch in range(epochs):
        for batch in labels.batches(epoch):  # images: views; logits: the teacher's of exactly these
            found = network.train()(batch.images)
            loss = soft_loss(found, batch.logits) if soft else F.cross_entropy(found, batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network


def main(folder: str, epochs: int = 100) -> dict[str, float]:
    """Train twice and print both accuracies on real test digits; returns them."""
    dataset = raydd.load(folder)
    test = read_digits("test", dataset.info.preprocessing)
    print(f"{len(dataset)} distilled images of {len(dataset.classes)} classes, {epochs} epochs")
    found = {}
    for name, soft in (("the teacher's labels", True), ("classes alone", False)):
        found[name] = accuracy(train(folder, epochs, soft), *test)
        print(f"{name:<21} {100 * found[name]:5.1f} % of {len(test[1])} real test images")
    return found


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)  # threads of so small a network mostly wait for each other
    main(sys.argv[1], *map(int, sys.argv[2:]))
