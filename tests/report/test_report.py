"""The page holds everything the report says, loads nothing, and survives hostile names."""

import io
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from raydd.ops.intervals import mean_and_interval
from raydd.report.figures import image_grid, line_chart, spreads, strip, ticks
from raydd.report.page import Grid, flatten
from raydd.report.run_page import render_report, summarise

CLASSES = ["zero", "one", "two"]


def result(
    images: str, seed: int, last: float, best: float, architecture: str = "resnet"
) -> dict[str, Any]:
    curve = [{"epoch": e, "loss": 1 / e, "top1": last * e / 4} for e in range(1, 5)]
    return {"architecture": architecture, "images": images, "seed": seed, "top1_last": last,
            "top1_best": best, "curve": curve, "seconds": 61.0}  # fmt: skip


def example(**changes: Any) -> dict[str, Any]:
    ours, theirs = [0.91, 0.93], [0.81, 0.80]
    report = {
        "name": "curricular-digits-ipc2-s0", "method": "curricular", "dataset": "digits", "seed": 7,
        "ipc": 2, "num_classes": 3, "num_images": 6, "licence": "cc-by-4.0",
        "headline": {
            "architecture": "resnet",
            "distilled": {"mean": 0.92, "half_width": 0.127, "values": ours},
            "random": {"mean": 0.805, "half_width": 0.0635, "values": theirs},
        },
        "results": [result("distilled", s, v, 0.95) for s, v in enumerate(ours)]
        + [result("random", s, v, 0.85) for s, v in enumerate(theirs)],
        "protocol": {"labels": "soft", "recipe": {"epochs": 4, "crop_scale": [0.3, 1.0]}},
        "bytes": {"images": 2048, "labels": 0, "teacher": 3 << 20},
        "teacher": {"name": "resnet10_thin", "top1": 0.985},
        "curricula": [{"curriculum": 0, "slots": [0, 2],
                       "rungs": {"simple": [2, 2, 1], "other": [0, 0, 1]}}],
        "stages": [{"name": "squeeze", "seconds": 75.0, "cached": False},
                   {"name": "score", "seconds": 0.0, "cached": True}],
        "rejected": {"count": 3, "reasons": {"zero bytes": 2, "not a JPEG, PNG or WebP image": 1}},
        "versions": {"raydd": "0.1.0", "torch": "2.15.0"},
        "config": {"seed": 7, "method": {"ipc": 2}},
    }  # fmt: skip
    return report | changes


def difficulty(low: float, high: float, **changes: Any) -> dict[str, Any]:
    """Of values spread evenly over [low, high]."""
    shares = {"min": 0.0, "q10": 0.1, "q25": 0.25, "median": 0.5, "q75": 0.75, "q90": 0.9,
              "max": 1.0, "mean": 0.5}  # fmt: skip
    values = {name: low + share * (high - low) for name, share in shares.items()}
    edges = np.linspace(low, high, 5).tolist()
    return values | {"histogram": {"edges": edges, "counts": [2, 2, 2, 2]}} | changes


def selected(number: int, chosen: list[int], **changes: Any) -> dict[str, Any]:
    """A curriculum that asked for two images of every class and had five candidates in each."""
    selection = {
        "asked": 2 * len(chosen), "chosen": chosen, "candidates": [5] * len(chosen),
        "difficulty_name": "forgetting", "difficulty": difficulty(number, number + 4.0),
        "difficulty_candidates": difficulty(0.0, 40.0),
        "filter": {"name": "resnet10", "top1_train": 0.25 * number, "top1": 0.123},
    } | changes  # fmt: skip
    return {"curriculum": number, "slots": [0, 2], "origin": "real", "images": sum(chosen),
            "selection": selection}  # fmt: skip


CORE = {"curriculum": 0, "slots": [0, 4], "origin": "synthetic", "images": 12, "selection": None}


def grid(side: int = 8) -> Grid:
    images = np.random.default_rng(0).integers(0, 256, (3, 2, side, side, 3), dtype=np.uint8)
    return Grid("Curriculum 1", "slots 0 to 1", images, CLASSES)


class Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


def text_of(page: str) -> str:
    body = page[page.index("<body>") :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_page_loads_nothing_from_anywhere() -> None:
    page = Links(render_report(example(), [grid()]))
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not page.open  # every tag is closed


def test_page_says_what_was_measured() -> None:
    text = text_of(render_report(example(), [grid()]))
    for words in (
        "92.0 ± 12.7 %", "80.5 ± 6.3 %", "+11.5 points", "no difference that",
        "91.0&ensp;93.0", "cc-by-4.0", "crop_scale [0.3, 1.0]",
        "3 real images could not be used", "zero bytes 2",
        "simple 2 2 1 5", "teacher 3.0 MiB", "1 min 15 s", "was there", "raydd 0.1.0", "98.5 %",
    ):  # fmt: skip
        assert words in text, words


def test_configuration_is_printed_as_yaml() -> None:
    assert "<pre>seed: 7\nmethod:\n  ipc: 2\n</pre>" in render_report(example(), [])


def test_best_epoch_is_a_footnote_only() -> None:
    text = text_of(render_report(example(), []))
    head, _, rest = text.partition("Results")
    assert "95.0" not in head
    assert "95.0" in rest


def test_disjoint_intervals_are_called_disjoint() -> None:
    report = example()
    report["headline"]["distilled"]["half_width"] = 0.01
    report["headline"]["random"]["half_width"] = 0.01
    assert "points won, and the intervals" in text_of(render_report(report, []))


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_one_seed_claims_no_interval(unknown: float | None) -> None:
    report = example(results=[result("distilled", 0, 0.9, 0.9), result("random", 0, 0.8, 0.8)])
    for images in ("distilled", "random"):
        report["headline"][images] = {"mean": 0.9, "half_width": unknown, "values": [0.9]}
    text = text_of(render_report(report, []))
    assert "but one seed shows no difference" in text
    assert not re.search(r"\bnan\b", text)
    assert "±" not in text


def test_unjudged_run_has_a_page() -> None:
    text = text_of(
        render_report(
            example(headline=None, results=[], rejected={"count": 0, "reasons": {}}), [grid()]
        )
    )
    assert "were not judged" in text
    assert "every real image could be read" in text
    assert "recipe.epochs" not in text  # a protocol nobody followed


def test_teacher_without_a_known_accuracy_claims_none() -> None:
    teacher = {"name": "resnet18", "top1": None, "top1_train": 0.875}
    text = text_of(render_report(example(teacher=teacher), []))
    assert "teacher resnet18 " in text
    assert "teacher, training images 87.5 %" in text
    assert "teacher, test split" not in text
    assert "The teacher, resnet18" not in text


def test_curves_name_their_axes() -> None:
    page = render_report(example(), [])
    assert page.count(">epoch</text>") == 2
    assert ">test top-1, %</text>" in page
    assert ">training loss</text>" in page


def test_many_classes_are_summarised() -> None:
    rungs = {"simple": [1] * 999 + [0], "other": [0] * 999 + [1]}
    report = example(
        num_classes=1000, curricula=[{"curriculum": 0, "slots": [0, 1], "rungs": rungs}]
    )
    page = render_report(report, [grid()])
    assert "simple 999 0 1 1" in text_of(page)
    assert "the first 50 of 1,000; all are in report.json" in text_of(page)
    assert " 49 1 0 " in text_of(page)
    assert " 50 1 0 " not in text_of(page)
    assert len(page) < 60_000


def test_selections_are_told_curriculum_by_curriculum() -> None:
    report = example(curricula=[CORE, selected(1, [2, 2, 2]), selected(2, [2, 2, 2])])
    page = render_report(report, [grid()])
    text = text_of(page)
    for words in (
        "What each curriculum added", "1 synthetic 12 \N{EN DASH} \N{EN DASH}",
        "2 real 6 25.0 12.3 15 5 / 5 / 5 2 3 2 to 4", "3 real 6 50.0 12.3 15 5 / 5 / 5 2 4 3 to 5",
        "The filter, resnet10,", "half 3 to 5, all 2 to 6", "forgetting events",
        "zero 2 of 5 2 of 5", "the source's own",
    ):  # fmt: skip
        assert words in text.replace("&#39;", "'"), words
    assert "asked for" not in text
    assert "filled up" not in text
    assert "Where the images started" not in text
    assert not Links(page).open


def curricula_compared(count: int, **changes: Any) -> dict[str, Any]:
    """Networks of curriculum i know 10 (i + 1) % of every other one."""
    cross = [[None if i == j else 0.1 * (i + 1) for j in range(count)] for i in range(count)]
    rows = [{"images": 6, "validity": 0.5, "discriminator": 0.3 if i else None, "cosine": 0.25}
            for i in range(count)]  # fmt: skip
    return {
        "model": "convnet3", "cross": cross if count > 1 else [], "curricula": rows,
        "cross_mean": 0.2 if count > 1 else None,
        "union": {"images": 6 * count, "validity": 0.875, "cosine": None},
        "classes": [{"class_index": 2, "class_name": "<two>", "images": 3, "validity": 0.333}],
    } | changes  # fmt: skip


def test_redundancy_and_validity_of_curricula_are_a_table() -> None:
    page = render_report(example(diagnosis=curricula_compared(3)), [])
    text = text_of(page)
    for words in (
        "Curricula: redundancy and validity", "1 6 50.0 \N{EN DASH} 10.0 25.0 0.25",
        "2 6 50.0 30.0 20.0 20.0 0.25", "all 18 87.5 20.0 20.0 \N{EN DASH}",
        "&lt;two&gt; (33.3 % of 3)", "3 30.0 30.0 \N{EN DASH}",
    ):  # fmt: skip
        assert words in text, words
    assert not Links(page).open


def test_one_curriculum_is_compared_with_nothing() -> None:
    page = render_report(example(diagnosis=curricula_compared(1, classes=[])), [])
    assert "1 6 50.0 0.25" in text_of(page)
    assert "Cross accuracy" not in page
    assert "Discriminator" not in page
    assert "Least recognised" not in page
    assert not Links(page).open


def test_the_matrix_of_many_curricula_is_left_to_the_json() -> None:
    page = render_report(example(diagnosis=curricula_compared(20)), [])
    assert "Cross accuracy of every pair" not in page
    assert len(page) < 60_000


@pytest.mark.parametrize("diagnosis", [{}, {"diagnosis": None}])
def test_undiagnosed_curricula_have_no_such_table(diagnosis: dict[str, Any]) -> None:
    assert "redundancy" not in render_report(example(**diagnosis), [])


@pytest.mark.parametrize("missing", [{}, {"origin": None, "images": None, "selection": None}])
def test_methods_that_select_nothing_have_no_such_section(missing: dict[str, Any]) -> None:
    curricula = [item | missing for item in example()["curricula"]]
    text = text_of(render_report(example(curricula=curricula), [grid()]))
    assert "What each curriculum added" not in text
    assert "Where the images started" in text
    assert "Synthetic images can resemble" in text


def test_random_selection_shows_neither_filter_nor_difficulty() -> None:
    nothing = dict.fromkeys(("difficulty_name", "difficulty", "difficulty_candidates", "filter"))
    page = render_report(example(curricula=[selected(0, [2, 2, 2], **nothing)]), [])
    assert "1 real 6 15 5 / 5 / 5 2 " in text_of(page)
    assert "filter" not in text_of(page)
    assert "Difficulty" not in text_of(page)
    assert '<svg class="spreads"' not in page


@pytest.mark.parametrize(
    ("name", "words"),
    [("forgetting", "forgetting events"), ("logit", "minus the true-class logit"),
     ("aum", "minus the mean margin"), ("el2n", "EL2N, the length of the error"),
     ("table", "the scores of the table"), ("margin", "margin")],
)  # fmt: skip
def test_axis_of_difficulties_is_explained(name: str, words: str) -> None:
    report = example(curricula=[selected(0, [2, 2, 2], difficulty_name=name)])
    assert f"From simple to hard: {words}" in text_of(render_report(report, []))


def test_filter_without_test_split_has_no_such_column() -> None:
    network = {"name": "resnet10", "top1_train": 0.5, "top1": None}
    text = text_of(render_report(example(curricula=[selected(0, [2, 2, 2], filter=network)]), []))
    assert "training images all least" in text
    assert "1 real 6 50.0 15" in text


def test_shortfall_is_pointed_out() -> None:
    short = selected(1, [2, 1, 0], candidates=[5, 1, 0])
    page = render_report(example(curricula=[CORE, short]), [])
    assert page.count('<p class="alert">') == 1
    assert (
        "Curriculum 2 has 3 of the 6 images asked for: 2 classes ran out of candidates, and the "
        "smallest gave 0."
    ) in text_of(page)
    assert "0 / 1 / 5 0 to 2" in text_of(page)


def test_rungs_of_images_that_stay_real_are_no_starts() -> None:
    kept = selected(0, [2, 2, 2]) | {"rungs": {"misclassified": [2, 2, 2], "easiest": [0, 0, 0]}}
    assert "Where the images started" not in render_report(example(curricula=[kept]), [])


def test_images_from_outside_the_candidates_are_counted() -> None:
    filled = selected(0, [2, 2, 2], candidates=[5, 1, 0])
    text = text_of(render_report(example(curricula=[filled]), []))
    assert "Curriculum 1 was filled up with 3 images that are no candidates." in text
    assert "asked for" not in text


def test_selection_from_all_of_imagenet_21k_is_bounded() -> None:
    chosen, candidates = [2] * 21841, [5] * 21841
    chosen[20000], candidates[20000], candidates[20001] = 1, 1, 2
    page = render_report(
        example(curricula=[selected(j, chosen, candidates=candidates) for j in range(3)]), [grid()]
    )
    text = text_of(page)
    assert "the 50 of 21,841 that got the fewest images; all are in report.json" in text
    assert "20000 1 of 1 1 of 1 1 of 1 20001 2 of 2 2 of 2 2 of 2 0 2 of 5" in text
    assert text.count(" 2 of 5") == 48 * 3
    assert len(page) < 60_000


def test_names_of_strangers_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    bad = Grid("Curriculum 1", "all", grid().images, [evil, '"><img src=x>', "ok"])
    page = render_report(
        example(name=evil, rejected={"count": 1, "reasons": {evil: 1}}, config={"x": evil}), [bad]
    )
    parsed = Links(page)
    assert "script" not in parsed.tags
    assert parsed.tags.count("img") == 1


def test_results_are_grouped_by_architecture() -> None:
    rows = summarise([
        result("distilled", 0, 0.5, 0.6), result("distilled", 0, 0.4, 0.4, "vgg"),
        result("distilled", 1, 0.7, 0.8),
        result("random", 0, 0.3, 0.3), result("random", 0, 0.2, 0.2, "vgg"),
    ])  # fmt: skip
    assert [(row["architecture"], row["images"]) for row in rows] == [
        ("resnet", "distilled"), ("resnet", "random"), ("vgg", "distilled"), ("vgg", "random"),
    ]  # fmt: skip
    assert rows[0]["mean"] == pytest.approx(0.6)
    assert rows[0]["best"] == pytest.approx(0.7)


def test_flatten_names_every_leaf() -> None:
    tree = {
        "name": "soft",
        "recipe": {"epochs": 3, "scale": [0.1, 1]},
        "nets": [{"name": "a"}, {"name": "b"}],
    }
    assert flatten(tree) == {
        "name": "soft", "recipe.epochs": 3, "recipe.scale": [0.1, 1],
        "nets.0.name": "a", "nets.1.name": "b",
    }  # fmt: skip


@pytest.mark.parametrize(("side", "tile"), [(8, 48), (32, 32), (28, 28), (96, 96), (224, 96)])
def test_image_grid_keeps_every_pixel_of_small_images(side: int, tile: int) -> None:
    images = grid(side).images
    sheet = np.asarray(Image.open(io.BytesIO(image_grid(images))))
    assert sheet.shape == (3 * (tile + 2) - 2, 2 * (tile + 2) - 2, 4)
    if side <= 96:
        step = tile // side
        corner = sheet[tile + 2 : 2 * tile + 2 : step, tile + 2 :: step]
        np.testing.assert_array_equal(corner[..., :3], images[1, 1])
        assert (corner[..., 3] == 255).all()


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 1, 8, 8, 3), np.float32),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((0, 1, 8, 8, 3), np.uint8),
    ],
)
def test_image_grid_refuses_what_is_not_pixels(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8 \[rows, columns, R, R, 3\]"):
        image_grid(images)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_ticks_are_few_and_cover_the_range(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    marks = ticks(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert marks[0] <= low + slack
    assert marks[-1] >= high - slack
    assert 2 <= len(marks) <= 9


def test_chart_draws_seeds_and_their_mean() -> None:
    chart = line_chart(
        "y", {"distilled": [[(1, 0.0), (2, 2.0)], [(1, 2.0), (2, 4.0)]]}, width=100, height=40
    )
    assert chart is not None
    assert [line.is_mean for line in chart.lines] == [False, False, True]
    assert chart.lines[2].points == "0.0,30.0 100.0,10.0"
    assert line_chart("y", {"distilled": [[(1, 0.0)]], "random": [[]]}) is None


def test_strip_places_values_on_one_axis() -> None:
    figure = strip(
        {"distilled": ([1.0, 3.0], 2.0, 2.0), "random": ([0.0], 0.0, math.nan)}, width=100
    )
    ours, theirs = figure.rows
    assert (ours.low, ours.mean, ours.high) == (0.0, 50.0, 100.0)
    assert (theirs.low, theirs.mean, theirs.high) == (0.0, 0.0, 0.0)


def test_spreads_share_one_axis() -> None:
    figure = spreads({
        "first": (difficulty(0.0, 4.0), difficulty(0.0, 20.0)),
        "second": (difficulty(6.0, 10.0), None),
    })  # fmt: skip
    assert [label for _, label in figure.ticks] == ["0", "2", "4", "6", "8", "10"]
    first, second = figure.rows
    assert first.marks == [4.0, 10.0, 20.0, 30.0, 36.0]
    assert second.marks == [64.0, 70.0, 80.0, 90.0, 96.0]
    assert first.bars == [(left, 10.0, 1.0) for left in (0.0, 10.0, 20.0, 30.0)]
    assert first.ground == [(0.0, 50.0, 1.0), (50.0, 50.0, 1.0)]  # cut where the axis ends
    assert second.ground == []


def test_far_outliers_do_not_stretch_the_axis() -> None:
    figure = spreads({"first": (difficulty(0.0, 4.0, max=1000.0), None)})
    assert figure.ticks[-1] == (100.0, "8")


def test_histogram_heights_are_densities() -> None:
    histogram = {"edges": [0.0, 1.0, 3.0, 4.0], "counts": [4, 4, 0]}
    (row,) = spreads({"first": (difficulty(0.0, 4.0, histogram=histogram), None)}).rows
    assert row.bars == [(0.0, 25.0, 1.0), (25.0, 50.0, 0.5)]


def test_distribution_of_one_value_has_a_place() -> None:
    histogram = {"edges": [2.5, 3.5], "counts": [7]}
    (row,) = spreads({"first": (difficulty(3.0, 3.0, histogram=histogram), None)}).rows
    assert len(set(row.marks)) == 1
    assert all(0 <= mark <= 100 for mark in row.marks)


def test_interval_is_students_t() -> None:
    mean, half_width = mean_and_interval([1.0, 2.0, 3.0])
    assert mean == pytest.approx(2.0)
    assert half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t(0.975, 2), s = 1


def test_interval_of_one_value_is_unknown() -> None:
    mean, half_width = mean_and_interval([0.5])
    assert mean == 0.5
    assert math.isnan(half_width)
    with pytest.raises(ValueError, match="at least one"):
        mean_and_interval([])
