"""The door: every wrong request gets one sentence and exit code 2, before any work."""

import json
import re
import shlex
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest
import ray.data
import yaml
from PIL import Image
from upath import UPath

import raydd
from doors import refuse_by
from raydd.data.distilled import read_distilled
from raydd.run import main
from raydd.store.journal import read_events

TINY = [
    "method.ipc=3",
    "method.boundaries=[1]",
    "method.synthesis.steps=3",
    "method.student.model.width=8",
    "method.student.recipe.epochs=2",
    "teacher.model.width=8",
    "teacher.recipe.epochs=2",
    "protocol.architectures=[{name: convnet2, width: 8}]",
    "protocol.seeds=2",
    "protocol.recipe.epochs=2",
]


@pytest.fixture(scope="module")
def finished(ray4, tmp_path_factory):
    storage = tmp_path_factory.mktemp("door")
    assert main([f"storage={storage}", "name=tiny", "export=imagefolder", *TINY]) == 0
    return storage


refuse = partial(refuse_by, main)


def test_unknown_key(capsys):
    assert "did you mean 'method.ipc'" in refuse(capsys, "method.ipx=3")


def test_wrong_type(capsys):
    assert "method.ipc takes integer values, got 'ten'" in refuse(capsys, "method.ipc=ten")


def test_ipc_above_the_class_size(capsys, tmp_path):
    assert "method.ipc=500 is more than class" in refuse(
        capsys, "method.ipc=500", f"storage={tmp_path}"
    )
    assert not list(tmp_path.iterdir())


def test_missing_root(capsys, tmp_path):
    text = refuse(capsys, "dataset=imagefolder", f"dataset.root={tmp_path}/none")
    assert "does not exist; set dataset.root" in text


def test_no_root_at_all(capsys):
    assert "needs dataset.root" in refuse(capsys, "dataset=parquet")


def test_no_gpu(capsys, ray4, tmp_path):
    text = refuse(capsys, "cluster.use_gpu=true", f"storage={tmp_path}")
    assert "no free GPU" in text


def test_more_workers_than_the_cluster_has(capsys, ray4, tmp_path):
    text = refuse(capsys, "cluster.num_workers=400", f"storage={tmp_path}")
    assert "cluster.num_workers=400 asks for more" in text


def test_unknown_network(capsys, tmp_path):
    text = refuse(capsys, "teacher.model.name=resnet18_smal", f"storage={tmp_path}", "plan=true")
    assert "did you mean resnet18_small" in text


def test_another_class_order_of_the_teacher(capsys, finished, tmp_path):
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    source = finished / "tiny" / "distilled" / "teacher"
    card = json.loads((source / "model.json").read_text())
    card["class_names"] = card["class_names"][::-1]
    (teacher / "model.json").write_text(json.dumps(card))
    (teacher / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    text = refuse(capsys, f"teacher.checkpoint={teacher}", f"storage={tmp_path}")
    assert "class order" in text


def test_a_name_that_belongs_to_another_configuration(capsys, finished):
    text = refuse(capsys, f"storage={finished}", "name=tiny", *TINY, "seed=5", "protocol.seeds=1")
    assert "protocol.seeds, seed" in text


def test_plan_prints_every_stage_and_writes_nothing(capsys, tmp_path):
    quick = "cluster.plan_seconds=1"
    assert main(["plan=true", quick, f"storage={tmp_path}/runs", *TINY]) == 0
    text = capsys.readouterr().out
    stages = ("squeeze teacher", "score teacher", "synthesize curriculum 2", "train student 1")
    for stage in (*stages, "evaluate distilled", "evaluate random"):
        assert re.search(rf"^{stage} +\d", text, re.M), text
    assert "memory" in text
    (hours,) = re.findall(r"^all stages +([\d.e-]+)$", text, re.M)
    assert 0 < float(hours) < 1
    assert "timed now on one cpu worker" in text or "cuda" in text
    assert not (tmp_path / "runs").exists()


def test_cfg_job_prints_a_tree_that_composes(capsys):
    assert main(["--cfg", "job", "method.ipc=7"]) == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree["method"]["ipc"] == 7
    assert tree["dataset"]["name"] == "digits"


def test_the_product_opens_in_datasets_ray_and_raydd(finished):
    folder = finished / "tiny" / "distilled"
    loaded = datasets.load_dataset(str(folder), split="train")
    assert len(loaded) == 30
    assert isinstance(loaded[0]["image"], Image.Image)
    assert loaded.features["label"].names == [str(i) for i in range(10)]
    assert ray.data.read_parquet(str(folder / "data")).count() == 30
    ours = raydd.load(str(folder))
    image, label = ours[0]
    assert (image.size, label) == ((16, 16), loaded[0]["label"])
    read_distilled(folder, verify=True)


def test_the_product_says_where_each_image_comes_from(finished):
    rows = list(read_distilled(finished / "tiny" / "distilled").rows())
    assert {(row.class_index, row.slot) for row in rows} == {
        (label, slot) for label in range(10) for slot in range(3)
    }
    assert {row.curriculum for row in rows} == {0, 1}
    assert len({row.source_id for row in rows}) == 30
    assert all(row.pixels.dtype == np.uint8 for row in rows)


def test_exported_folder_has_one_png_per_image(finished):
    assert len(list((finished / "tiny" / "imagefolder").glob("0000?/*.png"))) == 30


def test_report_has_last_epoch_accuracies_of_both_image_sets(finished):
    run = finished / "tiny"
    report = json.loads((run / "report.json").read_text())
    for images in ("distilled", "random"):
        values = report["headline"][images]["values"]
        assert len(values) == 2
        assert np.isclose(report["headline"][images]["mean"], np.mean(values))
    assert {result["images"] for result in report["results"]} == {"distilled", "random"}
    assert report["curricula"][1]["slots"] == [1, 3]
    assert [sum(c) for c in zip(*report["curricula"][1]["rungs"].values(), strict=True)] == [2] * 10
    assert report["bytes"]["images"] > 0
    assert report["bytes"]["teacher"] > 0
    assert "data:image/png;base64" in (run / "report.html").read_text()
    lines = list(read_events(UPath(run)))
    told = {(line["stage"], line.get("title")) for line in lines}
    assert {("squeeze", "teacher"), ("train", "student 1"), ("synthesize", None)} <= told
    judged = [line for line in lines if line["stage"] == "evaluate"]
    assert {(line["images"], line["seed"]) for line in judged} == {
        (images, seed) for images in ("distilled", "random") for seed in range(2)
    }
    assert {line["architecture"] for line in judged} == {"convnet2-w8"}


def test_the_random_baseline_draws_another_subset_for_every_seed(finished):
    stages = finished / "stages"
    chosen = []
    for manifest in stages.glob("fetch-*/manifest.json"):
        chosen.append(json.loads(manifest.read_text())["inputs"][0])
    assert len(set(chosen)) == 2


def test_the_same_command_again_makes_nothing_again(finished, capsys):
    capsys.readouterr()
    assert main([f"storage={finished}", "name=tiny", "export=imagefolder", *TINY]) == 0
    text = capsys.readouterr().out
    assert "evaluate distilled" in text
    assert re.search(r"^(decode|squeeze|score|synthesize|train|evaluate).* s$", text, re.M) is None


def test_every_command_of_the_readme_composes(capsys):
    text = (Path(__file__).parent.parent / "README.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"python -m raydd\.run([^#\n|&;`]*)", text)
    assert len(commands) >= 5
    for words in commands:
        options = [word for word in shlex.split(words) if word not in ("--cfg", "job")]
        assert main(["--cfg", "job", *options]) == 0, words
