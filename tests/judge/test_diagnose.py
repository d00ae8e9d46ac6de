"""Diagnosis of curricula: what repeats, what is valid, and nothing is done twice."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from upath import UPath

from raydd.data.rows import image_table
from raydd.engine.product import Curriculum, Product
from raydd.engine.training.loop import train_network
from raydd.engine.training.stage import new_job
from raydd.engine.vocabulary import squeeze
from raydd.errors import Refused
from raydd.judge.diagnose import DiagnoseConfig, diagnose
from raydd.judge.measure import MeasureJob, measure
from raydd.judge.protocol import ProtocolConfig
from raydd.models.features import FeatureTap
from raydd.models.preprocess import normalise
from raydd.models.registry import ModelConfig, create_model
from raydd.plan.planner import NotedStages
from raydd.report.gather import build_report
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import CheckpointCard, load_checkpoint, save_checkpoint
from raydd.store.images import load_pixels
from raydd.store.progress import Progress
from raydd.store.tables import write_table
from small_engine import PREPROCESSING, RECIPE, make_engine

NAMES = tuple("0123456789")
MODEL = ModelConfig("convnet2", width=8)
CONFIG = DiagnoseConfig(MODEL, replace(RECIPE, epochs=40, batch_size=10, crop="none"), batch=7)


def write_curriculum(folder, number, order):
    """Two parts of ten images; each class is a brightness, in an order of the curriculum's own."""
    (folder / "parts").mkdir(parents=True)
    for part in range(2):
        labels = torch.arange(10)
        draws = torch.Generator().manual_seed(10 * number + part)
        noise = torch.randint(10, (10, 16, 16, 3), generator=draws)
        pixels = (order(labels)[:, None, None, None] * 25 + noise).to(torch.uint8)
        table = image_table(
            pixels.numpy(), labels.tolist(), [part] * 10, number, [None] * 10, "synthetic"
        )
        write_table(UPath(folder / "parts" / f"{part:05d}.parquet"), table)
    summary = {"counts": [2] * 10, "slots": [2 * number, 2 * number + 2]}
    return Artifact(UPath(folder), f"images{number}", summary, "synthesize")


@pytest.fixture(scope="module")
def curricula(tmp_path_factory):
    """The second repeats the first, the third shows every class as another one."""
    folder = tmp_path_factory.mktemp("images")
    orders = [lambda c: c, lambda c: c, lambda c: (c + 5) % 10]
    return [write_curriculum(folder / str(i), i, order) for i, order in enumerate(orders)]


def checkpoint(folder, seed):
    torch.manual_seed(seed)
    folder.mkdir()
    card = CheckpointCard(MODEL, NAMES, PREPROCESSING)
    save_checkpoint(UPath(folder), create_model(MODEL, 10, 16), card)
    return Artifact(UPath(folder), f"network{seed}")


@pytest.fixture(scope="module")
def diagnosed(ray4, curricula, tmp_path_factory):
    storage = tmp_path_factory.mktemp("storage")
    engine = make_engine(storage)
    job = replace(
        new_job(engine, MODEL, CONFIG.recipe, "t", ("real",)), folder=str(storage / "ref")
    )
    (storage / "ref").mkdir()
    train_network(replace(job, images=(str(curricula[0].folder),)))
    reference = Artifact(UPath(storage / "ref"), "ref")
    networks = [checkpoint(storage / f"network{i}", i) for i in range(2)]
    return engine, networks, reference, diagnose(engine, curricula, networks, reference, CONFIG)


def test_repetition_and_validity_are_seen(diagnosed, curricula):
    cross, found = diagnosed[3].summary["cross"], diagnosed[3].summary
    assert [cross[i][i] for i in range(3)] == [None] * 3
    assert min(cross[0][1], cross[1][0]) > 0.5
    assert max(cross[0][2], cross[1][2], cross[2][0], cross[2][1]) < 0.3
    values = [value for row in cross for value in row if value is not None]
    assert found["cross_mean"] == pytest.approx(sum(values) / 6)
    validity = [item["validity"] for item in found["curricula"]]
    assert validity[0] > 0.5 > validity[2]
    assert found["union"]["validity"] == pytest.approx(sum(validity) / 3)
    assert [item["images"] for item in found["curricula"]] == [20] * 3


def plainly(folders, network):
    """Accuracy, features and labels of image sets, all at once."""
    sets = [load_pixels(folder, 16) for folder in folders]
    images, labels = (torch.cat([getattr(s, n) for s in sets]) for n in ("images", "labels"))
    network = load_checkpoint(network)[0].eval()
    inputs = normalise(images, PREPROCESSING.mean, PREPROCESSING.std)
    with torch.no_grad():
        logits, features = FeatureTap(network, 10)(inputs)
    return logits.argmax(1) == labels, features, labels


def test_figures_are_those_of_a_plain_computation(diagnosed, curricula):
    _, networks, reference, artifact = diagnosed
    found = artifact.summary
    assert found["curricula"][0]["discriminator"] is None
    for i, network in enumerate(networks):
        right, *_ = plainly([curricula[i + 1].folder], network.folder)
        assert found["curricula"][i + 1]["discriminator"] == pytest.approx(float(right.sum()) / 20)
    for folders, cosine in (
        ([curricula[1].folder], found["curricula"][1]["cosine"]),
        ([item.folder for item in curricula], found["union"]["cosine"]),
    ):
        right, features, labels = plainly(folders, reference.folder)
        cosines = F.normalize(features) @ F.normalize(features).T
        pairs = (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=bool)
        assert cosine == pytest.approx(float(cosines[pairs].mean()), abs=1e-4)
    shares = torch.bincount(labels[right], minlength=10) / 6
    listed = [(round(6 * item["validity"]), item["class_index"]) for item in found["classes"]]
    assert listed == sorted((round(6 * float(shares[c])), c) for _, c in listed)
    assert len(listed) == int((shares < 1).sum())


def test_finished_units_are_not_done_again(diagnosed, curricula, tmp_path):
    """What a killed driver left behind is continued to the same summary."""
    engine, networks, reference, artifact = diagnosed
    (artifact.folder / "manifest.json").unlink()
    (artifact.folder / "reference" / "measured.json").unlink()
    kept = artifact.folder / "curriculum0" / "measured.json"
    values = json.loads(kept.read_text())
    kept.write_text(json.dumps(values | {"right": [1, 2]}))
    engine.stages._finished.clear()
    again = diagnose(engine, curricula, networks, reference, CONFIG).summary
    assert again["cross"][0] == [None, 0.05, 0.1]  # as was found, not measured anew
    for name in ("curricula", "union", "classes"):
        assert again[name] == artifact.summary[name]


def test_one_curriculum_trains_nothing(diagnosed, curricula):
    engine, _, reference, _ = diagnosed
    found = diagnose(engine, curricula[:1], [], reference, CONFIG)
    assert (found.summary["cross"], found.summary["cross_mean"]) == ([], None)
    assert not list(found.folder.glob("*/model.safetensors"))


def test_foreign_networks_are_refused(tmp_path, curricula):
    network = checkpoint(tmp_path / "network", 0)
    folders = (str(curricula[0].folder),)
    job = MeasureJob("x", str(network.folder), folders, NAMES[::-1], 16, False, 7, "cpu")
    with pytest.raises(Refused, match="other classes"):
        measure(job)
    with pytest.raises(Refused, match="takes 16 pixels, the images have 8"):
        measure(replace(job, class_names=NAMES, resolution=8))


def test_a_discriminator_without_a_later_curriculum_is_refused(diagnosed, curricula):
    engine, networks, reference, _ = diagnosed
    with pytest.raises(ValueError, match="every discriminator needs a curriculum"):
        diagnose(engine, curricula[:2], networks, reference, CONFIG)


def test_the_report_carries_the_diagnosis(diagnosed, curricula):
    engine, _, reference, artifact = diagnosed
    known = {"top1": 0.5, "rows": 9, "rejected": 0, "reasons": {}}
    scores = Artifact(reference.folder, "s", known)
    product = Product(reference, scores, [Curriculum(i) for i in curricula], diagnosis=artifact)
    protocol = ProtocolConfig()
    assert build_report(engine, product, [], protocol, {}, {})["diagnosis"] == artifact.summary
    product.diagnosis = None
    assert build_report(engine, product, [], protocol, {}, {})["diagnosis"] is None


def test_a_plan_only_counts(diagnosed, curricula, tmp_path):
    engine, networks, _, _ = diagnosed
    stages = NotedStages(UPath(tmp_path), Progress())
    planned = replace(engine, stages=stages)
    diagnose(planned, curricula, networks, squeeze(planned), CONFIG)
    assert stages.rows[-1].units == 2 * 3 + 2 + 1
    assert list(tmp_path.iterdir()) == []
