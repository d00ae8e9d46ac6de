"""The key of every stage of every preset is what it was before the house was rebuilt.

``golden/stage_keys.json`` was noted by the engine of that time. A key that changes makes every
finished stage of every user be done again, so one that changes on purpose is written there by hand
and has a line in CHANGELOG.md.
"""

import json
from pathlib import Path

import pytest

from raydd.config.tree import compose_config
from raydd.plan.planner import walk
from raydd.store.progress import Progress

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("stage_keys.json").read_text())


@pytest.mark.parametrize("words", GOLDEN)
def test_stages_and_keys_of_a_preset_are_those_of_old(words, tmp_path):
    _, rows = walk(compose_config([*words.split(), f"storage={tmp_path}/runs"]), Progress())
    noted = [(row.stage.split()[0], row.key) for row in rows]
    old = [tuple(pair) for pair in GOLDEN[words]]
    assert sorted(noted) == sorted(old)
    assert not (tmp_path / "runs").exists()


def test_every_preset_is_held():
    presets = Path(__file__).parents[1].joinpath("configs", "method").glob("*.yaml")
    assert {f"method={path.stem}" for path in presets} <= set(GOLDEN)
