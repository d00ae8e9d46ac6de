"""One seed has no interval: the report stays valid json, and people read "one seed"."""

import json
import shlex

import pytest
from upath import UPath

from raydd.report.gather import headline
from raydd.report.write import _card_results
from raydd.run import _say_result
from raydd.store.progress import Progress


def results(seeds):
    return [
        {"architecture": "net", "images": images, "seed": seed, "top1_last": 0.5 + 0.1 * seed}
        for images in ("distilled", "random")
        for seed in range(seeds)
    ]


def say(capsys, seeds, words=(), **rejected):
    report = {
        "rejected": {"count": 0, "reasons": {}, "ids": "stages/score-1/rejected.parquet"}
        | rejected,
        "num_images": 10,
        "num_classes": 5,
        "judged_on": "the test images",
        "headline": headline(results(seeds)),
    }
    _say_result(Progress(), UPath("runs/mine"), report, words)
    return capsys.readouterr().out


def test_one_seed_has_no_interval(capsys):
    summary = headline(results(1))
    assert json.loads(json.dumps(summary, allow_nan=False))["distilled"]["half_width"] is None
    assert _card_results(results(1)) == {
        "net, top-1 %, distilled images (one seed)": "50.0",
        "net, top-1 %, random images (one seed)": "50.0",
    }
    assert "50.0 % top-1, one seed (net, last epoch)" in say(capsys, 1)


def test_images_that_could_not_be_used_are_named_at_the_end(capsys):
    assert "could not be used" not in say(capsys, 1)
    assert (
        "1 training image could not be used (zero bytes): runs/stages/score-1/rejected.parquet "
        "names them\n"
    ) in say(capsys, 1, count=1, reasons={"zero bytes": 1})
    assert "1,200 training images could" in say(capsys, 1, count=1200, reasons={"zero bytes": 1200})
    reasons = {"zero bytes": 2, "a": 1, "the label -7 is out of range 0..9": 1200, "b": 1, "c": 1}
    told = "(1,200: the label -7 is out of range 0..9; 2: zero bytes; 1: a; 2: others)"
    assert f"1,205 training images could not be used {told}: " in say(
        capsys, 1, count=1205, reasons=reasons
    )


def test_the_command_that_judges_again_names_the_same_images(capsys):
    images = ["dataset=imagefolder", "dataset.root=/my pictures", "data.max_rejected=0.1"]
    words = ["method=ccfs", *images, "storage=runs", "name=mine"]
    (line,) = [x for x in say(capsys, 1, words).splitlines() if x.startswith("judge it otherwise")]
    command = shlex.split(line.partition(": ")[2])
    assert command == ["raydd", "evaluate", "runs/mine/distilled", *images, "storage=runs"]


def test_what_strangers_wrote_is_no_markup(capsys):
    said = say(capsys, 1, count=1, reasons={"cannot be decoded: [/bold] [dim] x": 1})
    assert "could not be used (cannot be decoded: [/bold] [dim] x): " in said
    Progress().note("2 unused: .[/dim] files")
    Progress().say(("runs/[red]", "bold"), " of [/data] :smile:")
    assert capsys.readouterr().out == "2 unused: .[/dim] files\nruns/[red] of [/data] :smile:\n"


def test_three_seeds_have_one(capsys):
    assert headline(results(3))["random"]["half_width"] == pytest.approx(0.2484, abs=1e-4)
    name = "net, top-1 %, distilled images (mean and 95 % interval, 3 seeds)"
    assert _card_results(results(3))[name] == "60.0 +- 24.8"
    assert "60.0 +- 24.8 % top-1 (net, last epoch)" in say(capsys, 3)
