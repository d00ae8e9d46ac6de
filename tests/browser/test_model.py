"""The page's json block: which keys were swept, what trials share, pictures within their budget."""

import base64
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from raydd.browser import pictures as browse_pictures
from raydd.browser.model import finite, labels, page_model, settings
from raydd.browser.page import embed
from raydd.browser.pictures import draw_sheets
from raydd.browser.trials import read_trials
from raydd.ops.intervals import mean_and_interval
from small_trials import CLASSES, config, write_distilled, write_json, write_run, write_trial


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    root = tmp_path / "alphas"
    write_json(root / "sweep.json", {"name": "alphas", "search": "grid", "trials": 5})
    for ipc, alpha, seed, top1 in [(10, 0.1, 0, 0.5), (10, 0.1, 1, 0.52), (10, 0.2, 0, 0.55)]:
        overrides = {"method.ipc": ipc, "method.alpha": alpha, "seed": seed}
        write_trial(root, f"{ipc}-{alpha}-{seed}", overrides, top1)
    write_trial(root, "running", {"method.ipc": 50, "method.alpha": 0.1, "seed": 0})
    return root


def model_of(*roots: Path) -> dict:
    trials, sweeps = read_trials([str(root) for root in roots])
    return page_model(trials, sweeps, [[]] * len(trials), "title", 5000.0)


def test_swept_keys_are_those_that_the_sweep_set_without_the_seed(sweep: Path) -> None:
    keys = model_of(sweep)["keys"]
    assert keys == [
        {"key": "method.ipc", "label": "ipc"}, {"key": "method.alpha", "label": "alpha"},
    ]  # fmt: skip


def test_an_ablation_has_a_column_of_its_arms_and_none_of_what_they_set(tmp_path) -> None:
    arms = {"whole": {}, "wide": {"method.alpha": 0.4}}
    root = tmp_path / "ablation"
    record = {"name": "ablation", "search": "grid", "trials": 4, "space": {}, "arms": arms}
    write_json(root / "sweep.json", record)
    for name, arm in arms.items():
        for seed in (0, 1):
            write_trial(root, f"{name}{seed}", {**arm, "seed": seed}, 0.5)
    model = model_of(root)
    assert [key["key"] for key in model["keys"]] == ["method.ipc", "arm"]
    assert {t["name"]: t["values"]["arm"] for t in model["trials"]} == {
        "whole0": "whole", "whole1": "whole", "wide0": "wide", "wide1": "wide",
    }  # fmt: skip
    told = model["trials"][-1]["overrides"]  # of a trial, in full
    assert told == {**arms["wide"], "seed": 1}


def test_runs_without_a_sweep_are_told_apart_by_what_differs_within_their_method(tmp_path) -> None:
    write_run(tmp_path / "a", config("ccfs", alpha=0.1), 0.5)
    write_run(tmp_path / "b", config("ccfs", alpha=0.3), 0.5)
    other = config("edc")
    other["method"]["observers"] = 3  # differs between methods only: no key of either
    write_run(tmp_path / "c", other, 0.6)
    model = model_of(tmp_path)
    assert [key["key"] for key in model["keys"]] == ["method.ipc", "method.alpha"]
    assert [t["values"]["method.alpha"] for t in model["trials"]] == [0.1, 0.3, 0.2]


def test_trials_that_differ_in_the_seed_only_are_one_setting(sweep: Path) -> None:
    numbers = {t["name"]: t["setting"] for t in model_of(sweep)["trials"]}
    assert numbers["10-0.1-0"] == numbers["10-0.1-1"]
    assert len(set(numbers.values())) == 3
    assert settings([{}, {}]) == [0, 1]  # unreadable configurations are nobody's equals


def test_shared_configuration_is_written_once(sweep: Path) -> None:
    model = model_of(sweep)
    assert model["common"]["protocol.architectures.0.width"] == 8
    assert set(model["trials"][-1]["config"]) == {"method.ipc", "method.alpha", "seed"}
    for trial in model["trials"]:
        assert "protocol.name" not in trial["config"]


def test_an_unfinished_trial_is_there_without_a_result(sweep: Path) -> None:
    trial = next(t for t in model_of(sweep)["trials"] if t["name"] == "running")
    assert (trial["status"], trial["result"], trial["values"]["method.ipc"]) == (
        "unfinished", None, 50,
    )  # fmt: skip


def test_quantiles_give_the_intervals_of_the_reports(sweep: Path) -> None:
    model = model_of(sweep)
    values = [0.5, 0.52, 0.57, 0.49]
    half = model["quantiles"][4] * np.std(values, ddof=1) / math.sqrt(4)
    assert half == pytest.approx(mean_and_interval(values)[1])
    longest = max(len(t["trainings"]) for t in model["trials"])
    assert len(model["quantiles"]) > max(longest, len(model["trials"]))


def test_labels_are_the_shortest_ends_that_differ() -> None:
    assert labels(["method.alpha", "method.a.steps", "method.b.steps", "steps"]) == {
        "method.alpha": "alpha", "method.a.steps": "a.steps", "method.b.steps": "b.steps",
        "steps": "steps",
    }  # fmt: skip


def test_json_knows_no_nan_and_closes_no_element() -> None:
    assert finite({"a": [math.nan, (1.0, math.inf)], 1: "x"}) == {
        "a": [None, [1.0, None]],
        "1": "x",
    }
    text = embed({"name": "</script><!--<script>"})
    assert "<" not in text
    assert json.loads(text) == {"name": "</script><!--<script>"}


def decode(sheet: dict) -> np.ndarray:
    content = base64.b64decode(sheet["source"].removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_small_sets_are_shown_bit_for_bit(tmp_path: Path) -> None:
    write_distilled(tmp_path / "set", ipc=4)
    (first, second), nothing = draw_sheets([UPath(tmp_path / "set"), UPath(tmp_path / "none")])
    assert nothing == []
    assert [first["title"], second["caption"]] == [
        "Curriculum 1",
        "slots 2 to 3, one row per class",
    ]
    assert (first["columns"], first["tile"], first["class_names"]) == (2, 8, list(CLASSES))
    tiles = decode(second).reshape(3, 8, 2, 8, 3).transpose(0, 2, 1, 3, 4)
    for label in range(3):
        for column in range(2):
            assert (tiles[label, column] == (label, column + 2, 1)).all()


def test_pictures_stay_within_their_budget_and_are_shared_out(tmp_path: Path) -> None:
    for name in "abc":
        write_distilled(tmp_path / name, ipc=20, classes=tuple(map(str, range(12))), real=10)
    folders = [UPath(tmp_path / name) for name in "abc"]
    for budget, expected in ((6000, True), (150, False)):
        drawn = draw_sheets(folders, budget)
        total = sum(len(sheet["source"]) * 3 // 4 for sheets in drawn for sheet in sheets)
        assert total <= budget + 100
        assert all(len(sheets) == 2 for sheets in drawn) == expected
    full = draw_sheets(folders[:1])[0][1]
    assert "real images of median difficulty" in full["caption"]
    assert len(full["class_names"]) == full["columns"] == browse_pictures.GRID_SLOTS


def test_a_damaged_set_is_a_trial_without_pictures(tmp_path: Path) -> None:
    write_distilled(tmp_path / "set")
    next((tmp_path / "set" / "data").iterdir()).write_bytes(b"no parquet")
    write_distilled(tmp_path / "good")
    bad, good = draw_sheets([UPath(tmp_path / "set"), UPath(tmp_path / "good")])
    assert (bad, len(good)) == ([], 2)
