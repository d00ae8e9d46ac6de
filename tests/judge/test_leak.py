"""The leak check: copies are found with their ids, disturbed images are not."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ray import cloudpickle
from upath import UPath

from raydd.data.rows import image_table
from raydd.engine.passes import encoded, stream
from raydd.engine.passes.decode import decode_test, place_images
from raydd.engine.passes.stream import DataConfig
from raydd.judge import leak
from raydd.judge.leak import LeakConfig, check_leaks
from raydd.judge.leak_pass import Comparison
from raydd.store.artifacts import Artifact
from raydd.store.images import load_pixels
from raydd.store.tables import write_table
from small_engine import PREPROCESSING, make_engine

COPIES, NOISY = 12, 8
STREAMED = DataConfig(memory_limit_mb=0)


@pytest.fixture(scope="module")
def engine(ray4, tmp_path_factory):
    return make_engine(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def real(engine):
    (folder,) = place_images(engine, PREPROCESSING).folders
    return load_pixels(UPath(folder), 16)


@pytest.fixture(scope="module")
def images(real, tmp_path_factory):
    """Two artifacts: copies of real images, and noisy ones."""
    draws = np.random.default_rng(0)
    chosen = draws.permutation(len(real))[: COPIES + NOISY]
    pixels = real.images[chosen].permute(0, 2, 3, 1).numpy().copy()
    noise = draws.integers(-40, 41, pixels[COPIES:].shape)
    pixels[COPIES:] = (pixels[COPIES:].astype(int) + noise).clip(0, 255)
    artifacts = []
    for name, here in (("copies", slice(0, COPIES)), ("noisy", slice(COPIES, None))):
        folder = UPath(tmp_path_factory.mktemp(name))
        (folder / "parts").mkdir()
        labels = real.labels[chosen[here]].tolist()
        starts = [real.ids[i] for i in chosen[here]]
        table = image_table(pixels[here], labels, list(range(len(labels))), 1, starts, "synthetic")
        write_table(folder / "parts" / "00000.parquet", table)
        artifacts.append(Artifact(folder, name))
    return artifacts, pixels, real.labels[chosen].numpy()


def check(engine, images, config=None):
    return check_leaks(engine, images[0], config or LeakConfig(listed=COPIES + NOISY), "distilled")


@pytest.fixture(scope="module")
def checked(engine, images):
    return check(engine, images)


def test_copies_are_found_with_their_ids(checked):
    found = checked.summary
    assert (found["images"], found["copies"]) == (COPIES + NOISY, COPIES)
    for pair in found["nearest"][:COPIES]:
        assert pair["distance"] == 0
        assert pair["nearest_id"] == pair["id"]
        assert pair["curriculum"] == 1
    assert min(pair["distance"] for pair in found["nearest"][COPIES:]) > 1 / 255


def test_distances_are_those_of_all_pairs(checked, real, images):
    _, pixels, labels = images
    everything = real.images.permute(0, 2, 3, 1).numpy().astype(float) / 255
    expected = []
    for image, label in zip(pixels, labels, strict=True):
        same = np.flatnonzero(real.labels.numpy() == label)
        gaps = np.sqrt(np.square(everything[same] - image / 255).mean(axis=(1, 2, 3)))
        name = min(real.ids[i] for i in same[gaps == gaps.min()])
        expected.append((pytest.approx(gaps.min(), abs=1e-9), label, name))
    expected.sort(key=lambda pair: pair[0].expected)
    found = checked.summary["nearest"]
    order = [(pair["distance"], pair["class_index"], pair["nearest_id"]) for pair in found]
    key = (lambda pair: (pair[1], pair[2]), COPIES)  # copies are all at 0, in any order
    assert sorted(order[: key[1]], key=key[0]) == sorted(expected[: key[1]], key=key[0])
    assert order[key[1] :] == expected[key[1] :]


def test_test_images_say_what_is_usual(checked):
    found = checked.summary["test"]
    assert found["images"] == 355
    assert 0 < found["distances"]["median"] < 0.5
    assert sum(found["distances"]["histogram"]["counts"]) == 355
    assert checked.summary["distances"]["min"] == 0


def test_batches_and_an_interruption_change_nothing(images, checked, tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "CHUNK_ROWS", 50)
    first = check(make_engine(tmp_path, data=STREAMED), images)
    assert first.summary == checked.summary
    (first.folder / "manifest.json").unlink()
    (first.folder / "parts" / "00001.parquet").unlink()
    assert check(make_engine(tmp_path, data=STREAMED), images).summary == checked.summary


def test_decoded_images_are_not_decoded_again(images, checked, tmp_path, monkeypatch):
    engine = make_engine(tmp_path)
    place_images(engine, PREPROCESSING)
    decode_test(engine)
    opened = []
    monkeypatch.setattr(type(engine.train_source), "read", lambda *asked: opened.append(asked))
    monkeypatch.setattr(leak, "_STORED_ROWS", 50)
    found = check(engine, images)
    assert found.summary == checked.summary
    assert opened == []
    (found.folder / "manifest.json").unlink()
    (found.folder / "parts" / "00001.parquet").unlink()
    assert check(make_engine(tmp_path), images).summary == checked.summary


def test_other_processes_change_nothing(images, checked, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "_TRIED_SECONDS", 0.0)
    monkeypatch.setattr(stream, "WORTH_SECONDS", 0.0)
    assert check(make_engine(tmp_path, data=STREAMED), images).summary == checked.summary


def test_a_draw_and_a_smaller_side_bound_the_work(engine, images):
    found = check(engine, images, LeakConfig(images=7, side=4, listed=3)).summary
    assert found["images"] == found["test"]["images"] == 7
    assert len(found["nearest"]) == 3


@pytest.mark.parametrize("values", [{"images": 0}, {"threshold": 0}, {"side": 0}, {"threshold": 2}])
def test_what_cannot_run_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))) as refusal:
        replace(LeakConfig(), **values)
    assert "\n" not in str(refusal.value)


def test_processes_that_only_compare_never_import_torch():
    comparison = Comparison(np.zeros((1, 3), np.uint8), np.zeros(1), PREPROCESSING, 1000, 1)
    code = (
        "import sys, ray.cloudpickle as c; c.loads(sys.stdin.buffer.read()); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=cloudpickle.dumps(comparison.compare),
        capture_output=True,
        check=True,
    )
    assert done.stdout.strip() == b"False"
