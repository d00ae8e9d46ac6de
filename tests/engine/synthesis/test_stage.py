"""Synthesis units: cut by the configuration alone, the same bytes for any number of workers."""

import hashlib

import pytest

from raydd.engine.passes.score import score_teacher
from raydd.engine.selection.ladder import FIRST_LADDER, rung
from raydd.engine.selection.ranking import Ranking
from raydd.engine.selection.select import select
from raydd.engine.synthesis.stage import synthesize
from raydd.engine.training.teacher import squeeze
from raydd.store.tables import part_files, read_table
from raydd.store.units import name_starts, plan_units
from small_engine import SYNTHESIS, make_engine


def test_a_batch_holds_distinct_classes_and_fills_up_with_slots():
    ids = [[f"{label}-{slot}" for slot in range(3)] for label in range(7)]
    units = name_starts(plan_units(7, range(2, 5), 4), ids, first_slot=2)
    assert [len(unit.labels) for unit in units] == [4, 3, 4, 3, 4, 3]
    assert all(len(set(unit.labels)) == len(unit.labels) for unit in units)
    assert len({unit.name for unit in units}) == len(units)
    pairs = [pair for unit in units for pair in zip(unit.slots, unit.labels, strict=True)]
    assert sorted(pairs) == [(slot, label) for slot in range(2, 5) for label in range(7)]
    for unit in units:
        assert list(unit.start_ids) == [
            f"{y}-{s - 2}" for s, y in zip(unit.slots, unit.labels, strict=True)
        ]
    assert [len(unit.labels) for unit in plan_units(3, range(5), 6)] == [6, 6, 3]


def digests(artifact):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in part_files(artifact.folder)
    }


def first_images(engine, slots=range(4)):
    teacher = squeeze(engine)
    scores = score_teacher(engine, teacher)
    start = select(engine, [scores], Ranking(FIRST_LADDER, rung), len(slots))
    return synthesize(engine, start, teacher, None, SYNTHESIS, slots, 0)


@pytest.fixture(scope="module")
def calm(ray4, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calm")
    return folder, first_images(make_engine(folder))


@pytest.mark.slow
def test_images_are_the_same_bytes_for_two_workers(calm):
    folder, calm_images = calm
    before = digests(calm_images)
    for path in [*part_files(calm_images.folder), calm_images.folder / "manifest.json"]:
        path.unlink()
    again = first_images(make_engine(folder, num_workers=2))
    assert digests(again) == before


def test_only_missing_units_are_made_again(calm):
    folder, images = calm
    before = {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in part_files(images.folder)
    }
    lost = part_files(images.folder)[2]
    lost.unlink()
    (images.folder / "manifest.json").unlink()
    again = first_images(make_engine(folder))
    after = {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in part_files(again.folder)
    }
    assert [name for name in after if after[name][1] != before[name][1]] == [lost.name]
    assert {n: c for n, (c, _) in after.items()} == {n: c for n, (c, _) in before.items()}


def test_rows_name_slot_curriculum_class_and_the_real_image_behind_them(calm):
    _, images = calm
    rows = [row for path in part_files(images.folder) for row in read_table(path).to_pylist()]
    assert len(rows) == 40
    assert {row["curriculum"] for row in rows} == {0}
    assert len({(row["class_index"], row["slot"]) for row in rows}) == 40
    assert len({row["id"] for row in rows}) == 40
