"""Runs with seeded or stored labels: the judge trains from them and the product carries them."""

import json
from dataclasses import replace

import pytest
import torch
from upath import UPath

import raydd
from raydd.config.compose import ConfigError
from raydd.config.tree import compose_config
from raydd.data.distilled import read_distilled
from raydd.engine.labels.data import LabelConfig, LabelData, open_labels
from raydd.engine.labels.relabel import relabel
from raydd.engine.passes.score import score_teacher
from raydd.engine.product import Curriculum, Product
from raydd.engine.selection.fetch import random_images
from raydd.engine.training.teacher import squeeze
from raydd.judge.product import judge
from raydd.judge.protocol import ProtocolConfig, ask_judges, train_judges
from raydd.models.registry import ModelConfig
from raydd.report.gather import build_report
from raydd.report.write import write_product, write_report
from raydd.run import main
from raydd.store.images import load_sets
from small_engine import RECIPE, make_engine

PROTOCOL = ProtocolConfig(
    architectures=[ModelConfig("convnet2", width=8)],
    seeds=2,
    recipe=replace(RECIPE, batch_size=8, mix="cutmix", temperature=4.0),
)
ABOUT = {
    "name": "n",
    "method": "random",
    "dataset": "digits",
    "licence": "mit",
    "seed": 0,
    "ipc": 2,
    "config": {},
}


@pytest.fixture(scope="module")
def storage(ray4, tmp_path_factory):
    return tmp_path_factory.mktemp("storage")


def distil(storage, config):
    """Two real images per class as a product, labelled."""
    engine = make_engine(storage, labels=config)
    teacher = squeeze(engine)
    product = Product(teacher, score_teacher(engine, teacher))
    product.curricula.append(Curriculum(random_images(engine, product.scores, [2] * 10, 9)))
    engine = engine.seen_by(teacher)
    product.labels = relabel(engine, product.images, teacher, PROTOCOL.recipe, "distilled")
    return engine, product


FORMS = (LabelConfig("seeded"), LabelConfig("stored", 3), LabelConfig("stored", logits="int8"))


@pytest.mark.parametrize("config", FORMS, ids=vars)
def test_the_judge_trains_from_the_labels_that_the_product_carries(storage, tmp_path, config):
    engine, product = distil(storage, config)
    results = judge(engine, product, PROTOCOL)
    assert [r["images"] for r in results] == ["distilled"] * 2 + ["random"] * 2
    relabels = [record for record in engine.stages.records if record.name.startswith("relabel")]
    assert len(relabels) == 3  # the product and one random set for each seed

    folder = UPath(tmp_path / "distilled")
    sizes = write_product(folder, engine, product, results, ABOUT, "none")
    files = read_distilled(folder, verify=True).info.files
    for part, place in (("labels", "labels"), ("teacher", "teacher"), ("images", "data")):
        written = sum(path.stat().st_size for path in (folder / place).iterdir())
        assert sizes[part] == written > 0
    assert ("labels/block0000000.parquet" in files) == (config.form == "stored")
    assert len(raydd.load(folder)) == 20
    assert "open_labels" in (folder / "README.md").read_text()

    theirs = LabelData(
        product.labels.folder / "labels",
        load_sets([str(product.images[0].folder)], 16, torch.device("cpu")),
    )
    ours = open_labels(folder)
    assert ours.is_exact
    for one, two in zip(ours.batches(1), theirs.batches(1), strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.logits, two.logits)

    report = build_report(engine, product, results, PROTOCOL, sizes, ABOUT)
    assert report["bytes"] == sizes
    write_report(UPath(tmp_path), report, product, engine)


def test_trainings_from_labels_differ_from_those_that_ask_online(storage):
    outcomes = []
    for config in (LabelConfig(), LabelConfig("seeded")):
        engine, product = distil(storage, config)
        sets, teacher = [product.images] * 2, product.teacher
        asked = ask_judges(engine, sets, PROTOCOL, teacher, "distilled")
        (judges,) = train_judges(engine, [asked])
        outcomes.append([result["curve"] for result in judges.summary["results"]])
    assert outcomes[0] != outcomes[1]
    assert outcomes[1][0] != outcomes[1][1]  # the seeds share views, not initialisations


def test_online_products_carry_none(storage, tmp_path):
    engine, product = distil(storage, LabelConfig())
    assert product.labels is None
    sizes = write_product(UPath(tmp_path / "set"), engine, product, [], ABOUT, "none")
    assert sizes["labels"] == 0
    assert sizes["teacher"] > 0
    with pytest.raises(ValueError, match="carries no labels"):
        open_labels(tmp_path / "set")


def test_labels_of_the_protocols_epochs_unless_told_otherwise(storage):
    for epochs, wanted in ((None, PROTOCOL.recipe.epochs), (1, 1)):
        _, product = distil(storage, LabelConfig("seeded", epochs=epochs))
        info = json.loads((product.labels.folder / "labels" / "labels.json").read_text())
        assert info["epochs"] == wanted


def test_the_plan_names_the_labels_and_their_bytes(capsys, tmp_path):
    words = ["plan=true", f"storage={tmp_path}/runs", "labels.form=stored", "labels.top_k=3"]
    assert main(words) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("relabel")]
    assert [" ".join(line.split()[:2]) for line in lines] == ["relabel distilled"] + [
        "relabel random"
    ] * 5


def test_hard_labels_have_no_form():
    with pytest.raises(ConfigError, match=r"labels\.form=seeded needs protocol\.labels=soft"):
        compose_config(["labels.form=seeded", "protocol.labels=hard"])
    with pytest.raises(ConfigError, match=r"labels\.form must be online, seeded or stored"):
        compose_config(["labels.form=cached"])
