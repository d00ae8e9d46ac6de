"""Training and fine-tuning generators: learning, resume, class dropout, what moves."""

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from upath import UPath

from raydd.engine.generator.checkpoint import load_generator, save_generator
from raydd.engine.generator.config import GeneratorConfig, GeneratorRecipe, MinimaxConfig
from raydd.engine.generator.stage import generator, tune
from raydd.engine.generator.train import GeneratorJob, _Training, train_generator
from raydd.engine.passes.stream import DataConfig
from raydd.engine.training.data import Feed
from raydd.store.journal import read_events
from small_engine import make_engine, write_images
from small_generator import NAMES, SMALL, small_generator

RECIPE = GeneratorRecipe(
    steps=10, batch_size=32, learning_rate=1e-3, average_decay=0.9, checkpoint_seconds=0.0
)
MINIMAX = MinimaxConfig(
    steps=10, batch_size=32, average_decay=0.9, memory=4, checkpoint_seconds=0.0
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "real")


def job(folder, images, recipe=RECIPE, latent=False):
    folder.mkdir(parents=True)
    save_generator(UPath(folder / "start"), small_generator(latent=latent))
    return GeneratorJob(
        folder=str(folder),
        start=str(folder / "start"),
        feed=Feed((images,), 16, 200, recipe.batch_size, (0, "test")),
        recipe=recipe,
        flip=0.5,
        stage="generator",
        journal=str(folder / "metrics.jsonl"),
        device="cpu",
    )


def state(folder):
    return load_generator(UPath(folder)).state_dict()


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_training_lowers_the_loss_and_says_so(tmp_path, images):
    recipe = replace(RECIPE, steps=150, learning_rate=3e-3, checkpoint_seconds=60)
    outcome = train_generator(job(tmp_path / "a", images, recipe))
    lines = list(read_events(UPath(tmp_path / "a")))
    assert [line["step"] for line in lines] == [50, 100, 150]
    assert lines[-1]["loss"] == outcome["loss"] < 0.6 * lines[0]["loss"]
    assert load_generator(UPath(tmp_path / "a")).card.class_names == NAMES


@pytest.mark.parametrize("recipe", [RECIPE, MINIMAX])
def test_an_interrupted_training_ends_with_the_weights_of_a_calm_one(tmp_path, images, recipe):
    """Steps 1 to 9 lie in two epochs: it continues in the midst of the second."""
    calm, broken = (job(tmp_path / name, images, recipe, True) for name in ("calm", "broken"))
    train_generator(calm)
    short = replace(broken, recipe=replace(recipe, steps=9))
    training = _Training(short, 0, 1)
    training._finish = lambda: {}
    training.run()
    assert (tmp_path / "broken" / "state.pt").exists()
    train_generator(broken)
    assert same(state(tmp_path / "calm"), state(tmp_path / "broken"))
    assert not same(state(tmp_path / "calm"), state(tmp_path / "calm" / "start"))


@pytest.mark.slow
def test_a_killed_training_ends_with_the_weights_of_a_calm_one(tmp_path, images):
    recipe = replace(RECIPE, steps=100)
    calm, killed = (job(tmp_path / name, images, recipe) for name in ("calm", "killed"))
    script = (
        "import pickle, sys, torch\n"
        "from raydd.engine.generator.train import train_generator\n"
        "torch.set_num_threads(1)\ntrain_generator(pickle.load(open(sys.argv[1], 'rb')))\n"
    )
    (tmp_path / "train.py").write_text(script)
    (tmp_path / "job").write_bytes(pickle.dumps(killed))
    process = subprocess.Popen([sys.executable, tmp_path / "train.py", tmp_path / "job"])
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "outcome.json").exists(), "the kill came too late"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    train_generator(calm)
    train_generator(killed)
    torch.set_num_threads(before)
    assert same(state(tmp_path / "calm"), state(tmp_path / "killed"))


def test_classes_are_dropped_as_often_as_asked_and_never_others(tmp_path, images):
    training = _Training(job(tmp_path / "a", images, replace(RECIPE, class_dropout=0.3)), 0, 1)
    seen, batches = [], list(training.data.batches(0))
    training.model = lambda noisy, times, ids: (
        seen.append(ids) or torch.zeros(len(ids), 6, 16, 16, requires_grad=True)
    )
    for training.step in range(40):
        batch = batches[training.step % len(batches)]
        training._loss(batch)
        kept = seen[-1] != training.generator.null_class
        assert torch.equal(seen[-1][kept], batch.labels[kept])
    share = (torch.cat(seen) == training.generator.null_class).float().mean()
    assert abs(float(share) - 0.3) < 0.05


def test_ranks_share_the_draws_of_the_whole_batch(tmp_path, images, monkeypatch):
    """Two ranks together see what one alone would: noise, timesteps and classes."""
    monkeypatch.setattr("ray.train.torch.prepare_model", lambda network, **_: network)
    made = job(tmp_path / "a", images)
    seen = []
    for rank, world in ((0, 1), (0, 2), (1, 2)):
        training = _Training(made, rank, world)
        taken = []
        training.model = lambda *inputs, taken=taken: (
            taken.extend(inputs) or torch.zeros(len(inputs[0]), 6, 16, 16)
        )
        training._loss(next(training.data.batches(0)))
        seen.append(taken)
    alone, first, second = seen
    for whole, even, odd in zip(alone, first, second, strict=True):
        assert torch.equal(whole[0::2], even)
        assert torch.equal(whole[1::2], odd)


def test_fine_tuning_moves_the_few_weights_of_diffit_and_no_vae(tmp_path, images):
    train_generator(job(tmp_path / "a", images, MINIMAX, latent=True))
    before, after = state(tmp_path / "a" / "start"), state(tmp_path / "a")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("vae") for name in changed)
    scaled = ("attn1.to_out.0.weight", "ff.net.2.weight")
    for name in changed:
        first = name.startswith("transformer.transformer_blocks.0.") and name.endswith(scaled)
        assert name.endswith(".bias") or "class_embedder" in name or first, name
    assert {name.rsplit(".", 1)[-1] for name in changed} == {"weight", "bias"}
    assert any(name.endswith(scaled) for name in changed)


def test_the_stages_train_and_tune_on_the_digits(ray4, tmp_path):
    engine = make_engine(tmp_path)
    config = GeneratorConfig(**SMALL, recipe=replace(RECIPE, steps=3))
    trained = generator(engine, config)
    tuned = tune(engine, trained, replace(MINIMAX, steps=2))
    assert trained.summary["steps"] == 3
    assert (tuned.summary["licence"], tuned.summary["resolution"]) == ("as the training images", 16)
    assert not same(state(trained.folder), state(tuned.folder))
    seconds = replace(config.recipe, checkpoint_seconds=9.0)
    assert generator(engine, replace(config, recipe=seconds)).key == trained.key
    assert generator(engine, replace(config, width=64)).key != trained.key


@pytest.mark.slow
def test_three_workers_share_a_batch_of_32(ray4, tmp_path):
    engine = make_engine(tmp_path, num_workers=3)
    trained = generator(engine, GeneratorConfig(**SMALL, recipe=replace(RECIPE, steps=3)))
    assert trained.summary["steps"] == 3
    assert tune(engine, trained, replace(MINIMAX, steps=3)).summary["steps"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True])
def test_two_workers_train_and_tune_together(ray4, tmp_path, streamed):
    data = DataConfig(memory_limit_mb=0 if streamed else 1000)
    engine = make_engine(tmp_path, num_workers=2, data=data)
    trained = generator(engine, GeneratorConfig(**SMALL, recipe=RECIPE))
    tuned = tune(engine, trained, MINIMAX)
    assert tuned.summary["steps"] == 10
    if not streamed:
        calm = make_engine(tmp_path / "alone")
        alone = generator(calm, GeneratorConfig(**SMALL, recipe=RECIPE))
        one, two = state(trained.folder), state(alone.folder)
        for name in one:
            torch.testing.assert_close(one[name], two[name], atol=1e-3, rtol=0)
