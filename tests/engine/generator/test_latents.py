"""Latents that are encoded once: the VAE's own, in the same training, with fewer questions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from upath import UPath

from raydd.data.images import decode
from raydd.data.sources import Row, Shard, open_source
from raydd.engine.generator.checkpoint import load_generator, save_generator
from raydd.engine.generator.config import GeneratorConfig, GeneratorRecipe, MinimaxConfig
from raydd.engine.generator.latent_data import KeptLatents, StreamedLatents, open_feed
from raydd.engine.generator.latents import cache_latents, is_cached
from raydd.engine.generator.stage import tune
from raydd.engine.generator.train import GeneratorJob, _Training
from raydd.engine.training.data import Batch, Feed
from raydd.errors import Refused
from raydd.store.artifacts import Artifact
from raydd.store.tables import part_files, read_table
from raydd.store.units import PART
from small_engine import make_engine
from small_generator import small_generator

RECIPE = GeneratorRecipe(
    steps=3, batch_size=32, learning_rate=1e-3, precision="fp32", checkpoint_seconds=0.0
)
SHAPE = (2, 2, 4, 8, 8)  # views; mean and deviation; a latent


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """An engine over the digits, a generator with a VAE, and its kept latents."""
    folder = tmp_path_factory.mktemp("latents")
    engine = replace(make_engine(folder / "runs"), flip=0.5)
    save_generator(UPath(folder / "start"), small_generator(latent=True))
    start = Artifact(UPath(folder / "start"), "start", {}, "generator")
    return engine, start, cache_latents(engine, start, "fp32")


def pixels(engine):
    """All training images as a training would see them, uint8 [N, 3, 16, 16]."""
    source, seen = engine.train_source, replace(engine.preprocessing, resize=16)
    rows = [row for shard in source.shards() for row in source.read(shard)]
    images = torch.from_numpy(np.stack([decode(row.image, seen) for row in rows]))
    return images.permute(0, 3, 1, 2), torch.tensor([row.class_index for row in rows])


def feed(count, recipe=RECIPE):
    return Feed((), 16, count, recipe.batch_size, (0, "test"))


def job(tmp_path, start, kept, count):
    return GeneratorJob(
        folder=str(tmp_path),
        start=str(start.folder),
        feed=feed(count),
        recipe=RECIPE,
        flip=0.5,
        stage="generator",
        journal=None,
        device="cpu",
        latents=kept,
    )


def held(kept, views=2, in_memory=True):
    return KeptLatents(str(kept.folder), views, in_memory)


def test_what_is_kept_is_the_posterior_of_each_image_and_of_its_mirror(setting):
    engine, start, kept = setting
    images, labels = pixels(engine)
    data = open_feed(feed(len(labels)), held(kept), SHAPE[2:], 0, 1, torch.device("cpu"))
    assert torch.equal(data.images.labels, labels)
    vae = load_generator(UPath(start.folder))
    seen = images[:64].float() / 127.5 - 1
    with torch.inference_mode():
        for view, shown in enumerate((seen, seen.flip(3))):
            for number, exact in enumerate(vae.posterior(shown)):
                rounded = data.images.images[:64, view, number].float()
                torch.testing.assert_close(rounded, exact, atol=1e-5, rtol=2e-3)


def test_a_training_learns_from_the_latents_that_the_vae_would_have_given(setting, tmp_path):
    engine, start, kept = setting
    images, labels = pixels(engine)
    data = open_feed(feed(len(labels)), held(kept), SHAPE[2:], 0, 1, torch.device("cpu"))
    training = _Training(job(tmp_path, start, held(kept), len(labels)), 0, 1)
    mirrored = torch.rand(32, generator=torch.Generator().manual_seed(1)) < 0.5
    found = []
    for latents, seen in ((held(kept), data.images.images[:32]), (None, images[:32])):
        training.job = replace(training.job, latents=latents)
        noise = torch.randn(32, *SHAPE[2:], generator=torch.Generator().manual_seed(7))
        found.append(training._clean(seen, mirrored, noise))
    torch.testing.assert_close(*found, atol=1e-3, rtol=2e-3)


def test_the_vae_is_not_asked_again(setting, tmp_path):
    engine, start, kept = setting
    asked = []
    training = _Training(job(tmp_path, start, held(kept), 200), 0, 1)
    training.generator.vae.encoder.register_forward_hook(lambda *seen: asked.append(seen))
    training.run()
    assert training.step == 3
    assert not asked
    images, labels = pixels(engine)
    training.job = replace(training.job, latents=None)
    training._loss(Batch(images[:32], labels[:32]))
    assert len(asked) == 1


@pytest.mark.parametrize("in_memory", [True, False])
def test_ranks_share_each_batch_of_one_alone(setting, in_memory):
    _, _, kept = setting
    count = sum(read_table(path).num_rows for path in part_files(kept.folder))
    place = torch.device("cpu")
    alone, first, second = (
        list(open_feed(feed(count), held(kept, in_memory=in_memory), SHAPE[2:], *own, place)
             .batches(1))
        for own in ((0, 1), (0, 2), (1, 2))
    )  # fmt: skip
    assert len(alone) == len(first) == len(second) >= count // 32
    for whole, even, odd in zip(alone[:-1], first, second, strict=False):
        assert torch.equal(whole.pixels[0::2], even.pixels)
        assert torch.equal(whole.labels[1::2], odd.labels)


def test_a_streamed_epoch_shows_as_many_images_as_it_has_in_another_order_each_time(setting):
    _, _, kept = setting
    files = part_files(kept.folder)
    count = sum(read_table(path).num_rows for path in files)
    data = StreamedLatents(feed(count), files, SHAPE, 0, 1, torch.device("cpu"))
    epochs = [[batch.pixels for batch in data.batches(epoch)] for epoch in (0, 0, 1)]
    assert len(epochs[0]) == count // 32
    assert len(torch.unique(torch.cat(epochs[0]).flatten(1), dim=0)) > 0.9 * count
    assert torch.equal(epochs[0][0], epochs[1][0])
    assert not torch.equal(epochs[0][0], epochs[2][0])


def test_a_part_has_the_same_bytes_when_it_is_made_again(setting, tmp_path):
    engine, start, kept = setting
    stages = type(engine.stages)(UPath(tmp_path), engine.stages.progress)
    again = cache_latents(replace(engine, stages=stages), start, "fp32")
    assert again.key == kept.key
    parts = [part_files(item.folder) for item in (kept, again)]
    assert [path.read_bytes() for path in parts[0]] == [path.read_bytes() for path in parts[1]]


class OneBroken:
    """Three digits, of which one is no image."""

    fingerprint, unused, class_names = "three", {}, tuple("0123456789")

    def shards(self):
        return [Shard("all")]

    def read(self, shard):
        digits = open_source("digits", "", "train")
        rows = iter(digits.read(digits.shards()[0]))
        first, second = next(rows), next(rows)
        return iter([first, Row("broken", 3, b"nothing"), second])

    def class_counts(self):
        return np.ones(10, np.int64)


def test_broken_images_are_counted_and_keep_their_place(setting, tmp_path):
    engine, start, _ = setting
    stages = type(engine.stages)(UPath(tmp_path), engine.stages.progress)
    three = replace(engine, train_source=OneBroken(), stages=stages)
    with pytest.raises(Refused, match="1 of 3 training images are broken"):
        cache_latents(three, start, "fp32")
    bearing = replace(three, data=replace(engine.data, max_rejected=0.5))
    kept = cache_latents(bearing, start, "fp32")
    assert (kept.summary["rows"], kept.summary["rejected"]) == (2, 1)
    assert read_table(PART.path(kept.folder, "00000"))["row"].to_pylist() == [0, 2]


@pytest.mark.parametrize(
    ("said", "steps", "vae", "cached"),
    [
        (None, 100, True, True),  # 3,200 views of 1,000 images and their mirrors
        (None, 60, True, False),  # 1,920
        (None, 100, False, False),
        (True, 60, True, True),
        (False, 100, True, False),
    ],
)
def test_latents_are_kept_where_that_asks_the_vae_less_often(setting, said, steps, vae, cached):
    engine, _, _ = setting
    config = GeneratorConfig(vae="stabilityai/sd-vae-ft-mse" if vae else None)
    planned = Artifact(UPath("nowhere"), "planned", {"config": config}, "generator")
    recipe = replace(RECIPE, steps=steps, cache_latents=said)
    assert is_cached(engine, planned, recipe, 1000) == cached


def test_a_generator_is_tuned_on_kept_latents_and_is_another_than_on_images(
    ray4, setting, tmp_path
):
    engine, start, _ = setting
    stages = type(engine.stages)(UPath(tmp_path), engine.stages.progress)
    engine = replace(engine, stages=stages)
    config = MinimaxConfig(steps=2, batch_size=32, memory=4, precision="fp32", cache_latents=True)
    tuned = tune(engine, start, config)
    assert tuned.summary["steps"] == 2
    assert list(tmp_path.glob("**/latents*/**/parts/*.parquet"))
    direct = tune(engine, start, replace(config, cache_latents=False))
    assert direct.key != tuned.key
    one, two = (load_generator(UPath(item.folder)).state_dict() for item in (tuned, direct))
    for name in one:  # rounding of the latents is all that differs
        torch.testing.assert_close(one[name], two[name], atol=2e-3, rtol=0)
