"""Soft, hard, soft labels: which loss and which views an epoch has, continued after a kill."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from upath import UPath

from device.small import NAMES, save_network, train_job
from raydd.data.labels import LabelInfo
from raydd.engine.labels.data import LABELS, LabelData, LabelledBatch, view_settings
from raydd.engine.labels.relabel import Labeller, RelabelJob, label_units
from raydd.engine.training.data import Batch, open_data
from raydd.engine.training.loop import Training, _State, train_network
from raydd.models.preprocess import normalise
from raydd.ops.recipe import Recipe, learning_rate_factor
from raydd.ops.seeds import derive_seed, generator
from raydd.ops.views.batch import augment_batch, mix_batch
from raydd.ops.views.draws import draw_batch
from raydd.store.checkpoint import load_checkpoint
from raydd.store.images import load_sets
from small_engine import PREPROCESSING, write_images

IMAGES, SIDE = 60, 16
CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=8, batch_size=20, optimizer="sgd", learning_rate=0.05, zeta=2.0, temperature=4.0,
    precision="fp32", hard_span=(0.25, 0.75), label_smoothing=0.8,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hard-span")


@pytest.fixture(scope="module")
def images(folder):
    return write_images(folder / "images", IMAGES)


@pytest.fixture(scope="module")
def teacher(folder):
    return save_network(folder / "teacher", seed=1)


def label(folder, images, teacher, form="stored", epochs=3, **more):
    """Labels of fewer epochs than the recipe's four soft ones: they go round again."""
    info = LabelInfo(
        form, 10, 10, epochs, 0, view_settings(RECIPE, 0.5), PREPROCESSING, IMAGES, 2, **more
    )
    (folder / LABELS).mkdir(parents=True)
    labeller = Labeller(RelabelJob(str(folder), (images,), teacher, info, "cpu"))
    for unit in label_units(info):
        labeller(unit)
    return str(folder / LABELS)


@pytest.fixture(scope="module")
def labels(folder, images, teacher):
    return label(folder / "int8", images, teacher, logits="int8")


def job(folder, images, **more):
    return train_job(folder, images, more.pop("recipe", RECIPE), "cpu", **more)


def weights(folder):
    return load_checkpoint(UPath(folder))[0].state_dict()


def brute_force(given, training, labels):
    """Every step of a whole training, spelled out: soft, soft, four times hard, soft, soft."""
    recipe, network, optimizer = given.recipe, training.network, training.optimizer
    held = load_sets(given.images, SIDE, CPU)
    stored = LabelData(UPath(labels), held)
    soft = iter([0, 1, 2, 0])  # the labels' epochs, gone round
    for epoch in range(8):
        torch.manual_seed(derive_seed(*given.seed_parts, epoch, 0, "dropout"))
        network.train()
        is_hard = epoch in (2, 3, 4, 5)
        rounds = stored.batches(0 if is_hard else next(soft))
        order = torch.randperm(IMAGES, generator=generator(*given.seed_parts, epoch, "order"))
        draws = generator(*given.seed_parts, epoch, 0, "augment")
        for step in range(3):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * learning_rate_factor(recipe, 3 * epoch + step, 3)
            if is_hard:
                chosen = order[20 * step : 20 * step + 20]
                drawn = draw_batch(20, recipe, SIDE, given.flip, draws)
                views = augment_batch(held.images[chosen], drawn, recipe, SIDE)
                views = normalise(views, PREPROCESSING.mean, PREPROCESSING.std)
                views, mix = mix_batch(views, drawn)
                truth = F.one_hot(held.labels[chosen], 10).float()
                truth = mix.shares[0] * truth + mix.shares[1] * truth[mix.permutation]
                logits = network(views.contiguous(memory_format=torch.channels_last))
                loss = F.cross_entropy(logits, 0.2 * truth + 0.8 / 10)
            else:
                batch = next(rounds)
                logits = network(batch.images.contiguous(memory_format=torch.channels_last))
                asked = (batch.logits / 4.0).softmax(1)
                loss = F.kl_div((logits / 4.0).log_softmax(1), asked, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.state_dict()


def test_each_epoch_has_the_loss_and_the_views_of_its_span(images, labels, tmp_path):
    given = job(tmp_path / "a", images, labels=labels)
    expected = brute_force(given, Training(given, 0, 1), labels)
    train_network(given)
    for name, value in weights(tmp_path / "a").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("form", ["seeded", "stored"])
def test_no_label_is_read_in_the_hard_span_and_its_views_are_new(form, images, teacher, tmp_path):
    labels = label(tmp_path / "made", images, teacher, form)
    data = open_data(job(tmp_path / "a", images, labels=labels), 0, 1, CPU)
    soft = [list(data.batches(epoch)) for epoch in (0, 1, 6, 7)]
    for path in [*UPath(labels).glob("*.parquet"), *UPath(labels).parent.glob("teacher/*")]:
        path.unlink()
    hard = [list(data.batches(epoch)) for epoch in (2, 3, 4, 5)]
    assert all(len(batches) == data.steps == 3 for batches in (*soft, *hard))
    assert all(isinstance(batch, Batch) for batches in hard for batch in batches)
    assert all(isinstance(batch, LabelledBatch) for batches in soft for batch in batches)
    orders = [torch.cat([batch.labels for batch in batches]) for batches in hard]
    assert all(len(order.unique()) == len(NAMES) for order in orders)
    assert not torch.equal(orders[0], orders[1])
    # the span is left out of the labels' epochs: 0, 1, then 2, then round again
    assert torch.equal(soft[3][0].images, soft[0][0].images)
    assert not torch.equal(soft[2][0].images, soft[0][0].images)


@pytest.mark.parametrize("source", ["labels", "teacher"])
@pytest.mark.parametrize("end", [1, 3, 6])
def test_a_training_continues_within_and_across_the_hard_span(
    source, end, images, teacher, labels, tmp_path
):
    given = {"labels": labels} if source == "labels" else {"teacher": teacher}
    train_network(job(tmp_path / "calm", images, **given))
    killed = job(tmp_path / "killed", images, **given)
    training = Training(replace(killed, recipe=replace(RECIPE, stop_epoch=end)), 0, 1)
    training.file.seconds = 0.0
    training.run()
    (tmp_path / "killed" / "outcome.json").unlink()
    assert (tmp_path / "killed" / "state.pt").exists()
    train_network(killed)
    calm, continued = (tmp_path / name / "model.safetensors" for name in ("calm", "killed"))
    assert calm.read_bytes() == continued.read_bytes()


def test_the_teacher_is_not_asked_in_the_hard_span(images, teacher, tmp_path):
    training = Training(job(tmp_path, images, teacher=teacher), 0, 1)
    training.teacher = nn.Module()  # has nothing to say
    training._epoch(_State(epoch=2))
    with pytest.raises(NotImplementedError):
        training._epoch(_State(epoch=6))
