"""Optimising images on a device: no copy and no read in a step, and the numbers of the CPU."""

import pytest
import torch

from device.small import MEAN, SIDE, STD, network, pixels
from device.virtual import DEVICE, per_step, virtual
from raydd.engine.synthesis.loop import Recovery
from raydd.engine.synthesis.observers import MatchConfig, ObserverObjective
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherObjective
from raydd.models.observer import ObserverTap
from raydd.models.registry import ModelConfig
from small_engine import TINY

LAUNCHES = 500  # of a step with a ResNet-18 as teacher and one as student
PLAIN = {"roll": (0, 4), "precision": "fp32"}


@pytest.fixture(scope="module")
def pair():
    return [network(seed=seed) for seed in (0, 1)]


def recover(networks, steps, device, **values):
    config = SynthesisConfig(steps=steps, **(PLAIN | values))
    objective = TeacherObjective(*networks, config, device)
    recovery = Recovery(objective, config, MEAN, STD, SIDE, device)
    start = None if config.start == "noise" else pixels(4)
    return recovery.run(start, torch.arange(4), (0, "unit"))


VARIANTS = {
    "teacher alone": {"adversarial_weight": 0.0},
    "with a student": {},
    "every prior and a view per image": {
        "view_per_image": True, "total_variation_weight": 0.1, "l2_weight": 0.1,
        "adversarial_smoothing": 0.1,
    },
    "noise and no crop": {"start": "noise", "start_weight": 0.0, "crop": False},
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_a_recover_step_neither_copies_nor_reads_and_gives_the_images_of_the_cpu(name, pair):
    step, found = per_step(lambda steps: recover(pair, steps, DEVICE, **VARIANTS[name]))
    assert not step.copies
    assert not step.reads
    expected = recover(pair, 2, "cpu", **VARIANTS[name])
    assert torch.equal(found.images, expected.images)
    assert found.first == expected.first
    assert found.last == expected.last


def test_a_recover_step_of_two_resnets_of_18_layers_stays_below_its_launches():
    pair = [network(ModelConfig("resnet18_small", width=8), seed) for seed in (0, 1)]
    step, _ = per_step(lambda steps: recover(pair, steps, DEVICE))
    assert step.launches.total() <= LAUNCHES
    assert not step.copies
    assert not step.reads


@pytest.fixture(scope="module")
def observers():
    models = (ModelConfig("convnet3", width=4), TINY, ModelConfig("convnet2", width=4))
    return [network(model, side=32) for model in models]


def match(observers, steps, device, side, **values):
    config = MatchConfig(steps=steps, precision="fp32", **values)
    widths = []
    for observer in observers:
        tap = ObserverTap(observer, side, 4)
        widths.append(sum(tap.sizes))
        tap.close()
    draws = torch.Generator().manual_seed(0)
    targets = [torch.rand(2, 2, width, generator=draws) for width in widths]
    objective = ObserverObjective(observers, lambda k, _: targets[k], config, side, 4, device)
    recovery = Recovery(objective, config, MEAN, STD, side, device)
    return recovery.run(pixels(4, side), torch.tensor([0, 0, 1, 2]), (0, "unit"))


@pytest.mark.parametrize("densification", [0.0, 0.5])
def test_a_step_against_observers_neither_copies_nor_reads(densification, observers):
    values = {"side": 32, "densification_weight": densification}
    step, found = per_step(lambda steps: match(observers, steps, DEVICE, **values), 3, 6)
    assert not step.copies
    assert not step.reads
    expected = match(observers, 6, "cpu", **values)
    assert torch.equal(found.images, expected.images)
    assert found.last == expected.last


def test_enlarged_layers_have_a_gradient_that_cuda_repeats():
    """A layer of 2 pixels, tiles of 4: torch's own gradient of enlarging adds in any order."""
    observer = [network()]
    expected = match(observer, 2, "cpu", SIDE)
    with virtual() as counts:
        found = match(observer, 2, DEVICE, SIDE)
    assert not any(name.startswith("upsample") and "backward" in name for name in counts.launches)
    assert counts.launches["upsample_bilinear2d"]
    # the CPU keeps torch's: equal within rounding
    torch.testing.assert_close(found.last["total"], expected.last["total"], rtol=1e-4, atol=0)
