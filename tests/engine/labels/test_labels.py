"""Seeded and stored labels: the same views and bits for any number of workers, or a refusal."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from upath import UPath

from raydd.data.labels import INFO, LabelInfo, label_arrays, label_table
from raydd.data.rows import image_table
from raydd.engine.labels.data import LabelConfig, LabelData, open_labels, rank_rows
from raydd.engine.labels.relabel import relabel
from raydd.engine.labels.views import FixedTeacher
from raydd.engine.training.data import open_label_data
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import train_network
from raydd.errors import Refused
from raydd.models.precision import round_weights
from raydd.models.registry import ModelConfig, create_meta_model
from raydd.ops.labels import compress_logits
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import load_checkpoint
from raydd.store.images import load_sets
from raydd.store.tables import read_table, write_table
from small_engine import PREPROCESSING, TINY, make_engine

CLASSES, IMAGES, BATCH, EPOCHS = 10, 110, 25, 3
NAMES = tuple(map(str, range(CLASSES)))
CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=EPOCHS, batch_size=BATCH, learning_rate=0.002, temperature=4.0, precision="fp32"
)


def write_images(folder, seed):
    labels = torch.arange(IMAGES) % CLASSES
    draws = torch.Generator().manual_seed(seed)
    noise = torch.randint(40, (IMAGES, 16, 16, 3), generator=draws)
    pixels = (labels[:, None, None, None] * 20 + noise).to(torch.uint8)
    (folder / "parts").mkdir(parents=True)
    table = image_table(
        pixels.numpy(), labels.tolist(), list(range(IMAGES)), 0, [None] * IMAGES, "synthetic"
    )
    write_table(UPath(folder / "parts" / "00000.parquet"), table)
    counts = [IMAGES // CLASSES] * CLASSES
    return Artifact(UPath(folder), f"images{seed}", {"counts": counts}, "synthesize")


def train_job(folder, images, **change):
    folder.mkdir(parents=True, exist_ok=True)
    job = TrainJob(
        folder=str(folder),
        model=TINY,
        class_names=NAMES,
        preprocessing=PREPROCESSING,
        images=(str(images.folder),),
        resolution=16,
        recipe=RECIPE,
        flip=0.5,
        seed_parts=(0, "test"),
        stage="test",
        test=str(images.folder),
        journal=str(folder / "metrics.jsonl"),
    )
    return replace(job, **change)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Images and the teacher that labels them."""
    folder = tmp_path_factory.mktemp("labels")
    images = write_images(folder / "images", 0)
    train_network(train_job(folder / "teacher", images))
    return images, Artifact(UPath(folder / "teacher"), "teacher", stage="squeeze")


def label(folder, made, config, num_workers=0, block=4):
    images, teacher = made
    engine = replace(make_engine(folder, num_workers=num_workers, labels=config), flip=0.5)
    with pytest.MonkeyPatch.context() as patch:  # else one file would hold all batches
        patch.setattr("raydd.engine.labels.relabel._BLOCK_BATCHES", block)
        return relabel(engine, [images], teacher, RECIPE, "test")


@pytest.fixture(scope="module")
def seeded(ray4, made, tmp_path_factory):
    return label(tmp_path_factory.mktemp("seeded"), made, LabelConfig("seeded"))


@pytest.fixture(scope="module")
def stored(ray4, made, tmp_path_factory):
    return label(tmp_path_factory.mktemp("stored"), made, LabelConfig("stored"))


@pytest.fixture(scope="module")
def int8(ray4, made, tmp_path_factory):
    return label(tmp_path_factory.mktemp("int8"), made, LabelConfig("stored", logits="int8"))


def image_set(made):
    return load_sets([str(made[0].folder)], 16, torch.device("cpu"))


def open_data(labels, made, rank=0, world=1):
    return LabelData(labels.folder / "labels", image_set(made), rank, world)


def contents(labels):
    files = [path for path in labels.folder.rglob("*") if path.is_file()]
    kept = ("labels", "teacher")
    return {str(f): f.read_bytes() for f in files if f.parent.name in kept}


@pytest.mark.parametrize("form", ["seeded", "stored", "int8"])
def test_ranks_together_see_the_views_and_labels_of_one_worker_bit_for_bit(form, made, request):
    labels = request.getfixturevalue(form)
    for epoch in (0, EPOCHS - 1):
        alone = list(open_data(labels, made).batches(epoch))
        assert [len(batch.images) for batch in alone] == [25, 25, 25, 25, 10]
        for world in (2, 4):
            ranks = [open_data(labels, made, r, world).batches(epoch) for r in range(world)]
            for whole, *shares in zip(alone, *ranks, strict=True):
                count = len(whole.images)
                assert len({len(share.images) for share in shares}) == 1  # equal work
                for rank, share in enumerate(shares):
                    rows = rank_rows(count, rank, world, CPU)
                    for part in ("images", "labels", "logits"):
                        assert torch.equal(getattr(share, part), getattr(whole, part)[rows])
                rows = torch.cat([rank_rows(count, rank, world, CPU) for rank in range(world)])
                assert set(rows.tolist()) == set(range(count))


def test_views_differ_between_steps_and_epochs_and_come_round_again(seeded, made):
    data = open_data(seeded, made)
    first, second, again = (list(data.batches(epoch)) for epoch in (0, 1, EPOCHS))
    assert not torch.equal(first[0].images, first[1].images)
    assert not torch.equal(first[0].images, second[0].images)
    assert not torch.equal(first[0].labels, second[0].labels)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(a.logits, b.logits) for a, b in zip(first, again, strict=True))
    assert sorted(torch.cat([b.labels for b in first]).tolist()) == sorted(
        image_set(made).labels.tolist()
    )


def test_seeded_labels_are_those_of_the_rounded_weights(seeded, made):
    batch = next(open_data(seeded, made).batches(0))
    rounded, _ = load_checkpoint(made[1].folder)
    round_weights(rounded)
    network = rounded.float().eval()
    with torch.no_grad():
        torch.testing.assert_close(network(batch.images), batch.logits, rtol=1e-4, atol=1e-4)
        exact = load_checkpoint(made[1].folder)[0].eval()(batch.images)
    assert not torch.equal(exact, batch.logits)


def test_an_answer_does_not_depend_on_the_size_of_the_batch(seeded, made):
    images = next(open_data(seeded, made).batches(0)).images
    teacher = FixedTeacher(seeded.folder / "teacher", BATCH, torch.device("cpu"))
    whole = teacher.logits(images)
    for count in (1, 2, 24):
        assert torch.equal(teacher.logits(images[:count]), whole[:count])


@pytest.mark.slow
@pytest.mark.parametrize("logits", ["float16", "int8"])
def test_files_do_not_depend_on_workers_and_a_lost_one_is_made_again(logits, made, ray4, tmp_path):
    config = LabelConfig("stored", top_k=3, logits=logits)
    alone = label(tmp_path, made, config)
    before = contents(alone)
    parts = sorted(alone.folder.glob("labels/*.parquet"))
    assert len(parts) == 4  # 15 batches, 4 to a block
    kept = parts[0].stat().st_mtime_ns
    for path in [*parts[1:], alone.folder / "manifest.json", alone.folder / "labels" / INFO]:
        path.unlink()
    again = label(tmp_path, made, config, num_workers=2)
    assert contents(again) == before
    assert parts[0].stat().st_mtime_ns == kept


def test_stored_logits_of_all_classes_equal_seeded_ones_to_float16(stored, seeded, made):
    ours, theirs = (open_data(labels, made).batches(1) for labels in (stored, seeded))
    for one, two in zip(ours, theirs, strict=True):
        assert torch.equal(one.images, two.images)
        # the weights of one and the logits of the other are rounded to 11 bits
        torch.testing.assert_close(one.logits, two.logits, rtol=4e-3, atol=2e-2)


@pytest.mark.parametrize("top_k", [0, 3])
def test_int8_labels_teach_what_float16_ones_do(top_k, int8, stored, made, tmp_path):
    few, many = int8, stored
    if top_k:
        few, many = (
            label(tmp_path / kind, made, LabelConfig("stored", top_k, logits=kind))
            for kind in ("int8", "float16")
        )
    data = open_data(few, made)
    assert data.is_exact
    for one, two in zip(data.batches(1), open_data(many, made).batches(1), strict=True):
        assert torch.equal(one.images, two.images)
        spread = two.logits.amax(1) - two.logits.amin(1)
        assert ((one.logits - two.logits).abs().amax(1) <= spread / 254 + 0.02).all()
        logs = [batch.logits.div(4.0).log_softmax(1) for batch in (one, two)]
        assert torch.nn.functional.kl_div(*logs, log_target=True, reduction="batchmean") < 1e-4


def test_int8_files_are_little_more_than_half_of_float16_ones(tmp_path):
    logits, sizes = 3 * torch.randn(1000, 200, generator=torch.Generator().manual_seed(0)), []
    for dtype in ("float16", "int8"):
        views, path = {"batch_size": 1000}, UPath(tmp_path / dtype)
        info = LabelInfo("stored", 200, 200, 1, 0, views, PREPROCESSING, 1000, 1, logits=dtype)
        labels = compress_logits(logits, 0, dtype)._asdict()
        parts = {name: part.numpy() for name, part in labels.items() if part is not None}
        table = label_table(info, 0, 0, torch.arange(1000).numpy(), parts)
        assert table.nbytes <= 1000 * info.label_bytes
        write_table(path, table, **info.encoding)
        sizes.append(path.stat().st_size)
        _, back = label_arrays(read_table(path))
        assert all((back[name] == part).all() for name, part in parts.items())
    assert 0.45 < sizes[1] / sizes[0] < 0.58


def test_labels_of_float16_are_those_that_earlier_versions_read(stored, int8):
    records = [json.loads((s.folder / "labels" / INFO).read_text()) for s in (stored, int8)]
    assert [record["format"] for record in records] == [1, 2]
    assert "logits" not in records[0]
    assert records[1]["logits"] == "int8"
    assert LabelInfo.from_text(json.dumps(records[0])).logits == "float16"


def weights(folder):
    return load_checkpoint(UPath(folder))[0].state_dict()


def test_training_from_stored_labels_is_that_from_seeded_ones(stored, seeded, made, tmp_path):
    recipe = replace(RECIPE, optimizer="sgd", learning_rate=0.05)  # adamw follows rounded signs
    logits = {}
    for name, labels, draw in (("stored", stored, 1), ("seeded", seeded, 1), ("other", seeded, 2)):
        job = train_job(
            tmp_path / name,
            made[0],
            recipe=recipe,
            labels=str(labels.folder / "labels"),
            seed_parts=(draw, "test"),
        )
        train_network(job)
        network = load_checkpoint(UPath(tmp_path / name))[0].eval()
        with torch.no_grad():
            logits[name] = network(next(open_data(seeded, made).batches(0)).images)
    near = (logits["stored"] - logits["seeded"]).abs().mean()
    far = (logits["other"] - logits["seeded"]).abs().mean()
    assert near < 0.05 * far


def test_top_k_labels_are_smaller_and_sum_to_the_teachers_probability(stored, made, tmp_path):
    small = label(tmp_path, made, LabelConfig("stored", top_k=2))
    sizes = [sum(map(len, contents(labels).values())) for labels in (small, stored)]
    assert sizes[0] < sizes[1]
    one, two = (next(open_data(labels, made).batches(0)) for labels in (small, stored))
    top = two.logits.topk(2, dim=1).indices
    torch.testing.assert_close(one.logits.gather(1, top), two.logits.gather(1, top))
    kept = [batch.logits.softmax(1).gather(1, top).sum(1) for batch in (one, two)]
    torch.testing.assert_close(*kept, rtol=2e-2, atol=2e-3)


def test_other_images_are_refused(seeded, made, tmp_path):
    other = write_images(tmp_path / "images", 1)
    images = load_sets([str(other.folder)], 16, torch.device("cpu"))
    with pytest.raises(Refused, match="are of other images"):
        LabelData(seeded.folder / "labels", images)
    ours = image_set(made)
    swapped = replace(ours, labels=ours.labels.roll(1))
    with pytest.raises(Refused, match="are of other images"):
        LabelData(seeded.folder / "labels", swapped)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"recipe": replace(RECIPE, mix="none")}, "mix differ"),
        ({"recipe": replace(RECIPE, batch_size=20, crop="pad")}, "batch_size, crop differ"),
        ({"flip": 0.0}, "flip differ"),
        ({"class_names": NAMES[:9]}, "classes differ"),
        ({"preprocessing": replace(PREPROCESSING, mean=(0.5, 0.5, 0.5))}, "preprocessing differ"),
    ],
)
def test_another_recipe_is_refused_by_name(seeded, made, tmp_path, change, named):
    job = train_job(tmp_path, made[0], labels=str(seeded.folder / "labels"), **change)
    with pytest.raises(Refused, match=f"other views: {named}"):
        open_label_data(job, image_set(made), 0, 1)


def test_a_recipe_that_draws_the_same_views_is_not_refused(seeded, made, tmp_path):
    recipe = replace(RECIPE, epochs=9, optimizer="sgd", temperature=20.0)
    job = train_job(tmp_path, made[0], labels=str(seeded.folder / "labels"), recipe=recipe)
    assert open_label_data(job, image_set(made), 0, 1).is_exact


def test_labels_older_than_a_field_of_the_views_are_used(seeded, made, tmp_path):
    info = json.loads((seeded.folder / "labels" / INFO).read_text())
    old = {k: v for k, v in info["views"].items() if k not in ("color_jitter", "lighting")}
    spoiled = spoil(seeded, tmp_path / "old", views=old)
    job = train_job(tmp_path / "job", made[0], labels=str(spoiled.folder / "labels"))
    assert open_label_data(job, image_set(made), 0, 1).is_exact
    colourful = replace(job, recipe=replace(RECIPE, color_jitter=0.4))
    with pytest.raises(Refused, match="color_jitter differ"):
        open_label_data(colourful, image_set(made), 0, 1)


def spoil(labels, target, **change):
    """A copy of a label folder whose json says something else."""
    shutil.copytree(labels.folder, target)
    info = json.loads((target / "labels" / INFO).read_text())
    (target / "labels" / INFO).write_text(json.dumps({**info, **change}))
    return Artifact(UPath(target), "spoilt", stage="relabel")


def test_another_seed_and_other_weights_are_refused(seeded, stored, made, tmp_path):
    with pytest.raises(Refused, match="the views of the first batch"):
        open_data(spoil(seeded, tmp_path / "seed", seed=1), made)
    with pytest.raises(Refused, match="labels other images"):
        open_data(spoil(stored, tmp_path / "stored", seed=1), made)
    with pytest.raises(ValueError, match="format 99"):
        open_data(spoil(seeded, tmp_path / "format", format=99), made)
    other = spoil(seeded, tmp_path / "weights")
    train_network(train_job(tmp_path / "net", made[0], recipe=replace(RECIPE, epochs=1)))
    shutil.copy(tmp_path / "net" / "model.safetensors", other.folder / "teacher")
    with pytest.raises(Refused, match="the logits of the first batch"):
        open_data(other, made)


def test_labels_equal_within_rounding_are_used_and_the_journal_says_so(seeded, made, tmp_path):
    info = json.loads((seeded.folder / "labels" / INFO).read_text())
    elsewhere = spoil(seeded, tmp_path / "cpu", check={**info["check"], "sha256": "0" * 64})
    job = train_job(tmp_path, made[0], labels=str(elsewhere.folder / "labels"))
    assert not open_label_data(job, image_set(made), 0, 1).is_exact
    assert "not bit for bit" in (tmp_path / "metrics.jsonl").read_text()


def test_weights_of_a_resnet18_take_less_than_24_megabytes():
    def size(classes):
        network = create_meta_model(ModelConfig("resnet18_small"), classes, 32)
        round_meta = [p.numel() * (2 if p.ndim > 1 else 4) for p in network.parameters()]
        return sum(round_meta) + sum(4 * b.numel() for b in network.buffers())

    assert 22e6 < size(200) < size(1000) < 24e6


def test_weights_are_halved_on_disk_and_vectors_stay_exact(seeded, made):
    sizes = [
        (f / "model.safetensors").stat().st_size
        for f in (seeded.folder / "teacher", made[1].folder)
    ]
    assert sizes[0] < 0.6 * sizes[1]
    ours, theirs = weights(seeded.folder / "teacher"), weights(made[1].folder)
    for name, value in theirs.items():
        wanted = value.half().float() if value.ndim > 1 else value
        assert torch.equal(ours[name], wanted), name


def test_a_teacher_beyond_float16_is_refused(made, ray4, tmp_path):
    images, teacher = made
    shutil.copytree(teacher.folder, tmp_path / "huge")
    state = {n: v * 1e7 if v.ndim > 1 else v for n, v in weights(teacher.folder).items()}
    import safetensors.torch

    safetensors.torch.save_file(state, tmp_path / "huge" / "model.safetensors")
    huge = Artifact(UPath(tmp_path / "huge"), "huge", stage="squeeze")
    with pytest.raises((Refused, RuntimeError), match="cannot be kept in float16"):
        label(tmp_path, (images, huge), LabelConfig("seeded"))


def test_every_batch_has_one_place_in_the_files():
    for images, batch, epochs, block in ((110, 25, 3, 4), (7, 10, 5, 2), (100, 25, 2, 3)):
        info = LabelInfo(
            "stored", 10, 10, epochs, 0, {"batch_size": batch}, PREPROCESSING, images, block
        )
        rows = [0] * info.num_blocks
        for number in range(info.num_blocks):
            for epoch, step in info.batches(number):
                assert info.place(epoch, step) == (number, rows[number])
                rows[number] += min(info.batch_size, images - step * info.batch_size)
        assert sum(rows) == images * epochs


def test_a_product_without_labels_says_so(tmp_path):
    with pytest.raises(ValueError, match="not a finished distilled set"):
        open_labels(tmp_path)


@pytest.mark.parametrize(
    "values",
    [{"form": "cached"}, {"top_k": -1}, {"epochs": 0}, {"logits": "int4"}],
    ids=lambda v: next(iter(v)),
)
def test_a_configuration_that_cannot_run_is_refused(values):
    with pytest.raises(ValueError, match=f"labels.{next(iter(values))} must be"):
        LabelConfig(**values)


def test_labels_that_are_not_stored_have_no_bytes_to_save():
    with pytest.raises(
        ValueError, match=r"labels.logits=int8 needs labels.form=stored, not seeded"
    ):
        LabelConfig("seeded", logits="int8")
