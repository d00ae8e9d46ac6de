"""Stage folders: hashes, atomic finish, continuation."""

import json

import pytest
from upath import UPath

from raydd.engine.cost import Cost
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import MANIFEST, Stages, digest
from raydd.store.files import write_atomic
from raydd.store.progress import Progress


@pytest.fixture
def stages(tmp_path):
    return Stages(UPath(tmp_path), Progress())


def run(stages, work, **change):
    given = {"inputs": ["a"], "config": Recipe(epochs=3), "seed": 0, **change}
    return stages.run("thing", work, **given, cost=Cost, expected=dict)


def test_a_finished_stage_is_run_again_neither_by_this_run_nor_by_the_next(stages, tmp_path):
    calls = []
    first = run(stages, lambda folder: calls.append(folder) or {"value": 7})
    second = run(stages, lambda folder: calls.append(folder) or {"value": 8})
    later = Stages(UPath(tmp_path), Progress())
    third = run(later, lambda folder: calls.append(folder) or {"value": 9})
    assert len(calls) == 1
    assert first.key == second.key == third.key
    assert first.summary == second.summary == third.summary == {"value": 7}
    assert [record.cached for record in stages.records + later.records] == [False, True]


def test_an_interrupted_stage_continues_in_its_folder_and_nothing_is_lost(stages):
    def dies(folder):
        write_atomic(folder / "unit0", b"done")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        run(stages, dies)
    seen = []
    artifact = run(stages, lambda folder: seen.append((folder / "unit0").read_bytes()) or {})
    assert seen == [b"done"]
    assert json.loads((artifact.folder / MANIFEST).read_text())["key"] == artifact.key


@pytest.mark.parametrize("change", [{"inputs": ["b"]}, {"config": Recipe(epochs=4)}, {"seed": 1}])
def test_inputs_configuration_and_seed_each_make_another_folder(stages, change):
    assert run(stages, lambda _: {}).folder != run(stages, lambda _: {}, **change).folder


def test_digest_ignores_the_order_of_keys_and_takes_dataclasses():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(Recipe()) == digest(Recipe())
    assert digest(Recipe()) != digest(Recipe(epochs=1))


def test_write_atomic_leaves_no_partial_file(tmp_path):
    write_atomic(UPath(tmp_path / "x"), b"one")
    write_atomic(UPath(tmp_path / "x"), b"two")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"two")]
