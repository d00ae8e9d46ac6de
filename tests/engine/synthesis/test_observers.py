"""The loss terms of EDC by the book, and what a unit may not inherit from another."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from raydd.engine.synthesis.loop import Recovery
from raydd.engine.synthesis.observers import MatchConfig, ObserverObjective, RunningStatistics
from raydd.models.observer import ObserverTap
from raydd.models.registry import ModelConfig, create_model
from raydd.ops import losses
from raydd.ops.seeds import generator

MEAN, STD, SIDE, CLASSES, PATCH = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), 16, 4, 4
CONFIG = MatchConfig(steps=4, batch_size=8, precision="fp32", crop_scale=(0.3, 1.0))
IDENTITY = torch.eye(SIDE)


@pytest.fixture(scope="module")
def observers():
    networks = []
    for seed, model in enumerate((ModelConfig("resnet10_thin", 8), ModelConfig("convnet2", 6))):
        torch.manual_seed(seed)
        network = create_model(model, CLASSES, SIDE)
        network(torch.randn(64, 3, SIDE, SIDE))
        networks.append(network.eval())
    return networks


def targets_of(observers):
    """Random targets; the class row depends on the labels."""
    widths = [sum(ObserverTap(network, SIDE, PATCH).sizes) for network in observers]

    def read(number, labels):
        draws = generator("targets", number)
        everything, *classes = torch.rand(1 + CLASSES, 2, widths[number], generator=draws)
        return torch.stack([everything, torch.stack([classes[y] for y in labels]).mean(0)])

    return read


def objective(observers, config):
    return ObserverObjective(observers, targets_of(observers), config, SIDE, PATCH, "cpu")


def images(count=8):
    return torch.randn(count, 3, SIDE, SIDE, generator=generator("images"))


LABELS = torch.arange(8) % CLASSES


def recover(observers, config, labels=LABELS, recovery=None):
    recovery = recovery or Recovery(objective(observers, config), config, MEAN, STD, SIDE, "cpu")
    shape = (len(labels), 3, SIDE, SIDE)
    start = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator("start"))
    return recovery.run(start, labels, (0, "unit"))


def plain_statistics_loss(network, batch, targets, alpha):
    """Sum over layers and statistics of unsquared norms, ten times for the first layer."""
    tap = ObserverTap(network, SIDE, PATCH)
    _, (mean, var) = tap(batch)
    total, begin = 0.0, 0
    for number, layer in enumerate(tap.layers):
        weight = 10.0 if number == 0 else 1.0
        for size in layer.sizes:
            part = slice(begin, begin := begin + size)
            for share, target in zip((alpha, 1 - alpha), targets, strict=True):
                gap = (mean[part] - target[0, part]).norm() + (var[part] - target[1, part]).norm()
                total = total + share * weight * gap
    tap.close()
    return total


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_statistics_term_equals_a_plain_transcription(observers, alpha):
    config = replace(CONFIG, alpha=alpha, flatness_weight=0.0)
    ours = objective(observers, config)
    batch = images().requires_grad_(True)
    for number, network in enumerate(observers):
        ours.begin(batch.detach(), LABELS)
        terms = ours.terms(batch, IDENTITY, IDENTITY, number)
        targets = targets_of(observers)(number, LABELS.tolist())
        loss = plain_statistics_loss(network, batch, targets, alpha)
        plain = F.cross_entropy(network(batch), LABELS) + config.statistics_weight * loss
        torch.testing.assert_close(terms["total"], plain, rtol=1e-4, atol=1e-4)
        pair = [torch.autograd.grad(value, batch)[0] for value in (terms["total"], plain)]
        torch.testing.assert_close(*pair, rtol=1e-3, atol=1e-5)


def test_with_alpha_at_its_end_the_classes_do_not_matter(observers):
    """G-VBSM: the targets of the classes may be anything, even not numbers."""
    read = targets_of(observers)

    def without_classes(number, labels):
        return torch.stack([read(number, labels)[0], torch.full_like(read(number, [0])[0], 1e9)])

    config = replace(CONFIG, alpha=1.0)
    plain = objective(observers, config)
    other = ObserverObjective(observers, without_classes, config, SIDE, PATCH, "cpu")
    totals = []
    for item in (plain, other):
        item.begin(images(), LABELS)
        totals.append(item.terms(images(), IDENTITY, IDENTITY, 0)["total"])
    assert totals[0] == totals[1]
    halved = objective(observers, replace(config, alpha=0.5))
    halved.begin(images(), LABELS)
    assert halved.terms(images(), IDENTITY, IDENTITY, 0)["total"] != totals[0]


def test_a_running_statistic_has_the_averages_value_and_the_newest_gradient():
    average = RunningStatistics(0.8)
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0], requires_grad=True)
    assert torch.equal(average(first), first)  # seeded by the first value
    value = average(second)
    torch.testing.assert_close(value, 0.8 * first + 0.2 * second)
    (gradient,) = torch.autograd.grad((value * torch.tensor([1.0, 5.0])).sum(), second)
    assert torch.equal(gradient, torch.tensor([1.0, 5.0]))  # that of the value itself, not a fifth


def test_the_codes_running_statistic_is_biased_towards_zero():
    average = RunningStatistics(0.8, from_zero=True)
    for step in range(1, 5):
        torch.testing.assert_close(average(torch.ones(2)), torch.full((2,), 1 - 0.8**step))


def test_each_step_asks_the_next_observer(observers):
    ours = objective(observers, CONFIG)
    ours.begin(images(), LABELS)
    asked = []
    for number, tap in enumerate(ours.taps):
        tap.register_forward_hook(lambda *_, number=number: asked.append(number))
    for step in range(5):
        ours.terms(images(), IDENTITY, IDENTITY, step)
    assert asked == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0]  # each also for the averaged images


def test_units_do_not_influence_each_other(observers):
    alone = recover(observers, CONFIG)
    recovery = Recovery(objective(observers, CONFIG), CONFIG, MEAN, STD, SIDE, "cpu")
    recover(observers, CONFIG, torch.zeros(5, dtype=torch.int64), recovery)
    after = recover(observers, CONFIG, recovery=recovery)
    assert torch.equal(after.images, alone.images)
    assert after.last == alone.last


def test_images_stay_in_the_valid_range_and_the_loss_falls(observers):
    config = replace(CONFIG, steps=30, learning_rate=0.05, crop=False, flip=False)
    result = recover(observers, config)
    assert result.images.dtype == torch.uint8
    assert result.last["statistics"] < result.first["statistics"]
    harsh = replace(config, learning_rate=5.0, steps=3)
    assert recover(observers, harsh).images.float().mean() > 0  # clamped, neither nan nor wrapped


def test_flatness_is_zero_where_images_are_their_average_and_moves_only_the_images(observers):
    ours = objective(observers, CONFIG)
    start = images()
    ours.begin(start, LABELS)
    assert ours.terms(start, IDENTITY, IDENTITY, 0)["flatness"].abs() < 1e-6
    moved = (start + 0.5).requires_grad_(True)
    term = ours.terms(moved, IDENTITY, IDENTITY, 0)["flatness"]
    assert term > 0
    network, tau = observers[0], CONFIG.flatness_temperature
    with torch.no_grad():
        reference = (network(start) / tau).log_softmax(1)
    current = (network(moved) / tau).log_softmax(1)
    plain = (current.exp() * (current - reference)).sum(1).mean()
    torch.testing.assert_close(term, plain, rtol=1e-4, atol=1e-6)
    pair = [torch.autograd.grad(value, moved)[0] for value in (term, plain)]
    torch.testing.assert_close(*pair, rtol=1e-3, atol=1e-6)


def test_the_average_of_the_images_follows_them_slowly(observers):
    ours = objective(observers, replace(CONFIG, flatness_decay=0.9))
    ours.begin(torch.zeros(8, 3, SIDE, SIDE), LABELS)
    ours.stepped(torch.ones(8, 3, SIDE, SIDE))
    torch.testing.assert_close(ours._average_images, torch.full((8, 3, SIDE, SIDE), 0.1))


def test_densification_spreads_the_images_of_a_class():
    same = images(1).repeat(4, 1, 1, 1) + 0.01 * images(4)
    labels = torch.zeros(4, dtype=torch.int64)
    leaf = same.clone().requires_grad_(True)
    loss = losses.densification_loss(leaf, labels)
    (gradient,) = torch.autograd.grad(loss, leaf)
    closer = losses.densification_loss(images(4), labels)
    assert loss > closer > 0  # four different images have the flatter spectrum
    assert losses.densification_loss(leaf - 0.5 * gradient, labels) < loss
    assert losses.densification_loss(images(4), torch.arange(4)) == 0


@pytest.mark.parametrize(
    "change",
    [{"flatness_weight": 1000.0}, {"momentum": 0.0}, {"momentum_start": "zero"}, {"alpha": 1.0},
     {"densification_weight": 1.0}, {"zeta": 2.0}],
)  # fmt: skip
def test_every_variant_runs_and_changes_the_images(observers, change):
    changed = recover(observers, replace(CONFIG, **change))
    assert not torch.equal(changed.images, recover(observers, CONFIG).images)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"start": "real_unnormalised"}, "start must be one of real, rded, noise"),
     ({"momentum_start": "second"}, "momentum_start must be"), ({"alpha": 1.5}, "alpha must lie"),
     ({"compile": True}, "compile=true is not offered")],
)  # fmt: skip
def test_what_cannot_run_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(CONFIG, **change)
