"""AUM, EL2N and coverage-centric selection as presets of CCFS, on the embedded digits."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from upath import UPath

from raydd.config.tree import compose_config
from raydd.engine.selection.difficulty import DifficultyConfig
from raydd.engine.training.teacher import TeacherConfig
from raydd.engine.vocabulary import score_teacher, squeeze
from raydd.errors import Refused
from raydd.judge.protocol import ProtocolConfig
from raydd.methods.ccfs import CcfsConfig, distil
from raydd.report.gather import build_report
from raydd.report.write import write_report
from raydd.store.tables import part_files, read_table, write_table
from small_engine import RECIPE, TINY, columns_of, make_engine

ABOUT = {
    "name": "run",
    "method": "ccs",
    "dataset": "digits",
    "licence": "none",
    "seed": 0,
    "ipc": 5,
    "config": {"method": {"ipc": 5}},
}


def preset(name, *words):
    return compose_config([f"method={name}", "method.ipc=5", *words]).method


@pytest.fixture(scope="module")
def engine(ray4, tmp_path_factory):
    return make_engine(tmp_path_factory.mktemp("coresets"))


def chosen_rows(product):
    """The chosen images as rows of the score table, and whether each was chosen."""
    ids = columns_of(product.scores)["id"]
    chosen = set(read_table(product.starts[0].folder / "selection.parquet")["id"].to_pylist())
    return np.array([name in chosen for name in ids])


def test_the_smallest_margins_of_the_teachers_training_come_first(engine):
    hard, easy = (distil(engine, preset("aum", *words)) for words in ((), ("method.fine=simple",)))
    scores = columns_of(hard.scores)
    margin, labels = scores["aum"], scores["class_index"]
    assert margin.dtype == np.float32
    assert np.isfinite(margin).all()
    for product, sign in ((hard, 1), (easy, -1)):
        taken = chosen_rows(product)
        assert product.counts == [5] * 10
        for label in range(10):
            mine = labels == label
            worst = np.sort(sign * margin[mine])[:5]
            assert np.sort(sign * margin[mine & taken]).tolist() == worst.tolist()


def test_el2n_is_the_mean_error_of_networks_early_in_training(engine):
    product = distil(engine, preset("el2n", "method.difficulty.runs=2"))
    tables = [
        pa.concat_tables(map(read_table, part_files(folder)))
        for folder in engine.stages.root.glob("score-*")
    ]
    young = [t["error_norm"].to_numpy() for t in tables if "error_norm" in t.column_names]
    assert len(young) == 2
    assert (young[0] != young[1]).any()
    mean = np.mean(np.float64(young), axis=0)
    taken, labels = chosen_rows(product), columns_of(product.scores)["class_index"]
    for label in range(10):
        mine = labels == label
        assert mean[mine & taken].min() >= mean[mine & ~taken].max()
    outcomes = engine.stages.root.glob("squeeze-*/outcome.json")
    epochs = [json.loads(path.read_text())["curve"][-1]["epoch"] for path in outcomes]
    assert epochs.count(1) == 2  # a tenth of the teacher's two, at least one
    assert "error_norm" not in columns_of(product.scores)  # whose key older versions know


def test_coverage_takes_as_many_of_every_stratum_as_it_can(engine, tmp_path):
    product = distil(engine, preset("ccs", "method.strata=6"))
    scores, taken = columns_of(product.scores), chosen_rows(product)
    margin, count = scores["aum"].astype(np.float64), len(scores["aum"])
    kept = np.sort(margin)[int(0.3 * count) :]  # the smallest margins are the hardest
    assert margin[taken].min() >= kept[0]
    assert taken.sum() == 50
    strata = ((kept[-1] - margin) / (kept[-1] - kept[0]) * 6).clip(0, 5).astype(int)
    there, given = (Counter(strata[where].tolist()) for where in (margin >= kept[0], taken))
    short = {s for s in there if given[s] < there[s]}
    shares = {given[s] for s in short}
    assert max(shares) - min(shares) <= 1
    assert all(given[s] <= min(shares) for s in there if s not in short)
    report = build_report(
        engine, product, [], ProtocolConfig(), {"images": 1, "labels": 0, "teacher": 1}, ABOUT
    )
    assert report["curricula"][0]["selection"]["difficulty_name"] == "aum"
    write_report(UPath(tmp_path), report, product, engine)
    assert "minus the mean margin" in (tmp_path / "report.html").read_text()


def test_coverage_may_be_had_within_every_class(engine):
    product = distil(engine, preset("ccs", "method.balanced=true"))
    assert product.counts == [5] * 10


@pytest.mark.slow
def test_coverage_goes_with_a_filter_and_curricula(engine):
    words = ["method.alpha=0.2", "method.curricula=2", "method.coarse=correct"]
    config = preset("ccs", *words, "method.synthesis.steps=4", "method.shortfall=rollover")
    recipe = replace(RECIPE, epochs=8, batch_size=10)
    network = replace(config.filter_model, model=TINY, recipe=recipe)
    product = distil(engine, replace(config, filter_model=network))
    assert [item.is_real for item in product.curricula] == [False, True, True]
    assert sum(product.counts) <= 50


@pytest.mark.slow
def test_margins_may_be_averaged_over_trainings(engine):
    product = distil(engine, preset("aum", "method.difficulty.runs=2"))
    assert product.counts == [5] * 10


def test_a_teacher_of_an_older_version_has_no_margins_and_is_refused(engine, tmp_path):
    """Its table has no such column, as one has that was made of a folder without margins."""
    older = make_engine(tmp_path)
    scores = score_teacher(older, squeeze(older))
    for path in part_files(scores.folder):
        write_table(path, read_table(path).drop_columns(["aum"]))
    with pytest.raises(Refused, match=r"has no margins, for its network was trained by an older"):
        distil(older, preset("ccs"))
    assert distil(older, preset("forgetting")).counts == [5] * 10


@pytest.mark.parametrize("by", ["aum", "el2n"])
def test_a_teacher_that_is_not_trained_here_is_refused(tmp_path, by):
    engine = make_engine(tmp_path, teacher=TeacherConfig(TINY, RECIPE, checkpoint="teacher.pt"))
    with pytest.raises(Refused, match=rf"difficulty\.by={by} needs a teacher that is trained here"):
        distil(engine, preset(by))
    assert not engine.stages.root.exists()


def test_what_has_no_meaning_is_refused(tmp_path):
    mixed = TeacherConfig(TINY, replace(RECIPE, mix="cutmix"))
    with pytest.raises(Refused, match=r"teacher\.recipe\.mix=none"):
        distil(make_engine(tmp_path, teacher=mixed), preset("aum"))
    with pytest.raises(Refused, match=r"difficulty\.epochs=3 is more than the 2"):
        distil(make_engine(tmp_path), preset("el2n", "method.difficulty.epochs=3"))
    with pytest.raises(ValueError, match=r"difficulty\.epochs goes with difficulty\.by=el2n"):
        DifficultyConfig("aum", epochs=3)
    with pytest.raises(ValueError, match="hard_cutoff needs fine=stratified"):
        CcfsConfig(hard_cutoff=0.3)
    with pytest.raises(ValueError, match=r"hard_cutoff lie in \[0, 1\)"):
        CcfsConfig(fine="stratified", hard_cutoff=1.0)
    with pytest.raises(ValueError, match="set shortfall=error or rollover"):
        CcfsConfig(fine="stratified", shortfall="easiest")


def test_the_presets_are_those_of_their_papers():
    aum, el2n, ccs = (compose_config([f"method={name}"]).method for name in ("aum", "el2n", "ccs"))
    for method in (aum, el2n, ccs):
        assert (method.coarse, method.teacher_correct, method.alpha) == ("off", "off", 0)
        assert (method.curricula, method.shortfall, method.core) == (1, "error", None)
    assert (aum.fine, aum.difficulty.by, aum.balanced) == ("hard", "aum", True)
    assert (el2n.fine, el2n.difficulty, el2n.balanced) == (
        "hard", DifficultyConfig("el2n", runs=10), True,
    )  # fmt: skip
    assert (ccs.fine, ccs.difficulty.by, ccs.balanced) == ("stratified", "aum", False)
    assert (ccs.strata, ccs.hard_cutoff) == (50, 0.3)
