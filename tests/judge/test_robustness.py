"""Robustness: accuracies of a plain computation, harder is lower, finished units are kept."""

import json
from dataclasses import replace

import pytest
import torch
from upath import UPath

from raydd.engine.passes.decode import decode_test
from raydd.engine.training.loop import train_network
from raydd.engine.training.stage import new_job
from raydd.judge.robustness import RobustnessConfig, measure_robustness
from raydd.models.preprocess import normalise
from raydd.models.registry import ModelConfig
from raydd.ops.attacks import add_noise, attack_pgd
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import load_frozen
from raydd.store.images import load_pixels
from small_engine import PREPROCESSING, RECIPE, make_engine

CONFIG = RobustnessConfig(noise=[0.1, 0.6], pgd=[2, 24], pgd_steps=3, images=0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(ray4, tmp_path_factory):
    """Two networks, one of them hardly trained, and the engine with the test split."""
    engine = make_engine(tmp_path_factory.mktemp("runs"))
    test = decode_test(engine)
    folders = []
    for name, epochs in (("good", 12), ("poor", 1)):
        folder = tmp_path_factory.mktemp(name)
        recipe = replace(RECIPE, epochs=epochs, crop="none", batch_size=32)
        job = new_job(engine, ModelConfig("convnet2", width=8), recipe, "t", (name,))
        train_network(replace(job, folder=str(folder), images=(str(test.folder),)))
        folders.append(UPath(folder))
    return engine, test, folders


def measure(trained, folder, config=CONFIG, parallel=1):
    engine, _, folders = trained
    if folder is not None:
        engine = make_engine(folder, parallel=parallel)
    networks = dict(zip(("good", "poor"), folders, strict=True))
    inputs = [Artifact(networks[name], name) for name in networks]
    return measure_robustness(engine, networks, config, inputs, "both")


@pytest.fixture(scope="module")
def measured(trained):
    return measure(trained, None)


def test_accuracies_are_those_of_a_plain_computation(trained, measured):
    _, test, folders = trained
    whole = load_pixels(test.folder, 16)
    images, labels = whole.images.float() / 255, whole.labels
    positions = range(len(whole))
    assert measured.summary["images"] == len(whole)
    for folder, found in zip(folders, measured.summary["results"], strict=True):
        network, _ = load_frozen(folder, CPU)

        def logits(x, network=network):
            return network(normalise(255 * x, PREPROCESSING.mean, PREPROCESSING.std))

        def right(x, logits=logits):
            return float((logits(x).argmax(1) == labels).float().mean())

        assert found["clean"] == pytest.approx(right(images))
        noisy = add_noise(images, 0.6, positions, 0, "robustness", "noise")
        assert found["noise"]["0.6"] == pytest.approx(right(noisy), abs=2 / len(whole))
        epsilon = 24 / 255
        attacked = attack_pgd(
            logits, images, labels, epsilon, 3, epsilon / 4, positions, 0, "robustness", "pgd"
        )
        assert found["pgd"]["24"] == pytest.approx(right(attacked), abs=2 / len(whole))


def test_stronger_disturbances_are_harder(measured):
    good, poor = measured.summary["results"]
    assert (good["name"], poor["name"]) == ("good", "poor")
    assert good["clean"] > 0.9 > poor["clean"]
    assert good["clean"] >= good["noise"]["0.1"] > good["noise"]["0.6"]
    assert good["clean"] >= good["pgd"]["2"] > good["pgd"]["24"]
    assert good["pgd"]["24"] < good["clean"] - 0.2


def test_a_draw_and_its_results_are_the_same_for_any_number_of_workers(trained, tmp_path):
    config = replace(CONFIG, images=150)
    one, two = (measure(trained, tmp_path / str(n), config, n).summary for n in (1, 2))
    assert one == two
    assert one["images"] == 150


def test_finished_units_are_not_done_again(trained, tmp_path):
    config = replace(CONFIG, images=20)
    first = measure(trained, tmp_path, config)
    kept, lost = sorted((first.folder / "units").iterdir())
    kept.write_text(json.dumps({"images": 20, "accuracies": {"clean": "kept"}}))
    lost.unlink()
    (first.folder / "manifest.json").unlink()
    again = measure(trained, tmp_path, config)
    assert again.summary["results"][0]["clean"] == "kept"
    assert again.summary["results"][1] == first.summary["results"][1]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"noise": [0.1, 10]}, "deviations in"),
        ({"pgd": [0]}, "changes in"),
        ({"pgd_steps": 0}, "pgd_steps must be at least 1"),
        ({"pgd_step": 0}, "pgd_step must be above 0"),
        ({"images": -1}, "images at least 0"),
    ],
)
def test_what_cannot_run_is_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        RobustnessConfig(**values)
    assert "\n" not in str(refusal.value)
