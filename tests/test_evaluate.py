"""The judge's door: any layout is judged, every wrong request gets one sentence and exit code 2."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from upath import UPath

from doors import refuse_by
from raydd.config.compose import config_dir, to_typed
from raydd.config.dataset import preprocessing_of
from raydd.config.tree import check_networks
from raydd.data.any_set import open_any_set
from raydd.data.distilled import read_distilled
from raydd.data.export import export_imagefolder
from raydd.engine.labels.data import LabelConfig
from raydd.engine.passes.decode import list_images
from raydd.engine.product import Curriculum, Product
from raydd.engine.selection.fetch import random_images
from raydd.engine.vocabulary import relabel, squeeze
from raydd.evaluate import EvaluateConfig, main
from raydd.evaluate import _compose as compose
from raydd.report.write import write_product
from raydd.store.failure import ERROR
from small_engine import make_engine

SMALL = [
    "teacher.model.width=8",
    "teacher.recipe.epochs=2",
    "protocol.architectures=[{name: convnet2, width: 8}]",
    "protocol.seeds=2",
    "protocol.recipe.epochs=2",
]
WHOLE = [
    "judge=full",
    "judge.architectures=[{name: convnet1, width: 8}]",
    "judge.attack={noise: [0.1], pgd: [2], pgd_steps: 1, images: 20}",
]
HARD = ["protocol.labels=hard", "judge.herding=false"]


@pytest.fixture(scope="module")
def storage(ray4, tmp_path_factory):
    return tmp_path_factory.mktemp("judge")


@pytest.fixture(scope="module")
def ours(storage) -> Path:
    """Two real images of each class, with seeded labels for the protocol's views."""
    config = to_typed(compose(["x", *SMALL]), EvaluateConfig)
    engine = replace(
        make_engine(storage),
        preprocessing=preprocessing_of(config.dataset),
        teacher=config.teacher,
        labels=LabelConfig("seeded"),
    )
    teacher = squeeze(engine)
    engine = engine.seen_by(teacher)
    product = Product(teacher, list_images(engine))
    product.curricula.append(Curriculum(random_images(engine, product.scores, [2] * 10, 9)))
    recipe = config.protocol.recipe
    product.labels = relabel(engine, product.images, teacher, recipe, "distilled")
    about = {"name": "n", "method": "random", "dataset": "digits", "licence": "mit", "seed": 0}
    about |= {"ipc": 2, "config": {}}
    write_product(UPath(storage / "ours" / "distilled"), engine, product, [], about, "none")
    return storage / "ours" / "distilled"


@pytest.fixture(scope="module")
def judged(storage, ours) -> Path:
    assert main([str(ours), f"storage={storage}", "name=whole", *SMALL, *WHOLE]) == 0
    return storage / "whole"


refuse = partial(refuse_by, main)


def load(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_the_report_has_every_set_with_every_network_and_kind_of_labels(judged):
    report = load(judged)
    assert report["kind"] == "evaluation"
    assert (report["layout"], report["num_images"]) == ("raydd", 20)
    rows = [(row["labels"], row["architecture"]) for row in report["table"]]
    assert rows == [(kind, f"convnet{d}-w8") for kind in ("soft", "hard") for d in (2, 1)]
    for row in report["table"]:
        assert list(row["sets"]) == ["distilled", "random", "herding"]
        for part in row["sets"].values():
            assert len(part["values"]) == 2
            assert np.isclose(part["mean"], np.mean(part["values"]))
    assert report["headline"] == report["table"][0]
    last = [r["curve"][-1]["top1"] for r in report["results"]]
    assert last == [r["top1_last"] for r in report["results"]]


@pytest.mark.slow
def test_our_set_is_trained_with_its_own_labels(judged, ours):
    report = load(judged)
    assert report["teacher"]["labels"] == "own"
    names = [stage["name"] for stage in report["stages"]]
    assert "relabel random" in names  # the rivals get labels of the same form
    assert "relabel distilled" not in names
    assert report["bytes"] == read_distilled(ours).info.sizes
    assert min(report["bytes"].values()) > 0


@pytest.mark.slow
def test_real_images_are_found_to_be_copies(judged):
    leak = load(judged)["leak"]
    assert (leak["images"], leak["copies"]) == (20, 20)
    assert leak["test"]["copies"] == 0
    assert {pair["id"] == pair["nearest_id"] for pair in leak["nearest"]} == {True}


@pytest.mark.slow
def test_scores_are_those_of_their_ingredients(judged):
    report = load(judged)
    scores, table = report["scores"], report["table"]
    soft, hard = table[0]["sets"], table[2]["sets"]
    assert scores["distilled"] == pytest.approx(soft["distilled"]["mean"])
    assert scores["distilled_hard"] == pytest.approx(hard["distilled"]["mean"])
    assert scores["ior"] == pytest.approx(soft["distilled"]["mean"] - soft["random"]["mean"])
    assert scores["hlr"] == pytest.approx(scores["real_hard"] - scores["distilled_hard"])
    alpha = 0.5 * (scores["ior"] - scores["hlr"])
    assert scores["lrs"] == pytest.approx((np.exp(alpha) - np.exp(-1)) / (np.e - np.exp(-1)))
    assert 0 < scores["ars"] < 1


@pytest.mark.slow
def test_robustness_is_of_the_headlines_networks(judged):
    report = load(judged)
    networks = report["robustness"]["networks"]
    names = [(n["images"], n["seed"]) for n in networks]
    assert names == [(s, i) for s in ("distilled", "random", "herding") for i in (0, 1)]
    assert report["robustness"]["images"] == 20
    assert all(list(n["noise"]) == ["0.1"] and list(n["pgd"]) == ["2"] for n in networks)


@pytest.mark.slow
def test_the_page_shows_it_and_loads_nothing(judged):
    page = (judged / "report.html").read_text()
    for words in ("Herded real images", "LRS", "by PGD", "closest pairs", "20 of 20"):
        assert words in page
    assert page.count("data:image/png;base64") >= 11
    assert not re.search(r"(src|href)=\"(?!data:)", page)


@pytest.mark.slow
def test_a_killed_judge_goes_on_with_the_trainings_that_are_missing(judged, storage, ours):
    before = load(judged)
    stage = next(
        folder.parent
        for folder in storage.glob("stages/evaluate-*/convnet1-w8-seed0")
        if json.loads((folder.parent / "manifest.json").read_text())["config"]["protocol"]["labels"]
        == "hard"
    )
    outcomes = {path: path.stat().st_mtime_ns for path in stage.glob("*/outcome.json")}
    lost = stage / "convnet1-w8-seed0" / "outcome.json"
    (stage / "manifest.json").unlink()
    lost.unlink()
    assert main([str(ours), f"storage={storage}", "name=whole", *SMALL, *WHOLE]) == 0
    redone = {path for path, time in outcomes.items() if path.stat().st_mtime_ns != time}
    assert redone == {lost}
    assert load(judged)["table"] == before["table"]
    again = [s["name"] for s in load(judged)["stages"] if not s["cached"]]
    assert len(again) == 1


def test_an_exported_folder_is_the_same_set_without_a_teacher(storage, ours, capsys):
    folder = storage / "older"
    export_imagefolder(ours, folder)
    words = [str(folder), f"storage={storage}", "name=older", "judge.leak=false", *SMALL, *HARD]
    assert main(words) == 0
    report = load(storage / "older")
    assert (report["layout"], report["teacher"]) == ("imagefolder", None)
    assert list(report["headline"]["sets"]) == ["distilled", "random"]
    files = folder.glob("0*/*.png")
    size = sum(file.stat().st_size for file in files)
    assert report["bytes"] == {"images": size, "labels": 0, "teacher": 0}
    text = capsys.readouterr().out
    assert re.search(r"^the set +\d", text, re.M)
    assert re.search(r"^random real images +\d", text, re.M)
    assert f"report: {storage / 'older' / 'report.html'}" in text


@pytest.mark.slow
def test_a_parquet_folder_asks_the_configured_teacher(storage, ours):
    source = open_any_set(str(ours), read_distilled(ours).info.class_names, "image", "label")
    rows = [{"image": {"bytes": i.image, "path": None}, "label": i.class_index}
            for i in source.images() if i.class_index or i.slot]  # fmt: skip
    folder = storage / "hub"
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet")
    words = ["judge.leak=false", "judge.herding=false", *SMALL]
    assert main([str(folder), f"storage={storage}", "name=hubs", *words]) == 0
    report = load(storage / "hubs")
    assert (report["layout"], report["num_images"]) == ("parquet", 19)
    assert (report["counts"]["least"], report["counts"]["most"]) == (1, 2)
    assert report["teacher"]["labels"] == "configured teacher"
    assert report["bytes"]["teacher"] > 0


@pytest.mark.slow
def test_labels_of_other_views_are_left_to_the_sets_teacher(storage, ours):
    views = ["protocol.recipe.crop_scale=[0.5,1.0]", "judge.leak=false", "judge.herding=false"]
    words = [str(ours), f"storage={storage}", "name=views", *SMALL, *views, "protocol.seeds=1"]
    assert main(words) == 0
    report = load(storage / "views")
    assert report["teacher"]["labels"] == "own teacher"
    assert not [s for s in report["stages"] if s["name"].startswith("relabel")]


@pytest.mark.slow
def test_a_name_that_belongs_to_another_set(capsys, judged, storage, ours, tmp_path):
    export_imagefolder(ours, tmp_path / "x")
    text = refuse(capsys, str(tmp_path / "x"), f"storage={storage}", "name=whole", *SMALL, *WHOLE)
    assert "these keys differ: folder." in text


def test_wrong_words_get_one_sentence(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    empty, store = str(tmp_path / "empty"), f"storage={tmp_path}/runs"
    assert "there is no key 'judge.herdin', did you mean 'judge.herding'" in refuse(
        capsys, empty, "judge.herdin=false"
    )
    assert "there is no judge 'slow'; choose one of full, quick" in refuse(
        capsys, empty, "judge=slow"
    )
    assert "judge.labels takes soft and hard" in refuse(capsys, empty, "judge.labels=[wet]")
    assert "name the folder of one distilled set as the first word." in refuse(capsys, store)
    assert "got a and b" in refuse(capsys, "a", "b")
    assert "holds no distilled set" in refuse(capsys, empty, store)
    assert "does not exist" in refuse(capsys, str(tmp_path / "none"), store)
    (tmp_path / "dogs" / "dog").mkdir(parents=True)
    assert "has a folder 'dog'" in refuse(capsys, str(tmp_path / "dogs"), store)
    assert not (tmp_path / "runs").exists()


def test_a_run_is_told_from_its_set(capsys, storage, ours):
    text = refuse(capsys, str(storage / "ours"), f"storage={storage}/other")
    assert f"{storage / 'ours'} is a run; its distilled set is {ours}." in text


def test_a_set_brings_what_it_was_made_from_but_the_place(ours, tmp_path):
    shutil.copytree(ours, tmp_path / "set")
    record = json.loads((tmp_path / "set" / "raydd.json").read_text())
    record["config"] = {
        "dataset": {"name": "mine", "kind": "imagefolder", "root": "pictures", "classes": None,
                    "classes_file": None, "resolution": 48, "resize": 52, "mean": [0.1, 0.2, 0.3]},
        "data": {"max_rejected": 0.05},
    }  # fmt: skip
    (tmp_path / "set" / "raydd.json").write_text(json.dumps(record))
    tree = compose([str(tmp_path / "set"), "dataset.root=/data/mine", "dataset.resize=60"])
    found = to_typed(tree, EvaluateConfig)
    assert (found.dataset.kind, found.dataset.root) == ("imagefolder", "/data/mine")
    assert (found.dataset.resolution, found.dataset.resize) == (48, 60)
    assert tuple(found.dataset.mean) == (0.1, 0.2, 0.3)
    assert found.data.max_rejected == 0.05
    named = compose([str(tmp_path / "set"), "dataset=cifar10"])
    assert (named.dataset.name, named.data.max_rejected) == ("cifar10", 0.01)


def test_more_images_than_there_are_real_ones(capsys, storage, ours, tmp_path):
    image = next((storage / "ours" / "distilled").glob("data/*.parquet"))
    one = pq.read_table(image)["image"][0].as_py()["bytes"]
    (tmp_path / "3").mkdir()
    for number in range(180):
        (tmp_path / "3" / f"{number}.png").write_bytes(one)
    text = refuse(capsys, str(tmp_path), f"storage={storage}", "name=many", *SMALL, *HARD)
    assert re.search(r"has 180 images of class '3', but there are only \d+ real ones", text)
    assert (storage / "many" / ERROR).read_text() == text.strip()


def test_a_set_of_another_resolution_is_refused(capsys, ours, tmp_path):
    words = ["dataset.resolution=8", "dataset.resize=8", f"storage={tmp_path}/runs"]
    assert "has images of 16 px, the data set 8 px" in refuse(capsys, str(ours), *words)


@pytest.mark.parametrize("choice", sorted(p.stem for p in (config_dir() / "judge").glob("*.yaml")))
def test_every_preset_composes(choice):
    config = to_typed(compose(["x", f"judge={choice}"]), EvaluateConfig)
    assert (config.folder, config.judge.name) == ("x", choice)
    check_networks(config, preprocessing_of(config.dataset), 10)


def test_cfg_job_prints_a_tree_that_composes(capsys):
    assert main(["--cfg", "job", "protocol=dc", "judge=full"]) == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert (tree["protocol"]["labels"], tree["judge"]["scores"]) == ("hard", True)


def test_every_command_of_the_readme_composes(capsys):
    text = (Path(__file__).parent.parent / "README.md").read_text()
    commands = re.findall(r"python -m raydd\.evaluate([^#\n|&;`]*)", text)
    assert commands
    for words in commands:
        assert main(["--cfg", "job", *words.split()]) == 0, words
