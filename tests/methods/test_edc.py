"""The driver of EDC and its presets on the embedded digits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from raydd.config.tree import compose_config
from raydd.engine.passes.statistics_batches import StatisticsConfig
from raydd.engine.selection.chosen import SelectedIds
from raydd.engine.synthesis.observers import MatchConfig
from raydd.engine.synthesis.tiles import CropConfig
from raydd.engine.vocabulary import observe
from raydd.methods.edc import EdcConfig, distil
from raydd.models.registry import ModelConfig
from raydd.store.checkpoint import load_card, load_checkpoint
from raydd.store.images import load_pixels
from raydd.store.tables import part_files, read_table
from small_engine import TINY, columns_of, make_engine

SYNTHESIS = MatchConfig(steps=4, batch_size=10, precision="fp32")
CONFIG = EdcConfig(
    ipc=2,
    observers=[TINY, ModelConfig("convnet2", width=8)],
    statistics=StatisticsConfig(units=2),
    crops=CropConfig(pool=20, tiles=1),
    synthesis=SYNTHESIS,
)


@pytest.fixture(scope="module")
def engine(ray4, tmp_path_factory):
    return make_engine(tmp_path_factory.mktemp("edc"))


@pytest.fixture(scope="module")
def product(engine):
    return distil(engine, CONFIG)


def images(product):
    """By class, then by slot."""
    made = load_pixels(product.images[0].folder, 16)
    return made.images[made.labels.argsort(stable=True)]


def test_a_batch_holds_all_images_of_its_classes(product):
    """Class-major: the statistics of a class are matched by all its images together."""
    for path in part_files(product.images[0].folder):
        rows = read_table(path, ["class_index", "slot"]).to_pydict()
        pairs = set(zip(rows["class_index"], rows["slot"], strict=True))
        classes = {label for label, _ in pairs}
        assert len(classes) == 5
        assert pairs == {(label, slot) for label in classes for slot in range(2)}
    assert product.counts == [2] * 10


def test_the_teacher_is_the_mean_of_the_labelers_logits(engine, product):
    network, card = load_checkpoint(product.teacher.folder)
    assert [card.model.name, *(other.name for other in card.others)] == [
        "resnet10_thin",
        "convnet2",
    ]
    members = [load_checkpoint(item.folder)[0].eval() for item in observe(engine, CONFIG.observers)]
    views = torch.randn(4, 3, 16, 16)
    expected = torch.stack([member(views) for member in members]).mean(0)
    torch.testing.assert_close(network.eval()(views), expected)


@pytest.mark.slow
def test_labelers_may_be_fewer_than_the_observers(engine):
    product = distil(engine, replace(CONFIG, labelers=[1]))
    assert load_card(product.teacher.folder).name == "convnet2"


@pytest.mark.slow
def test_two_workers_make_the_same_images(engine, product):
    """Statistics and images: both are made again by two workers, in the same folders."""
    folder, before = product.images[0].folder, images(product)
    statistics = next(engine.stages.root.glob("statistics-*"))
    units = [*part_files(folder), *statistics.glob("sums/*/done.json")]
    for path in [*units, folder / "manifest.json", statistics / "manifest.json"]:
        path.unlink()
    arrays = {path.name: path.read_bytes() for path in statistics.glob("observer00/*.npy")}
    distil(make_engine(engine.stages.root.parent, num_workers=2), CONFIG)
    assert torch.equal(images(product), before)
    assert arrays == {path.name: path.read_bytes() for path in statistics.glob("observer00/*.npy")}


@pytest.mark.parametrize("start", ["rded", "noise"])
def test_every_start_gives_as_many_images(engine, product, start):
    config = replace(CONFIG, synthesis=replace(SYNTHESIS, start=start))
    made = distil(engine, config)
    assert made.counts == [2] * 10
    assert made.starts == []
    assert not torch.equal(images(made), images(product))


def test_the_surest_images_of_the_labelers_are_the_starts(engine):
    product = distil(engine, replace(CONFIG, order="simple"))
    scores = columns_of(product.scores)
    names, labels, logits = (scores[name] for name in ("id", "class_index", "true_logit"))
    chosen = SelectedIds(product.starts[0].folder, 10)
    for label in range(10):
        taken = np.isin(names, list(chosen[label]))
        assert taken.sum() == 2
        assert np.sort(logits[taken]).tolist() == np.sort(logits[labels == label])[-2:].tolist()
    for start in ("noise", "rded"):
        with pytest.raises(ValueError, match=r"order=simple is of real start images"):
            replace(CONFIG, order="simple", synthesis=replace(SYNTHESIS, start=start))


def test_without_synthesis_the_product_is_the_tiles(engine):
    made = distil(engine, replace(CONFIG, synthesis=None))
    still = distil(engine, replace(CONFIG, synthesis=replace(SYNTHESIS, start="rded", steps=1,
                                                             learning_rate=0.0)))  # fmt: skip
    assert torch.equal(images(made), images(still))  # rounding there and back loses nothing


def test_labelers_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"method.labelers=\[2\] must name observers"):
        replace(CONFIG, labelers=[2])


def differing(first, second):
    """Keys of two presets that differ, nested ones with dots."""
    from raydd.config.tree import decisive_values
    from raydd.store.files import differing_keys

    old, new = (
        decisive_values(compose_config([f"method={name}"]))["method"] for name in (first, second)
    )
    return set(differing_keys(old, new))


def test_the_presets_of_edc_differ_by_named_keys_only():
    assert differing("edc", "edc_paper") == {
        "name", "statistics.variance", "synthesis.momentum_start",
    }  # fmt: skip
    assert differing("edc_paper", "edc_code") == {"name", "synthesis.flatness_weight"}
    assert differing("edc", "gvbsm") == {
        "name", "synthesis.alpha", "synthesis.densification_weight", "synthesis.flatness_weight",
        "synthesis.learning_rate", "synthesis.momentum", "synthesis.roll", "synthesis.start",
        "synthesis.steps",
    }  # fmt: skip
    assert {"name", "observers", "synthesis"} <= differing("edc", "rded")
    assert compose_config(["method=rded"]).method.synthesis is None
