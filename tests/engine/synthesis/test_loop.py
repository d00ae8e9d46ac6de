"""Claims about raydd.engine.synthesis.loop: the invariants of the recover loop."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raydd.engine.synthesis.loop import Recovery
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherObjective
from raydd.models.precision import LossScale
from raydd.models.registry import ModelConfig, create_model
from raydd.ops.augment import apply_view, view_matrices
from raydd.ops.seeds import generator

MEAN, STD, SIDE, CLASSES = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), 16, 10
CONFIG = SynthesisConfig(steps=3, roll=(0, 4), precision="fp32")
SRE2L = replace(CONFIG, start="noise", start_weight=0.0, adversarial_weight=0.0)


def _network(seed):
    torch.manual_seed(seed)
    network = create_model(ModelConfig("resnet10_thin", width=8), CLASSES, SIDE)
    network(torch.randn(64, 3, SIDE, SIDE))
    return network.eval()


@pytest.fixture(scope="module")
def teacher():
    return _network(0)


@pytest.fixture(scope="module")
def student():
    return _network(1)


def _start(count=CLASSES):
    shape = (count, 3, SIDE, SIDE)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator("start"))


def _run(teacher, student, config, start=None, count=CLASSES, seed=0):
    start = _start(count) if start is None else start
    labels = torch.arange(count) % CLASSES
    return _recovery(teacher, student, config).run(start, labels, (seed, "unit"))


def _recovery(teacher, student, config, mean=MEAN, std=STD):
    objective = TeacherObjective(teacher, student, config, "cpu")
    return Recovery(objective, config, mean, std, SIDE, "cpu")


def _terms(recovery, images, origin, labels, view):
    recovery.objective.begin(origin, labels)
    return recovery.objective.terms(images, *view_matrices(view, SIDE), 0)


def test_a_run_repeats_and_another_seed_differs(teacher, student):
    first = _run(teacher, student, CONFIG)
    again = _run(copy.deepcopy(teacher), copy.deepcopy(student), CONFIG)
    other = _run(teacher, student, CONFIG, seed=1)
    assert torch.equal(first.images, again.images)
    assert first.last == again.last
    assert not torch.equal(first.images, other.images)


def test_units_do_not_influence_each_other(teacher, student):
    recovery = _recovery(teacher, student, CONFIG)
    labels = torch.arange(CLASSES)
    torch.manual_seed(5)
    recovery.run(_start(), labels, (0, "another"))
    torch.manual_seed(6)
    second = recovery.run(_start(), labels, (0, "unit"))
    assert torch.equal(second.images, _run(teacher, student, CONFIG).images)


def test_the_memory_layout_of_the_start_does_not_matter(teacher, student):
    start = _start()
    config = SynthesisConfig(steps=4, roll=(0, 4), precision="fp32")
    usual = _run(teacher, student, config, start)
    other = _run(teacher, student, config, start.contiguous(memory_format=torch.channels_last))
    assert torch.equal(usual.images, other.images)


def test_networks_of_the_caller_stay_untouched(teacher, student):
    before = copy.deepcopy(teacher.state_dict())
    _run(teacher, student, replace(CONFIG, precision="bf16"))
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(module._forward_pre_hooks for module in teacher.modules())


def test_the_start_loss_is_zero_at_the_first_step_only(teacher, student):
    result = _run(teacher, student, CONFIG)
    assert result.first["start"] == 0
    assert result.last["start"] > 0


def test_a_start_at_rest_is_returned_exactly(teacher):
    config = replace(CONFIG, steps=1, learning_rate=0.0)
    assert torch.equal(_run(teacher, None, config).images, _start())


def test_the_unnormalised_start_is_the_low_contrast_image_of_the_official_code(teacher):
    config = replace(CONFIG, steps=1, learning_rate=0.0, start="real_unnormalised")
    images = _run(teacher, None, config).images
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    expected = (mean + std * _start() / 255) * 255
    assert (images - expected).abs().max() <= 0.51


@pytest.mark.parametrize("start", ["real", "noise"])
def test_a_scaled_statistics_term_weighs_the_same_for_any_network(start):
    for seed, width in ((2, 8), (3, 24)):
        torch.manual_seed(seed)
        network = create_model(ModelConfig("resnet10_thin", width=width), CLASSES, SIDE).eval()
        whole = {"crop": False, "flip": False, "roll": (0, 0), "start": start, "start_weight": 0.0}
        config = replace(CONFIG, **whole, batch_norm_weight=0.5, scale_statistics=True)
        first = _run(network, None, config).first
        assert first["batch_norm"] > 1  # what it is multiplied by differs between the networks
        expected = first["cross_entropy"] + 0.5 * math.log(CLASSES)
        assert first["total"] == pytest.approx(expected, rel=1e-4)


def test_zero_extra_weights_make_a_student_irrelevant(teacher, student):
    with_student = _run(teacher, student, SRE2L)
    without = _run(teacher, None, SRE2L)
    assert torch.equal(with_student.images, without.images)
    assert "adversarial" not in with_student.last
    assert "start" not in with_student.last


def _sre2l_by_the_book(teacher, config, seed_parts):
    """SRe2L as specified, float32, hooks and all; only the draws of the views are ours."""
    gaps = []

    def hook(norm, inputs, output):
        z = inputs[0]
        gaps.append(
            (z.mean((0, 2, 3)) - norm.running_mean).norm()
            + (z.var((0, 2, 3), unbiased=False) - norm.running_var).norm()
        )

    network = copy.deepcopy(teacher)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_hook(hook)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    images = torch.randn(CLASSES, 3, SIDE, SIDE, generator=generator(*seed_parts, "noise"))
    images.requires_grad_(True)
    adam = torch.optim.Adam([images], lr=config.learning_rate, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, config.steps)
    views = _recovery(teacher, None, config)._draw_views(CLASSES, seed_parts)
    for step in range(config.steps):
        gaps.clear()
        view = type(views)(*(draws[step] for draws in views))
        logits = network(apply_view(images, *view_matrices(view, SIDE)))
        adam.zero_grad()
        # resnet10_thin calls its norms in another order than it lists them, but the stem is first
        loss = F.cross_entropy(logits, torch.arange(CLASSES)) + 0.01 * (9 * gaps[0] + sum(gaps))
        loss.backward()
        adam.step()
        schedule.step()
        images.data = torch.clamp(images.data, -mean / std, (1 - mean) / std)
    return ((images.detach() * std + mean) * 255).round().to(torch.uint8)


def test_with_noise_and_no_extra_weights_the_loop_is_sre2l(teacher):
    expected = _sre2l_by_the_book(teacher, SRE2L, (0, "unit"))
    ours = _run(teacher, None, SRE2L).images
    # Adam's first steps take the sign of the gradient: a pixel whose gradient is rounding noise
    # may go either way, so not every pixel can agree
    assert (ours.int() - expected.int()).abs().le(1).float().mean() > 0.999


def test_the_gradient_of_all_terms_equals_a_plain_transcription(teacher, student):
    config = replace(CONFIG, total_variation_weight=1e-3, l2_weight=1e-3)
    recovery = _recovery(teacher, student, config)
    views = recovery._draw_views(CLASSES, (0, "unit"))
    view = type(views)(*(draws[0] for draws in views))
    origin = recovery._start(_start(), CLASSES, (0,))
    images = (origin + 0.1).requires_grad_(True)
    # labels the teacher agrees with in half of the rows, so that the mask has both values
    seen = apply_view(images, *view_matrices(view, SIDE))
    labels = teacher(seen).argmax(1)
    labels[::2] = (labels[::2] + 1) % CLASSES
    terms = _terms(recovery, images, origin, labels, view)
    (ours,) = torch.autograd.grad(terms["total"], images)

    gaps = []
    network = copy.deepcopy(teacher)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.register_forward_hook(
                lambda n, i, o: gaps.append(
                    (i[0].mean((0, 2, 3)) - n.running_mean).norm()
                    + (i[0].var((0, 2, 3), unbiased=False) - n.running_var).norm()
                )
            )
    logits = network(seen)
    mask = (logits.argmax(1) == labels).float()[:, None]
    confidence = F.softmax(student(seen) * mask, 1).gather(1, labels[:, None])
    plain = F.cross_entropy(logits, labels) + 0.01 * (9 * gaps[0] + sum(gaps))
    plain = plain + F.mse_loss(seen, apply_view(origin, *view_matrices(view, SIDE)))
    plain = plain - torch.log(1 - confidence + 1e-12).mean()
    tv = [
        seen[..., 1:] - seen[..., :-1],
        seen[..., 1:, :] - seen[..., :-1, :],
        seen[..., 1:, 1:] - seen[..., :-1, :-1],
        seen[..., 1:, :-1] - seen[..., :-1, 1:],
    ]
    plain = plain + 1e-3 * sum(d.norm() for d in tv) + 1e-3 * seen.flatten(1).norm(dim=1).mean()
    (expected,) = torch.autograd.grad(plain, images)
    assert 0 < mask.sum() < CLASSES
    torch.testing.assert_close(terms["total"], plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_adversarial_weight_reaches_only_rows_the_teacher_gets_right(teacher, student):
    config = replace(CONFIG, batch_norm_weight=0.0, start_weight=0.0)
    recovery = _recovery(teacher, student, config)
    views = recovery._draw_views(CLASSES, (0, "unit"))
    view = type(views)(*(draws[0] for draws in views))
    images = recovery._start(_start(), CLASSES, (0,)).requires_grad_(True)
    labels = teacher(apply_view(images, *view_matrices(view, SIDE))).argmax(1)
    labels[:4] = (labels[:4] + 1) % CLASSES
    terms = _terms(recovery, images, images.detach(), labels, view)
    (grad,) = torch.autograd.grad(terms["adversarial"], images)
    per_row = grad.flatten(1).abs().amax(1)
    assert (per_row[:4] == 0).all()
    assert (per_row[4:] > 0).all()
    assert terms["teacher_correct"] == pytest.approx(0.6)


def test_optimising_lowers_the_loss_it_is_given(teacher, student):
    config = replace(CONFIG, steps=40, learning_rate=0.05, crop=False, flip=False, roll=(0, 0))
    result = _run(teacher, student, config)
    assert result.last["total"] < 0.85 * result.first["total"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_partial_block_works(teacher, student, count):
    result = _run(teacher, student, CONFIG, count=count)
    assert result.images.shape == (count, 3, SIDE, SIDE)
    assert result.images.dtype == torch.uint8


def test_raw_pixel_teachers_need_only_mean_zero_and_std_one(teacher):
    labels = torch.arange(CLASSES)
    config = replace(SRE2L, learning_rate=0.0, steps=1)
    raw = _recovery(teacher, None, config, (0,) * 3, (1,) * 3).run(None, labels, (0,))
    noise = torch.randn(CLASSES, 3, SIDE, SIDE, generator=generator(0, "noise"))
    assert torch.equal(raw.images, (noise.clamp(0, 1) * 255).round().to(torch.uint8))


@pytest.mark.parametrize(
    "change",
    [
        {"view_per_image": True},
        {"crop_schedule": "cosine"},
        {"crop": False, "flip": False},
        {"adversarial_smoothing": 0.1},
    ],
)
def test_every_variant_runs_and_changes_the_images(teacher, student, change):
    changed = _run(teacher, student, replace(CONFIG, **change))
    assert not torch.equal(changed.images, _run(teacher, student, CONFIG).images)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_close_to_fp32(teacher, student, precision):
    exact = _run(teacher, student, CONFIG)
    rough = _run(teacher, student, replace(CONFIG, precision=precision))
    for name in ("cross_entropy", "batch_norm"):
        assert rough.first[name] == pytest.approx(exact.first[name], rel=0.01)


@pytest.mark.parametrize("half", ["bf16", "fp16"])
def test_the_half_gradient_points_where_the_fp32_gradient_points(teacher, student, half):
    gradients = []
    for precision in ("fp32", half):
        recovery = _recovery(teacher, student, replace(CONFIG, precision=precision))
        views = recovery._draw_views(CLASSES, (0, "unit"))
        view = type(views)(*(draws[0] for draws in views))
        images = recovery._start(_start(), CLASSES, (0,)).requires_grad_(True)
        terms = _terms(recovery, images, images.detach(), torch.arange(CLASSES), view)
        gradient = LossScale(recovery.dtype, recovery.device).gradient(terms["total"], images)
        gradients.append(gradient.flatten())
    assert F.cosine_similarity(*gradients, dim=0) > 0.97


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"start": "zeros"}, "start must be one of"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"start": "noise"}, "set start_weight=0"),
        ({"steps": 0}, "at least 1"),
        ({"crop_scale": (0.5, 0.1)}, "crop_scale must rise"),
        ({"roll": (4, 0)}, "roll must be"),
    ],
)
def test_configs_that_cannot_run_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        SynthesisConfig(**change)


def test_a_missing_start_or_missing_norms_are_refused(teacher):
    with pytest.raises(ValueError, match="needs uint8 images"):
        _run(teacher, None, CONFIG, start=torch.zeros(CLASSES, 3, SIDE, SIDE))
    plain = create_model(ModelConfig("convnet2", width=4, norm="none"), CLASSES, SIDE)
    with pytest.raises(ValueError, match="no BatchNorm layer"):
        _run(plain, None, CONFIG)
