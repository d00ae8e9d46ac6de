"""Training on a device: at most two copies and no read in a step, and the weights of the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from device.small import save_network, train_job
from device.virtual import DEVICE, per_step, virtual
from raydd.data.labels import INFO
from raydd.engine.labels.data import LABELS, LabelInfo, view_settings
from raydd.engine.labels.relabel import Labeller, RelabelJob, label_units
from raydd.engine.training.loop import Training, train_network
from raydd.ops.recipe import Recipe
from raydd.ops.seeds import generator
from small_engine import PREPROCESSING, write_images

COPIES = 2  # of a step
PLAIN = {"epochs": 2, "batch_size": 20, "precision": "fp32"}
IMAGES = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def images(folder):
    return write_images(folder / "images", IMAGES)


@pytest.fixture(scope="module")
def teacher(folder):
    return save_network(folder / "teacher")


def train(job, steps):
    """So many steps of a training; its weights, on the CPU."""
    training = Training(job, 0, 1)
    draws, done = generator("draws"), 0
    while True:
        for batch in training.data.batches(0):
            places = np.arange(len(batch.labels)) if job.notes_dynamics else np.empty(0, int)
            training.step(replace(batch, places=places) if len(places) else batch, draws)
            done += 1
            if done == steps:
                return [value.cpu() for value in training.network.state_dict().values()]


VARIANTS = {
    "padded, hard labels": ({"optimizer": "sgd", "crop": "pad", "mix": "none"}, False),
    "cutmix, hard labels": ({}, False),
    "cutmix, a teacher": ({}, True),
    "mixup, colours, an average, a teacher": (
        {"mix": "mixup", "color_jitter": 0.3, "lighting": 0.1, "loss": "mse",
         "hard_weight": 0.025, "average_decay": 0.9}, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_a_training_step_copies_twice_at_most_reads_nothing_and_equals_the_cpu(
    name, images, teacher, tmp_path
):
    values, asks = VARIANTS[name]

    def run(steps, device=DEVICE):
        asked = {"teacher": teacher} if asks else {}
        return train(train_job(tmp_path, images, Recipe(**PLAIN, **values), device, **asked), steps)

    step, found = per_step(run)
    assert step.copies.total() <= COPIES
    assert not step.reads
    assert all(torch.equal(*pair) for pair in zip(found, run(2, "cpu"), strict=True))


def test_noting_what_an_image_s_margin_is_reads_and_copies_nothing_more(images, tmp_path):
    recipe = Recipe(**PLAIN, crop="pad", mix="none")

    def run(steps, device=DEVICE, notes=True):
        return train(train_job(tmp_path, images, recipe, device, notes_dynamics=notes), steps)

    step, _ = per_step(run)
    without, _ = per_step(lambda steps: run(steps, notes=False))
    assert step.copies == without.copies
    assert not step.reads


@pytest.mark.parametrize(
    ("form", "top_k", "logits", "hard"),
    [
        ("seeded", 0, "float16", False),
        ("stored", 0, "float16", False),
        ("stored", 3, "float16", False),
        ("stored", 0, "int8", False),
        ("stored", 3, "int8", True),
    ],
)
def test_labels_made_ahead_are_those_of_the_cpu_and_cost_two_copies_a_step(
    form, top_k, logits, hard, images, teacher, tmp_path
):
    recipe = Recipe(**PLAIN, hard_span=(0.0, 0.5) if hard else (0.0, 0.0))
    info = LabelInfo(
        form=form, num_classes=10, top_k=top_k or 10, epochs=1, seed=0,
        views=view_settings(recipe, 0.5), preprocessing=PREPROCESSING, num_images=IMAGES, block=2,
        logits=logits,
    )  # fmt: skip

    def label(device):
        folder = tmp_path / device.replace(":", "")
        (folder / LABELS).mkdir(parents=True)
        labeller = Labeller(RelabelJob(str(folder), (images,), teacher, info, device))
        for unit in label_units(info):
            labeller(unit)
        return folder

    with virtual():
        there = label(DEVICE)
    here = label("cpu")
    files = sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file())
    assert {str(path) for path in files} >= {f"{LABELS}/{INFO}"}
    assert all((here / path).read_bytes() == (there / path).read_bytes() for path in files)

    def run(steps, device=DEVICE):
        labels = str(here / LABELS)
        return train(train_job(tmp_path / "run", images, recipe, device, labels=labels), steps)

    step, found = per_step(run)
    assert step.copies.total() <= COPIES
    assert not step.reads
    assert all(torch.equal(*pair) for pair in zip(found, run(2, "cpu"), strict=True))


def test_a_whole_training_on_a_device_leaves_the_checkpoint_of_the_cpu(images, teacher, tmp_path):
    test = write_images(tmp_path / "test", 20)
    recipe = Recipe(**PLAIN, average_decay=0.9, color_jitter=0.2, lighting=0.1)
    outcomes = []
    for device in (DEVICE, "cpu"):
        job = train_job(tmp_path / device[:3], images, recipe, device, test=test, teacher=teacher)
        with virtual():
            outcomes.append(train_network(job))
    assert outcomes[0]["curve"] == outcomes[1]["curve"]
    found, expected = (tmp_path / name / "model.safetensors" for name in (DEVICE[:3], "cpu"))
    assert found.read_bytes() == expected.read_bytes()
