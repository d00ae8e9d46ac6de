"""The page of a judged set says what was measured and only that; strange names are escaped."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from raydd.report.gather import accuracies
from raydd.report.page import Grid
from raydd.report.set_page import Pair, render_evaluation, robustness_charts

EVIL = "<script>alert(1)</script>"
DISTANCES = {"min": 0.0, "q10": 0.01, "q25": 0.02, "median": 0.03, "q75": 0.04, "q90": 0.05,
             "max": 0.06, "mean": 0.03,
             "histogram": {"edges": [0.0, 0.03, 0.06], "counts": [1, 2]}}  # fmt: skip


def result(images: str, seed: int, top1: float, labels: str = "soft", net: str = "net") -> dict:
    curve = [{"epoch": e, "loss": 1 / e, "top1": top1 * e / 2} for e in (1, 2)]
    return {"architecture": net, "labels": labels, "images": images, "seed": seed,
            "top1_last": top1, "top1_best": 0.99, "curve": curve, "seconds": 3.0}  # fmt: skip


def results(seeds: int = 2) -> list[dict[str, Any]]:
    values = {"distilled": 0.71, "random": 0.61, "herding": 0.65}
    return [
        result(images, seed, top1 + 0.01 * seed, labels)
        for labels in ("soft", "hard")
        for images, top1 in values.items()
        for seed in range(seeds)
    ]


def example(rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    table = accuracies(rows)
    report = {
        "kind": "evaluation", "name": "judge-x", "dataset": "digits", "licence": "mit", "seed": 3,
        "folder": "there", "config": {"seed": 3}, "layout": "imagefolder", "num_classes": 2,
        "num_images": 5, "counts": {"least": 2, "most": 3, "missing": 0}, "resized": 0,
        "sizes": {"16 x 16": 5}, "headline": table[0], "table": table, "results": rows,
        "robustness": None, "scores": None, "leak": None,
        "bytes": {"images": 2048, "labels": 0, "teacher": 0}, "teacher": None,
        "protocol": {"labels": "soft", "recipe": {"epochs": 2}},
        "stages": [{"name": "adopt", "seconds": 1.0, "cached": False}],
        "rejected": {"count": 0, "reasons": {}}, "versions": {"raydd": "0.1.0"},
    }  # fmt: skip
    return report | changes


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def render(report: dict[str, Any], pairs: Sequence[Pair] = (), names=("zero", "one")) -> str:
    images = np.stack([np.stack([picture(s) for s in range(3)])] * 2)
    page = render_evaluation(report, Grid("", "the first 3", images, names), pairs)
    HTMLParser().feed(page)
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    return page


def test_accuracies_are_grouped_by_labels_and_network():
    rows = accuracies([*results(), result("distilled", 0, 0.5, "soft", "other")])
    assert [(r["labels"], r["architecture"]) for r in rows] == [
        ("soft", "net"), ("hard", "net"), ("soft", "other"),
    ]  # fmt: skip
    part = rows[0]["sets"]["distilled"]
    assert part["values"] == [0.71, 0.72]
    assert part["mean"] == pytest.approx(0.715)
    assert part["half_width"] == pytest.approx(12.706 * 0.005, rel=1e-3)


def test_headline_is_the_last_epoch_beside_both_rivals():
    page = render(example(results()))
    for figure in ("71.5", "61.5", "65.5", "+10.0"):
        assert figure in page
    assert "2 to 3 for each of 2 classes" in page
    assert "do not overlap" not in page.split("Architectures")[0]


def test_one_seed_is_an_anecdote():
    assert "but one seed shows no difference" in render(example(results(1)))


def test_what_was_not_measured_is_not_shown():
    page = render(example([r for r in results() if r["images"] != "herding"]))
    for words in ("Herded", "LRS", "PGD", "Copies", "Soft labels:"):
        assert words not in page


def test_resized_images_and_empty_classes_are_told():
    counts = {"least": 0, "most": 3, "missing": 1}
    page = render(example(results(), resized=2, sizes={"9 x 7": 2}, counts=counts))
    assert "2 of the images had another size" in page
    assert "2 of 9 x 7" in page
    assert "1 class has no image in the set" in page


def test_scores_stand_beside_their_ingredients():
    scores = {"architecture": "net", "labels": "soft", "seeds": 2, "weight": 0.5, "gamma": 0.5,
              "lrs": 0.2874, "ars": 0.3011, "hlr": 0.268, "ior": 0.351, "real_hard": 0.848,
              "distilled_hard": 0.58, "distilled": 0.71, "random": 0.359, "distilled_plain": 0.5,
              "random_plain": 0.4}  # fmt: skip
    page = render(example(results(), scores=scores))
    for figure in ("0.287", "0.301", "84.8", "58.0", "+35.1", "26.8"):
        assert figure in page


def test_copies_are_counted_and_shown():
    figures = {"images": 5, "copies": 2, "distances": DISTANCES}
    leak = {**figures, "test": {**figures, "copies": 0}, "nearest": []}
    pairs = [Pair(picture(), picture(), EVIL, EVIL, 0.0001, True)]
    page = render(example(results(), leak=leak), pairs)
    assert "2 of 5</b> images are copies" in page
    assert "none of 5 real test images is" in page
    assert 'tag">copy<' in page
    assert EVIL not in page


def test_names_of_strangers_are_escaped():
    assert EVIL not in render(example(results(), folder=EVIL, name=EVIL), names=(EVIL, "one"))


def test_robustness_starts_at_undisturbed_images():
    networks = [
        {"images": "distilled", "seed": 0, "clean": 0.9, "noise": {"0.2": 0.5, "0.1": 0.7},
         "pgd": {}},
    ]  # fmt: skip
    (chart,) = robustness_charts({"images": 20, "networks": networks})
    assert "noise" in chart.title
    heights = [float(p.split(",")[1]) for p in chart.lines[0].points.split()]
    assert heights == sorted(heights)  # y grows downwards: 90, 70, 50 %
    assert len(heights) == 3
