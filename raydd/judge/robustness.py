"""Stage ``robustness``: how accurate trained networks stay on disturbed test images.

A unit is one network: one Ray task, which leaves one json file. Every network sees the same images
under the same noise and from the same random starts, so that differences are the networks'.
Everything is computed in float32 and in batches padded to one size: an image's result does not
depend on its neighbours.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from upath import UPath

from raydd.cluster.tasks import run_many
from raydd.data.rows import pixel_array
from raydd.engine.cost import Cost
from raydd.engine.engine import Engine
from raydd.engine.passes.decode import decode_test
from raydd.models.layout import laid_out
from raydd.models.preprocess import normalise, pad_batch
from raydd.ops.attacks import add_noise, attack_pgd
from raydd.ops.configs import check_at_least_one
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import load_frozen
from raydd.store.files import write_atomic
from raydd.store.images import draw_rows
from raydd.store.units import Marker

_BATCH = 100
_UNITS = Marker("units/{}.json")


@dataclass
class RobustnessConfig:
    """How test images are disturbed.

    Attributes:
        noise: standard deviations of Gaussian noise, pixels in [0, 1].
        pgd: largest changes of a value by projected gradient descent, 255ths.
        pgd_steps: gradient steps.
        pgd_step: size of a step, as a multiple of the largest change.
        images: how many test images are drawn; 0 takes all.
    """

    noise: list[float] = field(default_factory=lambda: [0.05, 0.1, 0.2])
    pgd: list[float] = field(default_factory=lambda: [1.0, 2.0, 4.0])
    pgd_steps: int = 10
    pgd_step: float = 0.25
    images: int = 1000

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_at_least_one(self, "pgd_steps")
        if not all(0 < sigma <= 1 for sigma in self.noise):
            raise ValueError(f"noise takes deviations in (0, 1], got {self.noise}")
        if not all(0 < epsilon <= 255 for epsilon in self.pgd):
            raise ValueError(f"pgd takes changes in (0, 255] (255ths), got {self.pgd}")
        if self.pgd_step <= 0 or self.images < 0:
            raise ValueError("pgd_step must be above 0 and images at least 0")


def measure_robustness(
    engine: Engine,
    networks: Mapping[str, UPath],
    config: RobustnessConfig,
    inputs: Sequence[Artifact],
    title: str,
) -> Artifact:
    """Try trained networks on clean, noisy and attacked test images.

    Args:
        engine: of the run.
        networks: folders as :func:`raydd.store.checkpoint.save_checkpoint` leaves them, by name.
        config: disturbances.
        inputs: what the networks come from.
        title: what the progress line says.
    Returns:
        Artifact with the summary::

            {"images": how many were drawn,
             "results": [{"name", "clean", "noise": {"0.1": accuracy}, "pgd": {"2": accuracy}}]}

        Accuracies in [0, 1], in the order of the checkpoints.
    """
    test = decode_test(engine)

    def work(folder: UPath) -> dict[str, Any]:
        (folder / "units").mkdir(parents=True, exist_ok=True)
        common = (str(test.folder), config, engine.seed, engine.resources.device)
        jobs = [
            _Job(str(_UNITS.path(folder, f"{number:05d}")), str(network), *common)
            for number, network in enumerate(networks.values())
        ]
        found = run_many(_measure, jobs, engine.resources)
        return {
            "images": found[0]["images"] if found else 0,
            "results": [
                {"name": name, **unit["accuracies"]}
                for name, unit in zip(networks, found, strict=True)
            ],
        }

    return engine.stages.run(
        "robustness",
        work,
        inputs=[test, *inputs],
        config={"robustness": config, "names": list(networks)},
        seed=engine.seed,
        cost=lambda: Cost(
            reads=len(networks) * (config.images or engine.num_tests) * engine.pixel_bytes,
            divides="tasks",
        ),
        expected=dict,
        title=title,
        units=len(networks),
        done=[_UNITS],
    )


@dataclass(frozen=True)
class _Job:
    """One network; ``path`` is the file of the finished unit."""

    path: str
    checkpoint: str
    test: str
    config: RobustnessConfig
    seed: int
    device: str


def _measure(job: _Job) -> dict[str, Any]:
    """Try one network, or read what an earlier try has found."""
    path = UPath(job.path)
    if path.exists():
        return json.loads(path.read_text())
    device = torch.device(job.device)
    network, card = load_frozen(UPath(job.checkpoint), device)
    mean, std = card.preprocessing.mean, card.preprocessing.std

    def logits(images: Tensor) -> Tensor:
        seen = normalise(255 * images, mean, std)
        return network(laid_out(seen, network))

    right: Counter[tuple[str, str]] = Counter()
    count = 0
    images = _drawn(job, card.preprocessing.resolution)
    while group := list(islice(images, _BATCH)):
        positions, pixels, labels = map(list, zip(*group, strict=True))
        spare = [0] * (_BATCH - len(group))
        batch = pad_batch(torch.stack(pixels), _BATCH).to(device).float() / 255
        truth = torch.tensor(labels + spare, device=device)
        for name, view in _views(logits, batch, truth, positions + spare, job):
            with torch.inference_mode():
                hits = logits(view).argmax(1) == truth
            right[name] += int(hits[: len(group)].sum())
        count += len(group)
    found = {"images": count, "accuracies": _accuracies(right, count)}
    write_atomic(path, json.dumps(found).encode())
    return found


def _drawn(job: _Job, side: int) -> Iterator[tuple[int, Tensor, int]]:
    """Position, pixels uint8 [3, R, R] and class of each drawn image."""
    for positions, table in draw_rows(
        [UPath(job.test)], job.config.images, job.seed, "robustness", "images"
    ):
        pixels = torch.from_numpy(pixel_array(table["pixels"], side)).permute(0, 3, 1, 2)
        yield from zip(positions.tolist(), pixels, table["class_index"].to_pylist(), strict=True)


def _views(
    logits: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    positions: Sequence[int],
    job: _Job,
) -> Iterator[tuple[tuple[str, str], Tensor]]:
    """Every disturbance of a batch, with its kind and level."""
    config, parts = job.config, (job.seed, "robustness")
    yield ("clean", ""), images
    for sigma in config.noise:
        yield ("noise", f"{sigma:g}"), add_noise(images, sigma, positions, *parts, "noise")
    for level in config.pgd:
        epsilon = level / 255
        size = config.pgd_step * epsilon
        yield (
            ("pgd", f"{level:g}"),
            attack_pgd(
                logits, images, labels, epsilon, config.pgd_steps, size, positions, *parts, "pgd"
            ),
        )


def _accuracies(right: Counter[tuple[str, str]], count: int) -> dict[str, Any]:
    found: dict[str, Any] = {"clean": right["clean", ""] / count, "noise": {}, "pgd": {}}
    for (kind, level), hits in right.items():
        if kind != "clean":
            found[kind][level] = hits / count
    return found
