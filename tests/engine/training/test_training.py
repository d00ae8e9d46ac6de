"""Training: continuation after a kill, warm start, checkpoints, recipes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from upath import UPath

from raydd.engine.training.data import Feed, open_images
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import Training, _State, train_network
from raydd.engine.training.teacher import TeacherConfig, adopt_teacher, make_teacher
from raydd.errors import Refused
from raydd.models.registry import create_model
from raydd.ops.recipe import training_loss
from raydd.ops.seeds import generator
from raydd.store.checkpoint import load_checkpoint
from raydd.store.journal import read_events
from small_engine import PREPROCESSING, RECIPE, TINY, make_engine, write_images

NAMES = tuple("0123456789")


@pytest.fixture
def images(tmp_path):
    """Two hundred images whose class is their brightness."""
    return write_images(tmp_path / "images")


def job(folder, images, **change):
    folder.mkdir(parents=True, exist_ok=True)
    base = TrainJob(
        folder=str(folder),
        model=TINY,
        class_names=NAMES,
        preprocessing=PREPROCESSING,
        images=(images,),
        resolution=16,
        recipe=RECIPE,
        flip=0.0,
        seed_parts=(0, "test"),
        stage="test",
        test=images,
        journal=str(folder / "metrics.jsonl"),
        checkpoint_seconds=0.0,
    )
    return replace(base, **change)


def weights(folder):
    return safetensors.torch.load((folder / "model.safetensors").read_bytes())


def test_training_learns_and_is_repeatable(tmp_path, images):
    recipe = replace(RECIPE, epochs=8, crop="none")
    outcomes = [train_network(job(tmp_path / name, images, recipe=recipe)) for name in "ab"]
    assert outcomes[0]["top1_last"] > 0.5
    one, two = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], two[name]) for name in one)
    events = read_events(UPath(tmp_path / "a"))
    assert [event["epoch"] for event in events] == list(range(1, 9))


@pytest.mark.slow
def test_killed_training_ends_with_the_weights_of_an_undisturbed_one(tmp_path, images):
    recipe = replace(RECIPE, epochs=30)
    calm = job(tmp_path / "calm", images, recipe=recipe)
    killed = job(tmp_path / "killed", images, recipe=recipe)
    script = tmp_path / "train.py"
    script.write_text(
        "import pickle, sys, torch\nfrom raydd.engine.training.loop import train_network\n"
        "torch.set_num_threads(1)\ntrain_network(pickle.load(open(sys.argv[1], 'rb')))\n"
    )
    import pickle

    (tmp_path / "job").write_bytes(pickle.dumps(killed))
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path / "job")])
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "outcome.json").exists(), (
        "the kill came too late to show anything"
    )
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    train_network(calm)
    train_network(killed)
    torch.set_num_threads(before)
    one, two = weights(tmp_path / "calm"), weights(tmp_path / "killed")
    assert all(torch.equal(one[name], two[name]) for name in one)
    epochs = [event["epoch"] for event in read_events(UPath(tmp_path / "killed"))]
    assert len(epochs) <= 31  # at most the epoch in flight was redone


@pytest.mark.parametrize("world", [2, 3, 5, 6, 7])
def test_every_worker_has_as_many_images_of_each_batch(tmp_path, images, world):
    """Batches of 64, 64, 64 and 8: none is left out, and a worker without any would hang."""
    feed = Feed((images,), 16, 200, 64, ("test",))
    ranks = [open_images(feed, rank, world, torch.device("cpu")) for rank in range(world)]
    whole = list(open_images(feed, 0, 1, torch.device("cpu")).batches(0))
    for step, shares in enumerate(zip(*(rank.batches(0) for rank in ranks), strict=True)):
        assert len({len(share.labels) for share in shares}) == 1
        seen = torch.cat([share.pixels for share in shares]).flatten(1).unique(dim=0)
        assert torch.equal(seen, whole[step].pixels.flatten(1).unique(dim=0)) or step == 3
        assert len(whole[step].labels) <= len(shares[0].labels) * world
    assert step == 3


def test_warm_start_begins_where_the_other_ended(tmp_path, images):
    train_network(job(tmp_path / "first", images))
    still = replace(RECIPE, epochs=1, learning_rate=0.0, weight_decay=0.0)
    train_network(
        job(tmp_path / "second", images, recipe=still, warm_start=str(tmp_path / "first"))
    )
    one, two = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(
        torch.equal(one[name], two[name])
        for name in one
        if "running" not in name and "num_batches" not in name
    )


def test_soft_labels_teach_without_hard_ones(tmp_path, images):
    recipe = replace(RECIPE, epochs=8, crop="none", precision="fp32")  # alike on every CPU
    train_network(job(tmp_path / "teacher", images, recipe=recipe))
    soft = replace(recipe, temperature=4.0, scale_by_temperature=True, epochs=48)
    outcome = train_network(
        job(tmp_path / "student", images, recipe=soft, teacher=str(tmp_path / "teacher"))
    )
    assert outcome["top1_last"] > 0.5


def test_checkpoints_bring_class_names_preprocessing_and_accuracy(tmp_path, images):
    outcome = train_network(job(tmp_path / "a", images))
    network, card = load_checkpoint(UPath(tmp_path / "a"))
    assert (card.class_names, card.preprocessing, card.top1) == (
        NAMES,
        PREPROCESSING,
        outcome["top1_last"],
    )
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


def adopt(tmp_path, checkpoint, names=NAMES):
    (tmp_path / "adopted").mkdir(exist_ok=True)
    return adopt_teacher(
        UPath(tmp_path / "adopted"),
        TeacherConfig(TINY, checkpoint=str(checkpoint)),
        names,
        PREPROCESSING,
    )


def test_a_checkpoint_folder_and_plain_weight_files_are_adopted(tmp_path, images):
    train_network(job(tmp_path / "a", images))
    adopt(tmp_path, tmp_path / "a")
    torch.save({"state_dict": weights(tmp_path / "a")}, tmp_path / "plain.pt")
    adopt(tmp_path, tmp_path / "plain.pt")
    one, two = weights(tmp_path / "a"), weights(tmp_path / "adopted")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_pickled_module_another_architecture_and_another_class_order_are_refused(
    tmp_path, images
):
    train_network(job(tmp_path / "a", images))
    network, _ = load_checkpoint(UPath(tmp_path / "a"))
    torch.save(network, tmp_path / "module.pt")
    with pytest.raises(Refused, match="not a plain weight file"):
        adopt(tmp_path, tmp_path / "module.pt")
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(Refused, match="does not fit"):
        adopt(tmp_path, tmp_path / "other.pt")
    with pytest.raises(Refused, match="does not exist"):
        adopt(tmp_path, tmp_path / "missing.pt")
    with pytest.raises(ValueError, match="class order"):
        adopt(tmp_path, tmp_path / "a", NAMES[::-1])


def test_other_weights_under_the_same_path_are_another_teacher(tmp_path, images):
    engine, keys = make_engine(tmp_path), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(create_model(TINY, 10, 16).state_dict(), tmp_path / "teacher.pt")
        config = TeacherConfig(TINY, checkpoint=str(tmp_path / "teacher.pt"))
        keys.append(make_teacher(engine, config, "teacher").key)
    assert keys[0] != keys[1]


def test_the_network_that_is_kept_is_the_running_average(tmp_path, images):
    """Two steps by hand: BatchNorm statistics are averaged with the weights."""
    recipe = replace(RECIPE, epochs=1, batch_size=100, crop="none", average_decay=0.9)
    plain = replace(recipe, average_decay=0.0)
    train_network(job(tmp_path / "average", images, recipe=recipe))
    train_network(job(tmp_path / "two", images, recipe=plain))
    one_step = replace(job(tmp_path / "one", images, recipe=plain))
    training = Training(one_step, 0, 1)
    batches = training.data.batches(0)
    training.model.train()
    training.optimizer.param_groups[0]["lr"] = training.optimizer.param_groups[1]["lr"] = 0.1
    training.step(next(batches), generator(*one_step.seed_parts, 0, 0, "augment"))
    first, second = training.network.state_dict(), weights(tmp_path / "two")
    for name, kept in weights(tmp_path / "average").items():
        if kept.is_floating_point():
            torch.testing.assert_close(kept, 0.9 * first[name] + 0.1 * second[name])
    assert not torch.equal(first["bn1.running_mean"], second["bn1.running_mean"])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_killed_training_continues_its_average_and_its_scale(tmp_path, images, precision):
    recipe = replace(RECIPE, epochs=3, average_decay=0.9, precision=precision)
    train_network(job(tmp_path / "calm", images, recipe=recipe))
    training = Training(job(tmp_path / "killed", images, recipe=recipe), 0, 1)
    for epoch in range(2):
        training._epoch(_State(epoch=epoch))
    training._save(_State(epoch=2))
    train_network(job(tmp_path / "killed", images, recipe=recipe))
    calm, killed = weights(tmp_path / "calm"), weights(tmp_path / "killed")
    assert all(torch.equal(calm[name], killed[name]) for name in calm)


def test_float16_steps_as_float32_does_by_a_scaled_loss(tmp_path, images):
    # small steps: what rounding changes grows with every large one, on some processors beyond this
    recipe = replace(RECIPE, epochs=1, crop="none", learning_rate=0.003)
    for precision in ("fp32", "fp16"):
        train_network(
            job(tmp_path / precision, images, recipe=replace(recipe, precision=precision))
        )
    exact, rough = weights(tmp_path / "fp32"), weights(tmp_path / "fp16")
    for name, value in exact.items():
        if value.is_floating_point():
            torch.testing.assert_close(rough[name], value, atol=0.01, rtol=0.01)


def test_a_scale_is_kept_and_falls_where_a_step_leaves_the_range(tmp_path, images):
    recipe = replace(RECIPE, precision="fp16")
    training = Training(job(tmp_path / "a", images, recipe=recipe), 0, 1)
    training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    training._save(_State())
    resumed = Training(job(tmp_path / "a", images, recipe=recipe), 0, 1)
    resumed._restore()
    before = [weight.clone() for weight in resumed.network.parameters()]
    resumed.step(next(resumed.data.batches(0)), generator("test"))
    assert resumed.scaler.get_scale() == 2.0**59
    after = resumed.network.parameters()
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_logits_are_matched_with_a_little_of_the_hard_labels():
    student, teacher = torch.randn(2, 4, 10)
    labels = torch.arange(4)
    loss = training_loss(
        student, labels, teacher, None, replace(RECIPE, loss="mse", hard_weight=0.5)
    )
    plain = ((student - teacher) ** 2).sum() / 40
    plain += 0.5 * -student.log_softmax(1)[range(4), labels].mean()
    torch.testing.assert_close(loss, plain)


def test_a_training_that_stops_early_took_the_first_steps_of_the_whole_one(tmp_path, images):
    whole = Training(job(tmp_path / "whole", images, recipe=replace(RECIPE, epochs=4)), 0, 1)
    state = _State()
    for epoch in range(2):
        state.epoch = epoch
        whole._epoch(state)
    stopped = job(tmp_path / "stopped", images, recipe=replace(RECIPE, epochs=4, stop_epoch=2))
    outcome = train_network(stopped)
    assert [point["epoch"] for point in outcome["curve"]][-1] == 2
    found = weights(tmp_path / "stopped")
    assert all(
        torch.equal(found[name], value) for name, value in whole.network.state_dict().items()
    )


def test_a_teachers_own_seed_makes_it_the_same_for_every_run_seed(tmp_path):
    config = TeacherConfig(TINY, replace(RECIPE, epochs=1))
    engine = make_engine(tmp_path, teacher=config)
    keys = {
        (own, seed): make_teacher(
            replace(engine, seed=seed), replace(config, seed=own), "teacher"
        ).key
        for own in (None, 0)
        for seed in (0, 1)
    }
    assert keys[None, 0] == keys[0, 0] == keys[0, 1]
    assert keys[None, 1] != keys[None, 0]
