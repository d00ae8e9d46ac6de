"""What every loop sees of cuDNN: on, and with kernels that repeat themselves."""

import pytest
import torch
from torch import nn
from upath import UPath

from device.small import MEAN, SIDE, STD, network, pixels, save_network, train_job
from raydd.engine.generator.checkpoint import save_generator
from raydd.engine.generator.config import GeneratorRecipe
from raydd.engine.generator.train import GeneratorJob, train_generator
from raydd.engine.labels.views import FixedTeacher
from raydd.engine.sampling.config import SampleConfig
from raydd.engine.sampling.sampler import Sampler
from raydd.engine.synthesis.loop import Recovery
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherObjective
from raydd.engine.training.data import Feed
from raydd.engine.training.loop import train_network
from raydd.ops.recipe import Recipe
from small_engine import write_images
from small_generator import pixel_generator, small_generator


def flags():
    cudnn = torch.backends.cudnn
    return {name: getattr(cudnn, name) for name in ("enabled", "deterministic", "benchmark")}


def recover(folder):
    config = SynthesisConfig(steps=1, precision="fp32")
    objective = TeacherObjective(network(), network(seed=1), config, "cpu")
    recovery = Recovery(objective, config, MEAN, STD, SIDE, "cpu")
    return lambda: recovery.run(pixels(2), torch.arange(2), (0,))


def sample(folder):
    sampler = Sampler(pixel_generator(), SampleConfig(steps=2, precision="fp32"), "cpu")
    return lambda: sampler.run([1, 2], [0, 0], 0)


def train(folder):
    recipe = Recipe(epochs=1, batch_size=20, precision="fp32")
    images = write_images(folder / "images", 20)
    job = train_job(folder / "run", images, recipe, "cpu", teacher=save_network(folder / "teacher"))
    return lambda: train_network(job)


def train_a_generator(folder):
    start = folder / "start"
    start.mkdir()
    save_generator(UPath(start), small_generator())
    feed = Feed((write_images(folder / "images", 20),), SIDE, 20, 10, (0, "g"))
    recipe = GeneratorRecipe(steps=1, batch_size=10, precision="fp32")
    job = GeneratorJob(str(folder), str(start), feed, recipe, 0.5, "g", None, "cpu")
    return lambda: train_generator(job)


def ask(folder):
    teacher = FixedTeacher(UPath(save_network(folder / "teacher")), 4, torch.device("cpu"))
    return lambda: teacher.logits(torch.rand(4, 3, SIDE, SIDE))


@pytest.mark.parametrize("prepare", [recover, sample, train, train_a_generator, ask])
def test_cudnn_is_on_and_repeatable_inside(prepare, tmp_path):
    seen, before, loop = [], flags(), prepare(tmp_path)

    def note(module, inputs):
        if isinstance(module, nn.Conv2d):
            seen.append(flags())

    hook = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        loop()
    finally:
        hook.remove()
    assert seen
    wanted = {"enabled": True, "deterministic": True, "benchmark": False}
    assert all(found == wanted for found in seen)
    assert flags() == before
