"""The driver of ACS and its presets on the embedded digits."""

from dataclasses import replace

import pytest
import torch
from upath import UPath

from raydd.config.tree import compose_config
from raydd.engine.generator.config import GeneratorConfig, GeneratorRecipe, MinimaxConfig
from raydd.engine.sampling.config import AdversaryConfig, SampleConfig
from raydd.judge.diagnose import DiagnoseConfig
from raydd.methods.acs import AcsConfig, DiscriminatorConfig, distil
from raydd.models.registry import ModelConfig
from raydd.plan.planner import NotedStages
from raydd.store.images import load_pixels
from raydd.store.progress import Progress
from small_engine import RECIPE, make_engine

MODEL = ModelConfig("convnet2", width=8, norm="instance")
SMALL = GeneratorRecipe(steps=6, batch_size=20, average_decay=0.5)
GUIDED = SampleConfig(
    steps=4, batch_size=10, guided_channels=None, adversary=AdversaryConfig(scale=0.1)
)
CONFIG = AcsConfig(
    ipc=3,
    per_curriculum=1,
    generator=GeneratorConfig(layers=2, heads=2, width=16, patch=4, recipe=SMALL),
    sampling=GUIDED,
    discriminator=DiscriminatorConfig(MODEL, replace(RECIPE, epochs=3), warm_epochs=1),
    diagnosis=DiagnoseConfig(MODEL, RECIPE),
)


@pytest.fixture(scope="module")
def engine(ray4, tmp_path_factory):
    return make_engine(tmp_path_factory.mktemp("acs"))


@pytest.fixture(scope="module")
def product(engine):
    return distil(engine, CONFIG)


def pixels(curriculum):
    return load_pixels(curriculum.images.folder, 16).images


def stages_run(engine, config):
    """Names of the stages that a run does not find finished."""
    before = len(engine.stages.records)
    made = distil(engine, config)
    return made, [record.name for record in engine.stages.records[before:] if not record.cached]


def test_curricula_hold_the_slots_in_order(product):
    assert product.counts == [3] * 10
    assert [item.images.summary["slots"] for item in product.curricula] == [[0, 1], [1, 2], [2, 3]]
    labels = load_pixels(product.images[1].folder, 16).labels
    assert labels.tolist() == list(range(10))


def test_the_report_gets_one_discriminator_less_than_curricula(product):
    rows = product.diagnosis.summary["curricula"]
    assert [row["discriminator"] is None for row in rows] == [True, False, False]
    assert all(0 <= row["validity"] <= 1 for row in rows)


def test_a_smaller_ipc_is_the_beginning_of_a_larger_one(engine, product):
    made, ran = stages_run(engine, replace(CONFIG, ipc=2))
    assert [item.images.key for item in made.curricula] == [
        item.images.key for item in product.curricula[:2]
    ]
    assert not [name for name in ran if name.startswith(("sample", "train", "generator"))]


def test_guidance_changes_all_curricula_but_the_first(engine, product):
    unguided = replace(GUIDED, adversary=AdversaryConfig(scale=0.0))
    made, ran = stages_run(engine, replace(CONFIG, sampling=unguided, diagnosis=None))
    same = [
        torch.equal(pixels(ours), pixels(theirs))
        for ours, theirs in zip(made.curricula, product.curricula, strict=True)
    ]
    assert same == [True, False, False]
    assert not [name for name in ran if name.startswith("train")]  # nobody asks a discriminator


def test_a_tuned_generator_gives_other_images(engine, product):
    tuning = MinimaxConfig(steps=3, batch_size=10)
    made = distil(engine, replace(CONFIG, ipc=1, tuning=tuning, diagnosis=None))
    assert not torch.equal(pixels(made.curricula[0]), pixels(product.curricula[0]))


def test_the_plan_walks_through_the_same_stages(engine, product, tmp_path):
    noted = NotedStages(UPath(tmp_path), Progress())
    distil(replace(engine, stages=noted), replace(CONFIG, tuning=MinimaxConfig()))
    stages = [row.stage for row in noted.rows]
    assert [name for name in stages if name.startswith("sample")] == [
        f"sample curriculum {number}" for number in (1, 2, 3)
    ]
    others = {"generator training", "tune training", "train discriminator 2"}
    assert others | {"diagnose 3 curricula"} <= set(stages)
    works = [row.cost.work for row in noted.rows if row.stage.startswith("sample")]
    flops = [sum(work.steps * work.step_flops for work in found) for found in works]
    assert 0 < flops[0] < flops[1] == flops[2]  # the first is not steered


@pytest.mark.parametrize("preset", ["acs", "dit", "minimax"])
def test_presets_compose(preset):
    method = compose_config([f"method={preset}"]).method
    assert method.name == preset
    assert (method.sampling.adversary.scale > 0) == (preset == "acs")
    assert (method.tuning is not None) == (preset == "minimax")


def test_an_empty_curriculum_is_refused():
    with pytest.raises(ValueError, match="per_curriculum must be at least 1"):
        replace(CONFIG, per_curriculum=0)
