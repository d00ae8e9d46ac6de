"""Stage folders: hashes, atomic finish, continuation."""

import json
from contextlib import contextmanager

import pytest
from upath import UPath

from raydd.engine.cost import Cost
from raydd.ops.recipe import Recipe
from raydd.store.artifacts import MANIFEST, Stage, Stages, digest
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


def thing(seed, title):
    return Stage("thing", ["a"], None, seed, Cost, dict, title)


def test_stages_that_are_run_together_are_each_their_own(stages, tmp_path):
    one, two, three = (thing(seed, f"number {seed}") for seed in (1, 2, 3))
    stages.run_together([two], lambda folders: {two.key: {"value": 2}})
    later, seen = Stages(UPath(tmp_path), Progress()), []

    def work(folders):
        seen.extend(folders)
        return {key: {"value": folder.name} for key, folder in folders.items()}

    made = later.run_together([one, two, three], work)
    assert seen == [one.key, three.key]  # the finished one is left alone
    assert [item.key for item in made] == [one.key, two.key, three.key]
    assert made[1].summary == {"value": 2}
    assert made[2].summary == {"value": made[2].folder.name}
    assert later.find("thing", one.key)[0] == made[0]
    assert [(r.name, r.cached) for r in later.records] == [
        ("thing number 2", True), ("thing number 1", False), ("thing number 3", False),
    ]  # fmt: skip


def test_stages_that_are_run_together_are_all_guarded_in_one_order(tmp_path):
    """Two runs that ask for the same ones in another order would wait for each other for good."""
    held = []

    @contextmanager
    def guard(key):
        held.append(key)
        yield

    both = [thing(seed, "") for seed in (1, 2)]
    for name, asked in (("a", both), ("b", both[::-1])):
        stages = Stages(UPath(tmp_path / name), Progress(), guard)
        stages.run_together(asked, lambda folders: {key: {} for key in folders})
    assert held[:2] == held[2:] == sorted(held[:2])


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
