"""The result browser: its command line, and its page in a real browser without a network.

``RAYDD_CHROMIUM`` names the browser; otherwise one of the machine is taken.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raydd.browse import main
from raydd.ops.intervals import mean_and_interval
from small_trials import (
    config,
    write_distilled,
    write_journal,
    write_json,
    write_run,
    write_trial,
)

HOSTILE = "ValueError: </script><script>document.title='taken'</script><b>bold</b>"
MISSING = "\N{EN DASH}"
CHROMIUM = os.environ.get("RAYDD_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> Path:
    """Two methods, a sweep over two keys and two seeds, and a trial of every status."""
    root = tmp_path_factory.mktemp("storage") / "runs"
    for name, top1, seed in (("edc-a", 0.62, 0), ("edc-b", 0.66, 1)):
        write_run(root / name, config("edc", seed=seed), top1)
    sweep = root / "alphas"
    write_json(sweep / "sweep.json", {"name": "alphas", "search": "grid", "trials": 11})
    top1 = 0.40
    for ipc in (10, 50):
        for alpha in (0.1, 0.4):
            for seed in (0, 1):
                top1 += 0.011
                overrides = {"method.ipc": ipc, "method.alpha": alpha, "seed": seed}
                write_trial(sweep, f"ipc{ipc}-alpha{alpha}-s{seed}", overrides, top1)
    write_distilled(sweep / "trials" / "ipc50-alpha0.4-s1" / "distilled")
    failed = write_trial(sweep, "broken", {"method.ipc": 50, "method.alpha": 0.9, "seed": 0})
    (failed / "error.txt").write_text(f"Traceback\n{HOSTILE}\n")
    running = {"method.ipc": 50, "method.alpha": 0.9, "seed": 1}
    write_journal(write_trial(sweep, "running", running), 2)
    write_journal(write_trial(sweep, "stopped", running, stopped=True), 1)
    return root


def test_the_command_says_what_is_on_the_page(storage, tmp_path, capsys) -> None:
    out = tmp_path / "page.html"
    assert main([str(storage), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "13 trials: 10 finished, 1 unfinished, 1 stopped, 1 failed" in text
    assert str(out) in text
    assert out.stat().st_size > 4_000_000  # the library of the plots is inside


def test_the_page_lies_in_the_first_folder_unless_told_otherwise(tmp_path, capsys) -> None:
    run = write_run(tmp_path / "run", config(), 0.5)
    assert main([str(run)]) == 0
    assert (run / "browse.html").exists()
    assert main([str(run)]) == 0  # and is no obstacle to the next one


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a folder"),
        (["nowhere"], "nowhere is no folder"),
        (["--fast"], "there is no option '--fast'"),
        ([".", "--out"], "--out needs a file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("raydd: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path, capsys) -> None:
    run = write_run(tmp_path / "run", config(), 0.5)
    assert main([str(run), "--out", str(tmp_path / "none" / "page.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("no Chromium: name one in RAYDD_CHROMIUM")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as tools:
        started = tools.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(storage, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("page") / "page.html"
    assert main([str(storage), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def opened(browser, file) -> Iterator[tuple[Any, list[str]]]:
    """The page, without a network, and what it complains of or asks for."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, offline=True)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: complaints.append(request.url[:80]))
    opened.goto(file.as_uri())
    opened.wait_for_selector("#parallel .scatterlayer")
    yield opened, complaints
    context.close()


@pytest.fixture
def page(opened, file) -> Iterator[Any]:
    """The page as it is at first, but for the order of its rows; a complaint fails the test."""
    page, complaints = opened
    yield page
    assert not [c for c in complaints if not c.startswith((file.as_uri(), "data:", "blob:"))]
    page.keyboard.press("Escape")
    page.uncheck("#grouped")
    filter_by(page, "")


def filter_by(page, text: str) -> None:
    page.fill("#text", text)
    page.wait_for_selector("#scroller:not([aria-busy])")


def names(page) -> list[str]:
    return page.locator("#table .name").all_inner_texts()


def column(page, label: str) -> list[str]:
    index = page.locator("#table th").all_inner_texts().index(label)
    return [
        row.locator("td").nth(index).inner_text() for row in page.locator("tbody tr").all()[:13]
    ]


def head(page, label: str):
    return page.locator("#table th button", has_text=re.compile(f"^{re.escape(label)}$"))


def test_columns_sort_both_ways_and_what_is_missing_comes_last(page) -> None:
    head(page, "Top-1, %").click()
    values = column(page, "Top-1, %")
    numbers = [float(value.split()[0]) for value in values[:10]]
    assert numbers == sorted(numbers, reverse=True)
    assert values[10:] == [MISSING] * 3
    head(page, "Top-1, %").click()
    assert float(column(page, "Top-1, %")[0].split()[0]) == min(numbers)
    assert column(page, "Top-1, %")[10:] == [MISSING] * 3


def test_columns_sort_from_the_keyboard_and_keep_the_focus(page) -> None:
    head(page, "alpha").focus()
    page.keyboard.press("Enter")
    sort = page.locator("th[data-label=alpha]")
    assert sort.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Space")
    assert sort.get_attribute("aria-sort") == "ascending"
    assert column(page, "alpha")[0] == "0.1"
    assert page.evaluate("document.activeElement.closest('th').dataset.label") == "alpha"


def test_words_and_comparisons_filter_the_table_and_the_plots(page) -> None:
    def shown(text: str) -> list[str]:
        filter_by(page, text)
        return names(page)

    head(page, "Trial").click()
    assert shown("alpha=0.4 ipc>10") == ["ipc50-alpha0.4-s0", "ipc50-alpha0.4-s1"]
    points = page.evaluate("document.getElementById('ipc').data.map((t) => t.y.length)")
    assert points == [1, 1]  # random images and one setting
    assert page.inner_text("#shown") == "2 of 13 trials"
    assert shown("failed") == ["broken"]
    assert shown("top1>60") == ["edc-a", "edc-b"]
    assert shown("no such word") == []
    assert "No finished trial" in page.inner_text("#ipc")
    assert len(shown("")) == 13


def test_rows_of_one_setting_have_the_interval_over_run_seeds(page) -> None:
    page.check("#grouped")
    filter_by(page, "edc")
    mean, half = mean_and_interval([0.62, 0.66])
    assert column(page, "Top-1, %") == [f"{100 * mean:.1f} ± {100 * half:.1f}"]
    assert column(page, "Status") == ["2 finished"]


def test_accuracy_over_ipc_has_the_means_and_intervals_of_python(page) -> None:
    line = page.evaluate(
        "document.getElementById('ipc').data.map((t) => ({name: t.name, x: t.x, y: t.y,"
        "half: t.error_y.array})).find((t) => t.name.startsWith('ccfs') && t.name.includes('0.4'))"
    )
    assert line["x"] == [10, 50]
    mean, half = mean_and_interval([0.433, 0.444])  # the third and fourth trial of the sweep
    assert line["y"][0] == pytest.approx(100 * mean)
    assert line["half"][0] == pytest.approx(100 * half)


def click_into(page, element, right: float, down: float) -> None:
    """Point at a place of a plot, as a person does, click, and wait for the panel."""
    element.scroll_into_view_if_needed()
    box = element.bounding_box()
    place = (box["x"] + right * box["width"], box["y"] + down * box["height"])
    page.mouse.move(*place)
    page.wait_for_timeout(300)
    page.mouse.click(*place)
    page.wait_for_selector("#panel:not([hidden])", timeout=15_000)


def test_a_clicked_point_opens_its_trial(page) -> None:
    click_into(page, page.locator("#ipc .scatterlayer .trace .points path").last, 0.5, 0.5)
    last = page.evaluate("document.getElementById('ipc').data.at(-1).name.split(',')[0]")
    assert page.inner_text("#panel .note").startswith(f"{last} on digits")


def test_plots_have_no_button_that_sends_data_away(page) -> None:
    buttons = page.locator(".modebar-btn").evaluate_all("all => all.map((b) => b.dataset.title)")
    assert set(buttons) == {"Download plot as a PNG", "Reset axes"}


def test_a_cell_of_the_map_opens_its_trial(page) -> None:
    assert page.locator("#heat-x").input_value() == "method.ipc"
    assert page.locator("#heat-y").input_value() == "method.alpha"
    assert "48.3 ± 7.0" in page.inner_text("#heat")  # 47.7 and 48.8
    click_into(page, page.locator("#heat .nsewdrag"), 0.75, 0.5)
    assert page.inner_text("#panel h1").startswith("ipc50-alpha0.4")


def test_a_trial_shows_pictures_curves_cost_and_configuration(page) -> None:
    page.locator("#table .name", has_text="ipc50-alpha0.4-s1").press("Enter")
    panel = page.locator("#panel")
    text = panel.inner_text()
    for words in ("48.8", "40.0", "+8.8", "Curriculum 2", "<b>two</b>", "squeeze teacher",
                  "was there", "30.0 s", "1.0 MiB", "method.alpha", "seed 0: 47.7 %"):  # fmt: skip
        assert words in text, words
    page.wait_for_timeout(300)
    red = page.evaluate(
        "[...document.querySelectorAll('#panel canvas')].map((c) =>"
        " [...c.getContext('2d').getImageData(3, c.height - 3, 1, 1).data])"
    )
    assert red == [[2, 0, 0, 255], [2, 2, 1, 255]]  # class, slot, curriculum, as it was written
    assert page.locator("#panel #top1-0 .scatterlayer .trace").count() == 6  # seeds and means
    page.keyboard.press("Escape")
    assert panel.is_hidden()
    assert page.evaluate("document.activeElement.textContent") == "ipc50-alpha0.4-s1"


def test_failed_unfinished_and_stopped_trials_say_so(page) -> None:
    page.locator("#table .name", has_text="broken").click()
    assert page.inner_text("#panel .message") == HOSTILE
    assert page.title() == "runs - results"
    page.locator("#table .name", has_text="stopped").click()
    assert "stopped early" in page.inner_text("#panel")
    assert "Difference" not in page.inner_text("#panel")
    page.locator("#table .name", has_text="running").click()
    assert "unfinished, silent for" in page.inner_text("#panel")
    assert page.locator("#panel #top1-0 .scatterlayer .trace").count() == 3
    assert "1 not begun" not in page.inner_text("#statuses")
    assert page.inner_text("#about").startswith("alphas (grid): 11 of 11 trials have begun")


def test_dark_mode_redraws_the_plots(page) -> None:
    colour = "document.getElementById('ipc').data.at(-1).line.color"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    dark = page.evaluate(colour)
    page.emulate_media(color_scheme="light")
    assert dark != light


def test_three_hundred_trials_fit_into_a_mail(browser, tmp_path) -> None:
    sweep = tmp_path / "many"
    write_json(sweep / "sweep.json", {"name": "many", "search": "grid", "trials": 300})
    for number in range(300):
        ipc, alpha, seed = (1, 10, 50)[number % 3], (number // 3 % 10) / 10, number // 30
        overrides = {"method.ipc": ipc, "method.alpha": alpha, "seed": seed}
        folder = write_trial(sweep, f"t{number}", overrides, 0.3 + 0.001 * ipc + 0.1 * alpha)
        if number % 30 == 0:
            write_distilled(folder / "distilled", ipc=10)
    out = tmp_path / "page.html"
    assert main([str(sweep), "--out", str(out)]) == 0
    assert out.stat().st_size < 25_000_000
    context = browser.new_context(offline=True)
    opened = context.new_page()
    opened.goto(out.as_uri())
    opened.wait_for_selector("#parallel .scatterlayer", timeout=60_000)
    assert opened.locator("#table tbody tr").count() == 300
    context.close()


def test_a_watched_page_renews_itself_until_all_trials_have_ended(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "runs" / "one", config("edc", seed=0), 0.62)
    sweep = tmp_path / "runs" / "two"
    write_json(sweep / "sweep.json", {"name": "two", "search": "grid", "trials": 1})
    running = write_trial(sweep, "running", {"method.ipc": 10})
    write_journal(running, 2)
    page, seen = tmp_path / "page.html", []

    def wait(seconds: float) -> None:
        seen.append('http-equiv="refresh" content="15"' in page.read_text())
        if len(seen) == 2:
            write_json(running / "report.json", finished_report)

    finished_report = json.loads((tmp_path / "runs" / "one" / "report.json").read_text())
    monkeypatch.setattr("raydd.browse.time.sleep", wait)
    assert main([str(tmp_path / "runs"), "--out", str(page), "--watch"]) == 0
    assert seen == [True, True]
    assert 'http-equiv="refresh"' not in page.read_text()
    assert "2 finished" in capsys.readouterr().out.splitlines()[-2]
