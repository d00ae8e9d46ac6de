"""Protocols: epochs by images per class, and a judge with hard labels that asks no teacher."""

from dataclasses import replace

import pytest
from upath import UPath

from raydd.config.tree import compose_config
from raydd.engine.passes.decode import decode_test
from raydd.engine.product import Curriculum, Product
from raydd.engine.selection.fetch import random_images
from raydd.engine.vocabulary import score, squeeze
from raydd.judge.product import judge
from raydd.judge.protocol import ProtocolConfig, ask_judges, train_judges
from raydd.models.registry import ModelConfig
from raydd.report.gather import build_report
from raydd.report.page import flatten
from raydd.report.write import write_report
from raydd.store.artifacts import Stages
from raydd.store.progress import Progress
from small_engine import RECIPE, make_engine

HARD = ProtocolConfig(
    architectures=[ModelConfig("convnet2", width=8, norm="instance")],
    seeds=2,
    labels="hard",
    recipe=replace(RECIPE, epochs=9, batch_size=8, mix="cutmix", schedule="step", color_jitter=0.4),
    epochs_by_ipc=[[1, 3], [2, 2]],
)
ABOUT = {"name": "n", "method": "m", "dataset": "d", "licence": "l", "seed": 0, "ipc": 2}


@pytest.mark.parametrize(
    ("ipc", "ten", "hundred"),
    [(1, 3000, 2000), (10, 2000, 1333), (11, 1500, 1000), (200, 1000, 666), (501, 300, 200)],
)
def test_epochs_of_minimax_follow_images_per_class_and_classes(ipc, ten, hundred):
    protocol = compose_config(["protocol=minimax_hard", "dataset=imagewoof"]).protocol
    for classes, epochs in ((10, ten), (100, hundred)):
        resolved = protocol.resolve([ipc] * classes)
        assert resolved.recipe.epochs == epochs
        assert resolved.resolve([ipc] * classes) == resolved


def test_a_class_that_is_short_changes_no_epochs():
    assert HARD.resolve([2] * 9 + [1]).recipe.epochs == 2


def test_without_a_table_the_recipe_has_the_epochs():
    assert replace(HARD, epochs_by_ipc=[]).resolve([2] * 10).recipe.epochs == 9


@pytest.mark.parametrize("pairs", [[[2, 5], [1, 9]], [[1, 5, 3]], [[0, 5]]])
def test_bad_tables_are_refused(pairs):
    with pytest.raises(ValueError, match=r"protocol\.epochs_by_ipc"):
        replace(HARD, epochs_by_ipc=pairs)


@pytest.fixture(scope="module")
def judged(ray4, tmp_path_factory):
    """Two curricula of one real image per class, judged with hard labels."""
    engine = make_engine(tmp_path_factory.mktemp("storage"))
    teacher = squeeze(engine)
    product = Product(teacher, score(engine, teacher, "teacher"))
    for curriculum in range(2):
        images = random_images(engine, product.scores, [1] * 10, 5 + curriculum)
        product.curricula.append(Curriculum(images))
    return engine, product, judge(engine, product, HARD)


def test_hard_labels_are_nobodys(judged):
    """Trainings on hard labels are found again whoever is offered as the teacher."""
    engine, product, results = judged
    nobody, protocol = product.images[0], HARD.resolve(product.counts)
    asked = ask_judges(engine, [product.images] * 2, protocol, nobody, "distilled")
    (again,) = train_judges(engine, [asked])
    assert again.summary["results"] == results[:2]
    assert sum(record.name == "evaluate distilled" for record in engine.stages.records) == 1


def test_sets_that_were_trained_on_in_one_queue_are_as_each_alone(judged, tmp_path):
    """Two sets with two seeds: a queue of four, or two queues of two."""
    engine, product, results = judged
    apart = replace(engine, stages=Stages(UPath(tmp_path), Progress()))
    random = [[random_images(engine, product.scores, product.counts, s)] for s in range(2)]
    alone = []
    for title, images in (("distilled", [product.images] * 2), ("random", random)):
        parts = (HARD.resolve(product.counts), None, title, None, decode_test(engine))
        (trained,) = train_judges(apart, [ask_judges(apart, images, *parts)])
        alone += trained.summary["results"]
    assert [drop_seconds(result) for result in alone] == [drop_seconds(r) for r in results]
    keys = [
        [r.key for r in s.records if r.name.startswith("evaluate")]
        for s in (apart.stages, engine.stages)
    ]
    assert keys[0] == keys[1]


def drop_seconds(result):
    return {name: value for name, value in result.items() if name != "seconds"}


def test_random_images_are_judged_with_the_same_epochs_and_initialisations(judged):
    _, product, results = judged
    assert [result["images"] for result in results] == ["distilled"] * 2 + ["random"] * 2
    assert {result["curve"][-1]["epoch"] for result in results} == {2}
    assert sum(product.counts) == 20


def test_the_report_has_the_epochs_that_were_trained_and_every_curriculum(judged, tmp_path):
    engine, product, results = judged
    sizes = {"images": 1, "labels": 0, "teacher": 1}
    report = build_report(engine, product, results, HARD, sizes, ABOUT | {"config": {}})
    assert flatten(report["protocol"])["recipe.epochs"] == 2
    write_report(UPath(tmp_path), report, product, engine)
    page = (tmp_path / "report.html").read_text()
    assert "<dt>recipe.epochs</dt><dd>2</dd>" in page
    assert page.count("<img src=") == 2
    assert "the teacher is asked during training" not in page
