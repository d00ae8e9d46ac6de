"""Dtypes under CUDA's autocast: products in bfloat16, losses and statistics in float32."""

import pytest
import torch

from device.fake_cuda import fake_cuda
from device.small import MEAN, SIDE, STD, network
from raydd.engine.synthesis.observers import MatchConfig, ObserverObjective
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherObjective
from raydd.models.precision import autocast
from raydd.models.preprocess import normalise
from raydd.models.registry import ModelConfig
from raydd.ops.recipe import Recipe, training_loss
from raydd.ops.seeds import generator
from raydd.ops.views.batch import augment_batch, mix_batch
from raydd.ops.views.draws import draw_batch
from small_engine import TINY

CUDA = torch.device("cuda:0")
MODELS = (TINY, ModelConfig("torchvision/mobilenet_v2"), ModelConfig("vit_tiny"))


def images(count=4):
    return torch.rand(count, 3, SIDE, SIDE, device=CUDA, requires_grad=True)


def view():
    return torch.eye(SIDE, device=CUDA), torch.eye(SIDE, device=CUDA)


@pytest.mark.parametrize(("model", "precision"), [(TINY, "fp32"), *((m, "auto") for m in MODELS)])
def test_every_term_against_a_teacher_is_float32_on_the_device(model, precision):
    pair = [network(model, seed) for seed in (0, 1)]
    config = SynthesisConfig(
        precision=precision, total_variation_weight=0.1, l2_weight=0.1,
        batch_norm_weight=0.0 if model.name == "vit_tiny" else 0.01,
    )  # fmt: skip
    with fake_cuda():
        objective = TeacherObjective(*pair, config, CUDA)
        objective.begin(images().detach(), torch.arange(4, device=CUDA))
        terms = objective.terms(images(), *view(), 0)
        kinds = {weight.dtype for weight in objective.teacher.parameters() if weight.dim() == 4}
    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert {term.device for term in terms.values()} == {CUDA}
    assert kinds == {torch.bfloat16 if precision == "auto" else torch.float32}


def test_every_term_against_an_observer_is_float32_on_the_device():
    observer = network()
    config = MatchConfig(precision="auto", densification_weight=0.1)
    with fake_cuda():

        def targets(number, labels):
            return torch.rand(2, 2, sum(objective.taps[0].sizes))

        objective = ObserverObjective([observer], targets, config, SIDE, 4, CUDA)
        objective._labels = torch.arange(4, device=CUDA)  # begin reads labels, which hold nothing
        objective._targets = [targets(0, ()).to(CUDA)]
        objective._averages = [lambda statistics: statistics]
        objective._average_images = images().detach()
        terms = objective.terms(images(), *view(), 0)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert {term.device for term in terms.values()} == {CUDA}


@pytest.mark.parametrize(("model", "mix"), [(TINY, "mixup"), *((m, "cutmix") for m in MODELS)])
def test_a_training_step_keeps_its_views_and_loss_in_float32(model, mix):
    trained = network(model).train()
    recipe = Recipe(mix=mix, color_jitter=0.1, lighting=0.1)
    drawn = draw_batch(4, recipe, SIDE, 0.5, generator("views"))
    with fake_cuda():
        trained.to(CUDA).to(memory_format=torch.channels_last)
        pixels = torch.zeros(4, 3, SIDE, SIDE, dtype=torch.uint8, device=CUDA)
        there = type(drawn)(**{k: v.to(CUDA) for k, v in vars(drawn).items() if v is not None})
        views = normalise(augment_batch(pixels, there, recipe, SIDE), MEAN, STD)
        mixed, how = mix_batch(views, there)
        with autocast(CUDA, torch.bfloat16):
            logits = trained(mixed.contiguous(memory_format=torch.channels_last))
        loss = training_loss(
            logits, torch.zeros(4, dtype=torch.long, device=CUDA), None, how, recipe
        )
    assert (mixed.dtype, logits.dtype, loss.dtype) == (
        torch.float32, torch.bfloat16, torch.float32,
    )  # fmt: skip
    assert loss.device == CUDA
