"""CCFS on the embedded digits: the invariants of its specification, on everything real."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from raydd.data.distilled import read_distilled
from raydd.data.distilled_writer import write_images
from raydd.data.rebuild import IDS, rebuild_rows
from raydd.engine.selection.chosen import SelectedIds
from raydd.engine.selection.difficulty import DifficultyConfig
from raydd.engine.selection.filter import FilterConfig
from raydd.engine.training.teacher import TeacherConfig
from raydd.engine.vocabulary import difficulty, score, select
from raydd.errors import Refused
from raydd.judge.protocol import ProtocolConfig
from raydd.methods.ccfs import CcfsConfig, arrangement, distil, ranking
from raydd.report.gather import build_report
from raydd.report.write import write_product, write_report
from raydd.store.images import load_pixels
from raydd.store.tables import part_files, read_table, write_table
from small_engine import PREPROCESSING, RECIPE, SYNTHESIS, TINY, columns_of, make_engine

CORE = replace(SYNTHESIS, start="noise", start_weight=0.0, adversarial_weight=0.0)
CONFIG = CcfsConfig(
    ipc=5,
    alpha=0.2,
    curricula=2,
    synthesis=CORE,
    filter_model=FilterConfig(TINY, replace(RECIPE, epochs=8, batch_size=10)),
    shortfall="easiest",  # so small a filter may be right about a whole class
)
ABOUT = {
    "name": "run",
    "method": "ccfs",
    "dataset": "digits",
    "licence": "none",
    "seed": 0,
    "ipc": 5,
    "config": {"method": {"ipc": 5}},
}


def ids_by_class(chosen):
    ids = SelectedIds(chosen.folder, 10)
    return [ids[label] for label in range(10)]


def scores(artifact):
    """Columns of a score table, and where each id is in them."""
    columns = columns_of(artifact)
    return columns, {name: at for at, name in enumerate(columns["id"])}


@pytest.fixture(scope="module")
def made(ray4, tmp_path_factory):
    """A run with two curricula: its engine, product and folder."""
    folder = tmp_path_factory.mktemp("ccfs")
    engine = make_engine(folder)
    product = distil(engine, CONFIG)
    write_product(UPath(folder / "distilled"), engine, product, [], ABOUT, "none")
    return engine, product, folder


@given(st.integers(1, 2000), st.integers(0, 100), st.integers(1, 9))
def test_an_arrangement_spends_the_budget(ipc, percent, curricula):
    core, real = arrangement(ipc, percent / 100, curricula)
    assert core + sum(real) == ipc
    assert core == ipc * percent // 100  # exact, where 100 * 0.29 is 28.999999999999996
    assert real == sorted(real, reverse=True)
    assert max(real) - min(real) <= 1


@given(st.dictionaries(st.sampled_from([25, 50, 100]), st.integers(1, 256)), st.integers(1, 200))
def test_the_batch_size_follows_the_nominal_ipc(batches, ipc):
    recipe = FilterConfig(TINY, RECIPE, batches).recipe_for(ipc)
    reached = [least for least in batches if least <= ipc]
    assert recipe.batch_size == (batches[max(reached)] if reached else RECIPE.batch_size)


def test_slots_and_curricula_follow_the_arrangement(made):
    _, product, _ = made
    assert [item.images.summary["slots"] for item in product.curricula] == [[0, 1], [1, 3], [3, 5]]
    assert [item.is_real for item in product.curricula] == [False, True, True]
    assert product.counts == [5] * 10


def test_no_image_is_chosen_twice(made):
    _, product, _ = made
    ids = [name for start in product.starts for name in chain.from_iterable(ids_by_class(start))]
    assert len(ids) == len(set(ids)) == 40


def test_chosen_images_are_right_for_the_teacher_and_wrong_for_the_filter(made):
    _, product, _ = made
    teacher, at = scores(product.scores)
    candidates = 0
    for item in product.curricula[1:]:
        answers, same = scores(item.scores)
        assert same == at
        chosen = read_table(item.start.folder / "selection.parquet").to_pylist()
        for row in chosen:
            i, label = at[row["id"]], row["class_index"]
            assert teacher["prediction"][i] == teacher["class_index"][i] == label
            assert (answers["prediction"][i] != label) == (row["rung"] == 0)
        candidates += sum(row["rung"] == 0 for row in chosen)
        short = 2 - np.minimum(item.start.summary["candidates"], 2)  # filled with the easiest left
        assert item.start.summary["rungs"]["easiest left"] == short.tolist()
    assert candidates > 20  # the test sees both kinds


def test_no_image_left_on_the_rung_is_easier_than_a_chosen_one(made):
    _, product, _ = made
    teacher, at = scores(product.scores)
    used = []
    for item in product.curricula[1:]:
        answers, _ = scores(item.scores)
        trusted = teacher["prediction"] == teacher["class_index"]
        trusted[used] = False
        wrong = answers["prediction"] != answers["class_index"]
        assert item.start.summary["candidates"] == (
            np.bincount(teacher["class_index"][trusted & wrong], minlength=10).tolist()
        )
        table = read_table(item.start.folder / "selection.parquet").to_pandas()
        for (label, rung), rows in table.groupby(["class_index", "rung"]):
            chosen = [at[name] for name in rows["id"]]
            on_rung = trusted & (wrong == (rung == 0)) & (teacher["class_index"] == label)
            left = np.setdiff1d(np.flatnonzero(on_rung), chosen)
            difficulty = teacher["forgetting"]
            assert difficulty[chosen].tolist() == sorted(difficulty[chosen])
            assert not len(left) or difficulty[chosen].max() <= difficulty[left].min()
        used += [at[name] for name in table["id"]]


@pytest.mark.slow
def test_the_selection_does_not_depend_on_workers_or_batches(made, tmp_path):
    engine, product, _ = made
    other = make_engine(tmp_path, parallel=1, data=replace(engine.data, score_batch=96))
    last = product.curricula[-1]
    tables = [score(other, item, "filter") for item in (product.teacher, last.network)]
    used = product.starts[:1]
    chosen = select(other, tables, ranking(CONFIG, 1), 2, used, curriculum=2, draw="real")
    assert ids_by_class(chosen) == ids_by_class(last.start)


def test_the_product_says_what_each_image_is_and_is_rebuilt_from_ids(made):
    engine, _, folder = made
    distilled = read_distilled(folder / "distilled", verify=True)
    rows = list(distilled.rows())
    assert [row.origin for row in rows] == ["synthetic"] * 10 + ["real"] * 40
    assert {row.curriculum for row in rows if row.origin == "real"} == {1, 2}
    assert {(row.class_index, row.slot) for row in rows} == {
        (c, s) for c in range(10) for s in range(5)
    }
    ids = read_table(UPath(folder / IDS))
    again = rebuild_rows(ids, distilled, engine.train_source, PREPROCESSING)
    names, size = engine.class_names, len(rows)
    write_images(folder / "rebuilt", again, num_rows=size, class_names=names, resolution=16)
    shard = "data/train-00000-of-00001.parquet"
    made_once, rebuilt = ((folder / name / shard).read_bytes() for name in ("distilled", "rebuilt"))
    assert made_once == rebuilt


@pytest.mark.slow
def test_a_finished_set_is_the_core_of_another_run(made, tmp_path):
    engine, product, folder = made
    alone = replace(CONFIG, ipc=1, alpha=1.0)
    core = distil(engine, alone)
    assert [item.is_real for item in core.curricula] == [False]  # alpha 1: the core alone
    assert core.images[0].key == product.images[0].key
    about = ABOUT | {"ipc": 1}
    write_product(UPath(tmp_path / "core"), engine, core, [], about, "none")
    reused = distil(engine, replace(CONFIG, core=str(tmp_path / "core")))
    first = [read_table(path)["pixels"] for path in part_files(reused.images[0].folder)]
    there = [read_table(path)["pixels"] for path in part_files(product.images[0].folder)]
    assert pa.chunked_array([c for p in first for c in p.chunks]).to_pylist() == (
        pa.chunked_array([c for p in there for c in p.chunks]).to_pylist()
    )
    with pytest.raises(Refused, match="only 1 images of some class, but alpha asks for 2"):
        distil(engine, replace(CONFIG, ipc=10, core=str(tmp_path / "core")))
    with pytest.raises(Refused, match="holds real images"):
        distil(engine, replace(CONFIG, ipc=15, core=str(folder / "distilled")))


def test_the_report_tells_what_each_curriculum_added(made, tmp_path):
    engine, product, _ = made
    protocol = ProtocolConfig()
    report = build_report(
        engine, product, [], protocol, {"images": 1, "labels": 0, "teacher": 1}, ABOUT
    )
    core, first, second = report["curricula"]
    assert core["selection"] is None
    assert (first["origin"], first["images"]) == ("real", 20)
    for item in (first, second):
        assert item["selection"]["chosen"] == [2] * 10
        assert 0 < item["selection"]["filter"]["top1_train"] < 1
        assert item["selection"]["difficulty"]["max"] <= RECIPE.epochs
    write_report(UPath(tmp_path), report, product, engine)
    assert "median difficulty" in (tmp_path / "report.html").read_text()


def test_presets_without_a_core(made, tmp_path):
    engine, product, _ = made
    random = CcfsConfig(
        "random", ipc=3, alpha=0.0, curricula=1, coarse="off", teacher_correct="off", fine="random"
    )
    ids = [
        set(chain.from_iterable(ids_by_class(distil(engine, c).starts[0])))
        for c in (random, replace(random, fine="simple"), replace(random, fine="hard"))
    ]
    teacher, at = scores(product.scores)
    mean = [np.mean([teacher["forgetting"][at[name]] for name in chosen]) for chosen in ids]
    assert mean[1] < mean[0] < mean[2]


@pytest.mark.slow
def test_forgetting_may_be_averaged_over_trainings(made):
    engine, product, _ = made
    (second,) = difficulty(engine, DifficultyConfig(runs=2), product.scores)
    ours, theirs = (scores(item)[0] for item in (product.scores, second))
    assert ours["id"].tolist() == theirs["id"].tolist()
    assert (ours["forgetting"] != theirs["forgetting"]).any()


def test_what_a_class_lacks_rolls_over_and_the_report_says_what_was_found(made):
    engine, product, _ = made
    config = CcfsConfig(ipc=300, alpha=0, curricula=2, coarse="off", shortfall="rollover")
    greedy = distil(engine, config)
    teacher, _ = scores(product.scores)
    right = teacher["prediction"] == teacher["class_index"]
    there = np.bincount(teacher["class_index"][right], minlength=10)
    assert greedy.counts == there.tolist()
    first, second = (item.start.summary for item in greedy.curricula)
    assert first["chosen"] == there.clip(max=150).tolist()
    assert second["asked"] == 1500 + sum(150 - np.array(first["chosen"]))
    for item in greedy.curricula:
        assert len(load_pixels(item.images.folder, 16)) == sum(item.start.summary["chosen"])
    # the teacher's table tells: refused before anything is selected
    with pytest.raises(Refused, match=r"right about \d+ images of class '\d', but 300 of them"):
        distil(engine, replace(config, shortfall="error"))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_a_table_of_the_users_decides(made, tmp_path, suffix):
    engine, product, _ = made
    columns, _ = scores(product.scores)
    values = np.random.default_rng(0).permutation(len(columns["id"])).astype(np.float32)
    path = tmp_path / f"scores{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    elif suffix == ".npz":
        np.savez(path, scores=values)
    else:
        order = np.random.default_rng(1).permutation(len(values))
        table = pa.table({"id": columns["id"][order].tolist(), "scores": values[order]})
        write_table(UPath(path), table)
    order = None if suffix == ".parquet" else "source"
    by_table = DifficultyConfig("table", table=str(path), order=order, high_is_easy=True)
    config = replace(
        CONFIG,
        ipc=2,
        alpha=0.0,
        curricula=1,
        coarse="off",
        teacher_correct="off",
        difficulty=by_table,
    )
    for label, ids in enumerate(ids_by_class(distil(engine, config).starts[0])):
        mine = columns["class_index"] == label
        highest = np.argsort(-values[mine])[:2]
        assert ids == columns["id"][mine][highest].tolist()
    np.save(tmp_path / "short.npy", values[:-1])
    short = replace(by_table, table=str(tmp_path / "short.npy"), order="source")
    with pytest.raises(Refused, match=r"has only \d+ values, fewer than the training images\.$"):
        distil(engine, replace(config, difficulty=short))
    with pytest.raises(Refused, match=r"could be in any order: .* difficulty\.order=source"):
        distil(engine, replace(config, difficulty=replace(short, order=None)))


def test_what_cannot_run_is_refused():
    with pytest.raises(ValueError, match="the first filter needs some"):
        CcfsConfig(ipc=4, alpha=0.2)
    with pytest.raises(ValueError, match="coarse must be one of"):
        CcfsConfig(coarse="wrong")
    with pytest.raises(ValueError, match="alpha within"):
        CcfsConfig(alpha=1.5)
    with pytest.raises(ValueError, match="go together"):
        DifficultyConfig("table")


def test_forgetting_needs_a_teacher_that_is_trained_here(tmp_path):
    adopted = TeacherConfig(TINY, RECIPE, checkpoint="teacher.pt")
    engine = make_engine(tmp_path, teacher=adopted)
    with pytest.raises(Refused, match=r"difficulty\.by=forgetting needs a teacher"):
        distil(engine, CONFIG)
    assert not engine.stages.root.exists()
