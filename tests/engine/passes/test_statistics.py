"""Class statistics: exact, the same for any cut of the set, and only missing units are redone."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from upath import UPath

from raydd.data.images import decode
from raydd.data.sources import open_source
from raydd.engine.passes.decode import stored_images
from raydd.engine.passes.statistics import class_statistics, measure, read_targets
from raydd.engine.passes.statistics_batches import StatisticsConfig, draw_views
from raydd.models.observer import ObserverTap
from raydd.models.preprocess import normalise
from raydd.models.registry import ModelConfig, create_model
from raydd.store.arrays import read_rows
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import CheckpointCard, save_checkpoint
from small_engine import PREPROCESSING, make_engine

MODELS = (ModelConfig("resnet10_thin", width=8), ModelConfig("convnet2", width=6))
PLAIN = StatisticsConfig(view="none", batch_norm_targets="measured", units=3, batch=64)


@pytest.fixture(scope="module")
def observers(tmp_path_factory):
    """Untrained networks; their BatchNorm layers have seen noise."""
    artifacts = []
    for number, model in enumerate(MODELS):
        folder = UPath(tmp_path_factory.mktemp(f"observer{number}"))
        torch.manual_seed(number)
        network = create_model(model, 10, 16)
        network(torch.randn(64, 3, 16, 16))
        names = tuple(map(str, range(10)))
        save_checkpoint(folder, network.eval(), CheckpointCard(model, names, PREPROCESSING))
        artifacts.append(Artifact(folder, f"observer{number}", stage="squeeze"))
    return artifacts


def measured_in(folder, observers, config, source=None, is_stored=False):
    engine = make_engine(folder, source=source or open_source("digits", "", "test"))
    stored = stored_images(engine, PREPROCESSING) if is_stored else None
    return measure(engine, observers, stored, config)


def arrays(artifact):
    paths = sorted(artifact.folder.glob("observer*/*.npy"), key=str)
    return {f"{p.parent.name}/{p.name}": np.load(str(p)) for p in paths}


def by_the_book(observer, model):
    """Means and total variances of all pixels of each class, and of the whole set: [11, 2, W]."""
    source = open_source("digits", "", "test")
    rows = [row for shard in source.shards() for row in source.read(shard)]
    pixels = np.stack([decode(row.image, PREPROCESSING, 10**6) for row in rows])
    labels = np.array([row.class_index for row in rows])
    from raydd.store.checkpoint import load_checkpoint

    network = load_checkpoint(observer.folder)[0].eval()
    tap = ObserverTap(network, 16, PLAIN.patch)
    images = normalise(
        torch.from_numpy(pixels).permute(0, 3, 1, 2), PREPROCESSING.mean, PREPROCESSING.std
    )
    groups = [labels == label for label in range(10)] + [labels >= 0]
    with torch.no_grad():
        return np.stack([torch.stack(tap(images[torch.from_numpy(g)])[1]).numpy() for g in groups])


@pytest.fixture(scope="module")
def measured(tmp_path_factory, observers):
    folder = tmp_path_factory.mktemp("statistics")
    return folder, measured_in(folder, observers, PLAIN)


def test_statistics_are_those_of_the_whole_set_in_one_batch(measured, observers):
    _, artifact = measured
    found = arrays(artifact)
    for number, (observer, model) in enumerate(zip(observers, MODELS, strict=True)):
        names = sorted(name for name in found if name.startswith(f"observer{number:02d}"))
        assert len(names) == len(artifact.summary["layers"][number])
        ours = np.concatenate([found[name].reshape(11, 2, -1) for name in names], axis=2)
        np.testing.assert_allclose(ours, by_the_book(observer, model), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("change", [{"units": 1}, {"units": 50}, {"batch": 17}])
def test_statistics_do_not_depend_on_how_the_set_is_cut(measured, observers, tmp_path, change):
    expected = arrays(measured[1])
    for name, ours in arrays(measured_in(tmp_path, observers, replace(PLAIN, **change))).items():
        np.testing.assert_allclose(ours, expected[name], rtol=1e-6, atol=1e-6)


def test_statistics_of_stored_images_are_those_of_decoded_ones(ray4, measured, observers, tmp_path):
    again = measured_in(tmp_path, observers, PLAIN, is_stored=True)
    for name, array in arrays(again).items():
        np.testing.assert_array_equal(array, arrays(measured[1])[name])


def test_statistics_do_not_depend_on_the_order_of_the_shards(measured, observers, tmp_path):
    class Reversed:
        def __init__(self):
            self.inner = open_source("digits", "", "test")

        def __getattr__(self, name):
            return getattr(self.__dict__["inner"], name)

        def shards(self):
            return self.inner.shards()[::-1]

    expected = arrays(measured[1])
    config = replace(PLAIN, view="pad")
    ways = (measured_in(tmp_path / "a", observers, config), None)
    ways = (ways[0], measured_in(tmp_path / "b", observers, config, Reversed()))
    first, second = map(arrays, ways)
    for name in expected:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-6, atol=1e-6)
        assert not np.allclose(first[name], expected[name], rtol=1e-3)  # the view does something


def test_only_missing_units_are_measured_again(measured, observers):
    folder, artifact = measured
    before = arrays(artifact)
    kept, lost = (artifact.folder / "sums" / name for name in ("000", "001"))
    stamp = (kept / "done.json").stat().st_mtime
    (lost / "done.json").unlink()
    (artifact.folder / "manifest.json").unlink()
    again = measured_in(folder, observers, PLAIN)
    assert (kept / "done.json").stat().st_mtime == stamp
    assert json.loads((lost / "done.json").read_text())["counts"]
    assert all(np.array_equal(value, before[name]) for name, value in arrays(again).items())


def test_the_global_targets_of_norms_are_what_they_remember(measured, observers, tmp_path):
    artifact = measured_in(tmp_path, observers, replace(PLAIN, batch_norm_targets="running"))
    measured_arrays, ours = arrays(measured[1]), arrays(artifact)
    from raydd.store.checkpoint import load_checkpoint

    network = load_checkpoint(observers[0].folder)[0]
    for number, layer in enumerate(artifact.summary["layers"][0]):
        name = f"observer00/{number:03d}.npy"
        if layer["kind"] == "norm":
            norm = network.get_submodule(layer["name"])
            remembered = torch.cat([norm.running_mean, norm.running_var]).numpy()
            np.testing.assert_allclose(ours[name][-1], remembered, rtol=1e-6)
        else:
            np.testing.assert_array_equal(ours[name], measured_arrays[name])
        np.testing.assert_array_equal(ours[name][:-1], measured_arrays[name][:-1])


def test_the_variance_within_images_leaves_out_what_lies_between_them():
    draws = np.random.default_rng(0).normal(size=(40, 9))  # 40 images of 9 pixels
    mean, var = draws.mean(1), draws.var(1)
    sums = np.array([[[mean.sum()], [(mean**2).sum()], [var.sum()]], np.zeros((3, 1))])
    counts = np.array([40, 0])
    total = class_statistics(sums, counts, "total")
    within = class_statistics(sums, counts, "within")
    assert total[0, 1, 0] == pytest.approx(draws.var())
    assert within[0, 1, 0] == pytest.approx(var.mean())
    assert total[0, 0, 0] == within[0, 0, 0] == pytest.approx(draws.mean())
    np.testing.assert_allclose(total[1], total[2])  # an empty class gets the whole set's


def test_targets_are_the_whole_sets_and_the_batchs_mixture(measured):
    _, artifact = measured
    layers = len(artifact.summary["layers"][1])
    targets = read_targets(artifact.folder, 1, layers, 10, [3, 7, 7])
    stored = np.concatenate(
        [v.reshape(11, 2, -1) for n, v in arrays(artifact).items() if n.startswith("observer01")],
        axis=2,
    )
    np.testing.assert_allclose(targets[0], stored[10], rtol=1e-6)
    np.testing.assert_allclose(targets[1], (stored[3] + 2 * stored[7]) / 3, rtol=1e-5, atol=1e-7)


def test_rows_are_read_without_the_rest(tmp_path):
    values = np.arange(24, dtype=np.float16).reshape(6, 2, 2)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(read_rows(UPath(tmp_path / "a.npy"), 2, 5), values[2:5])
    np.save(tmp_path / "b.npy", np.asfortranarray(values[:, :, 0]))
    with pytest.raises(ValueError, match="by columns"):
        read_rows(UPath(tmp_path / "b.npy"), 0, 1)


def test_many_threads_may_read_rows_at_once(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(40.0).reshape(20, 2))
    path = UPath(tmp_path / "a.npy")
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda i: read_rows(path, i % 20, i % 20 + 1)[0, 0], range(2000)))
    assert rows == [2.0 * (i % 20) for i in range(2000)]


@pytest.mark.parametrize("view", ["pad", "resized"])
def test_a_view_belongs_to_its_image(view):
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    names = [f"image{i}" for i in range(5)]
    config = StatisticsConfig(view=view, padding=3)
    whole = draw_views(pixels, names, config, 0.5, 0)
    order = [3, 0, 4]
    some = draw_views(pixels[order], [names[i] for i in order], config, 0.5, 0)
    torch.testing.assert_close(some, whole[order])
    assert not torch.equal(draw_views(pixels, names, config, 0.5, 1), whole)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"view": "zoom"}, "view must be one of"), ({"dtype": "int8"}, "dtype must be"),
     ({"units": 0}, "units must be at least 1")],
)  # fmt: skip
def test_what_cannot_run_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        StatisticsConfig(**change)
