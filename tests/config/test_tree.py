"""The configuration tree: every file composes, every mistake gets one sentence."""

import re
from pathlib import Path

import pytest

from raydd.config.compose import ConfigError, config_dir
from raydd.config.tree import compose_config, run_name
from raydd.plan.planner import walk
from raydd.store.files import differing_keys
from raydd.store.progress import Progress

ADDED = {"experiment": "+experiment", "synthesis": "+synthesis@method.synthesis"}
GROUPS = [
    f"{ADDED.get(path.parent.name, path.parent.name)}={path.stem}"
    for path in sorted(config_dir().glob("*/*.yaml"))
    if path.parent.name != "judge"  # of another door: tests/test_evaluate.py
]
NEEDS_ROOT = ("imagefolder", "parquet", "webdataset")


@pytest.mark.parametrize("choice", GROUPS)
def test_every_config_composes(choice):
    generic = [
        "dataset.name=x", "dataset.root=/x", "dataset.resolution=32", "dataset.resize=32",
        "dataset.mean=[0.5,0.5,0.5]", "dataset.std=[0.2,0.2,0.2]",
    ]  # fmt: skip
    config = compose_config([choice, *(generic if choice.split("=")[1] in NEEDS_ROOT else [])])
    assert config.method.ipc >= 1


def test_the_groups_of_the_founding_methods_and_data_sets_exist():
    names = set(GROUPS)
    for method in ("curricular", "sre2l", "cda", "ccfs", "random", "forgetting", "aum", "ccs"):
        assert f"method={method}" in names
    for dataset in (
        "digits",
        "cifar10",
        "cifar100",
        "tiny_imagenet",
        "imagenette",
        "imagewoof",
        "in1k",
        "in21k",
    ):
        assert f"dataset={dataset}" in names


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method.ipx=5"], ["ipx"]),
        (["colour=red"], ["colour"]),
        (["method=nonsense"], ["nonsense", "curricular"]),
        (["method.ipc=many"], ["many", "ipc"]),
        (["method.boundaries=[5,5]"], ["method.boundaries", "rise"]),
        (["method.ipc=4", "method.boundaries=[5]"], ["method.boundaries", "method.ipc=4"]),
        (["method.synthesis.start=clay"], ["start", "clay", "noise"]),
        (["protocol.labels=wet"], ["protocol.labels", "wet"]),
        (["teacher.recipe.optimizer=magic"], ["optimizer", "magic", "adamw"]),
        (["export=floppy"], ["export", "floppy"]),
        (["protocol=hald_cpu", "protocol.labels=hard"], ["hard_span needs protocol.labels=soft"]),
        (["protocol.recipe.hard_span=[0.5,0.2]"], ["hard_span", "rise"]),
        (["teacher.recipe.hard_span=[0,0.5]"], ["teacher.recipe.hard_span has no use"]),
        (["labels.logits=int8"], ["labels.logits=int8 needs labels.form=stored"]),
        (["method.ipc"], ["method.ipc"]),
    ],
)
def test_a_mistake_gets_one_sentence(overrides, words):
    with pytest.raises(ConfigError) as error:
        compose_config(overrides)
    text = str(error.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


def test_presets_differ_from_the_driver_by_named_keys_only():
    noise = compose_config(["method=sre2l"]).method
    assert type(noise) is type(compose_config([]).method)
    assert (
        noise.synthesis.start,
        noise.synthesis.start_weight,
        noise.synthesis.adversarial_weight,
    ) == ("noise", 0, 0)
    assert noise.boundaries == []
    assert compose_config(["method=cda"]).method.synthesis.crop_schedule == "cosine"


def test_labels_are_made_for_the_epochs_that_use_them(tmp_path):
    words = ["labels.form=stored", f"storage={tmp_path}"]
    found = {}
    for protocol in ("hald_cpu", "hald_cpu protocol.recipe.hard_span=[0,0]"):
        _, rows = walk(compose_config([*f"protocol={protocol}".split(), *words]), Progress())
        found[protocol] = [row.cost.writes for row in rows if row.stage.startswith("relabel")]
    half, whole = found.values()
    assert half
    assert [2 * written for written in half] == whole


def test_run_names_spell_fields_and_change_with_what_is_made():
    base = run_name(compose_config([]))
    assert re.fullmatch(r"curricular-digits-ipc2-s0-[0-9a-f]{6}", base)
    assert run_name(compose_config(["cluster.num_workers=2", "verbose=true"])) == base
    assert run_name(compose_config(["method.synthesis.steps=7"])) != base
    assert run_name(compose_config(["name=mine"])) == "mine"


def test_differing_keys_are_named_with_their_path():
    assert differing_keys({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}}) == ["a.c", "d"]


def test_configs_lie_where_the_package_finds_them():
    assert (Path(config_dir()) / "config.yaml").is_file()
