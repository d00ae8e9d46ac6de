"""Continual learning: the digits 0 to 4, then 5 to 9, with a memory of the first five.

    python examples/replay.py runs/mine/distilled [EPOCHS]

The memory is the distilled images, as many random real ones, or nothing; the teacher that comes
with the set labels both. It was trained on all ten digits, so it has met the second task, which in
life nobody would have.
"""

import sys

import torch
import torch.nn.functional as F
from digits import Images, accuracy, read_digits, small_network
from torch import Tensor, nn

from raydd.data.distilled import read_distilled
from raydd.models.preprocess import normalise
from raydd.store.checkpoint import load_checkpoint

FIRST, SEEDS, TEMPERATURE = 5, 3, 4.0


def learn(network: nn.Module, task: Images, memory: Images | None, epochs: int) -> None:
    """Train on the images of a task, each batch beside as many of the memory."""
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=0.002)
    for _ in range(epochs):
        for rows in torch.randperm(len(task[1])).split(64):
            images, count = task[0][rows], len(rows)
            if memory:
                kept = torch.randint(len(memory[1]), (count,))
                images = torch.cat([images, memory[0][kept]])
            logits = network(images)
            loss = F.cross_entropy(logits[:count], task[1][rows])
            if memory:
                known = F.log_softmax(logits[count:] / TEMPERATURE, 1)
                wanted = F.softmax(memory[1][kept] / TEMPERATURE, 1)
                loss = loss + TEMPERATURE**2 * F.kl_div(known, wanted, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def draw(labels: Tensor, counts: Tensor) -> Tensor:
    """Rows of random images, so many of each class."""
    rows = [torch.nonzero(labels == label)[:, 0] for label in range(len(counts))]
    return torch.cat([r[torch.randperm(len(r))[:n]] for r, n in zip(rows, counts, strict=True)])


@torch.no_grad()
def main(folder: str, epochs: int = 8) -> dict[str, list[float]]:
    """Print the accuracy on all ten digits after both tasks, for each seed; returns them."""
    distilled = read_distilled(folder)
    seen, (pixels, classes, *_) = (
        distilled.info.preprocessing,
        map(torch.tensor, distilled.arrays()),
    )
    teacher = load_checkpoint(distilled.folder / "teacher")[0].eval()
    (images, labels), test = read_digits("train", seen), read_digits("test", seen)
    tasks = [(images[part], labels[part]) for part in (labels < FIRST, labels >= FIRST)]
    chosen = normalise(pixels[classes < FIRST], seen.mean, seen.std)
    found: dict[str, list[float]] = {"distilled": [], "random real": [], "no memory": []}
    for seed in range(SEEDS):
        print(f"seed {seed + 1} of {SEEDS}: three networks, two tasks", flush=True)
        torch.manual_seed(seed)
        random = tasks[0][0][draw(tasks[0][1], classes[classes < FIRST].bincount())]
        memories = ((chosen, teacher(chosen)), (random, teacher(random)), None)
        for name, memory in zip(found, memories, strict=True):
            torch.manual_seed(seed)
            network = small_network()
            with torch.enable_grad():
                learn(network, tasks[0], None, epochs)
                learn(network, tasks[1], memory, epochs)
            found[name].append(accuracy(network, *test))
    print(f"{len(chosen)} images of the first digits in memory, {SEEDS} seeds:")
    for name, values in found.items():
        print(f"{name:<12} " + "  ".join(f"{100 * value:.1f} %" for value in values))
    return found


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)  # threads of so small a network mostly wait for each other
    main(sys.argv[1], *map(int, sys.argv[2:]))
