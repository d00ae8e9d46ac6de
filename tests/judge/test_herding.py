"""Herding over the digits: the definition's picks, for any workers and blocks; fetchable."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from upath import UPath

from raydd.engine.passes.decode import place_images
from raydd.engine.passes.embed import embed, read_features
from raydd.engine.passes.stream import DataConfig
from raydd.engine.selection.chosen import SelectedIds
from raydd.engine.selection.fetch import fetch
from raydd.engine.selection.ranking import ANY
from raydd.engine.selection.select import select
from raydd.errors import Refused
from raydd.judge.herding import HerdingConfig, herd, plan_blocks
from raydd.models.features import FeatureTap
from raydd.models.preprocess import normalise
from raydd.models.registry import ModelConfig, create_model
from raydd.ops import herding
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import CheckpointCard, load_frozen, save_checkpoint
from raydd.store.images import load_pixels
from raydd.store.tables import part_files, read_table
from small_engine import PREPROCESSING, make_engine

MODEL = ModelConfig("convnet3", width=16)


@pytest.fixture(scope="module")
def embedded(ray4, tmp_path_factory):
    """The digits' features of a network without training."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("network")
    card = CheckpointCard(MODEL, tuple("0123456789"), PREPROCESSING)
    save_checkpoint(UPath(folder), create_model(MODEL, 10, 16), card)
    engine = make_engine(tmp_path_factory.mktemp("runs"))
    network = Artifact(UPath(folder), "network")
    return engine, network, embed(engine, network, "digits")


def choose(embedded, folder, count=5, config=None, parallel=1, seed=0):
    engine = replace(make_engine(folder, parallel=parallel), seed=seed)
    return herd(engine, embedded[2], count, config or HerdingConfig(), "digits")


def ids_by_class(chosen):
    ids = SelectedIds(chosen.folder, 10)
    return [ids[label] for label in range(10)]


def features_by_class(embedding):
    """ids and features of each class, by id."""
    width, rows = embedding.summary["width"], []
    for path in part_files(embedding.folder):
        table = read_table(path)
        features = read_features(path, table["row"].to_numpy(), width)
        names = zip(table["class_index"].to_pylist(), table["id"].to_pylist(), strict=True)
        rows += [(*name, value) for name, value in zip(names, features, strict=True)]
    rows.sort(key=lambda row: row[:2])
    return {
        label: ([r[1] for r in rows if r[0] == label], [r[2] for r in rows if r[0] == label])
        for label in range(10)
    }


def test_features_are_those_of_a_plain_forward(embedded):
    engine, network, embedding = embedded
    (real,) = place_images(engine, PREPROCESSING).folders
    images = load_pixels(UPath(real), 16)
    tap = FeatureTap(load_frozen(network.folder, torch.device("cpu"))[0], 10)
    with torch.no_grad():
        _, features = tap(normalise(images.images, PREPROCESSING.mean, PREPROCESSING.std))
    expected = dict(zip(images.ids, F.normalize(features).numpy(), strict=True))
    assert embedding.summary["counts"] == torch.bincount(images.labels).tolist()
    assert embedding.summary["width"] == features.shape[1]
    for ids, values in features_by_class(embedding).values():
        wanted = np.stack([expected[name] for name in ids])
        np.testing.assert_allclose(np.stack(values), wanted, atol=2e-3)


@pytest.mark.slow  # a second pass
def test_a_batch_s_size_and_the_workers_change_no_feature(embedded, tmp_path):
    engine = make_engine(tmp_path, parallel=2, data=DataConfig(score_batch=64))
    other = embed(engine, embedded[1], "digits")
    before, after = (features_by_class(item) for item in (embedded[2], other))
    for label in range(10):
        assert before[label][0] == after[label][0]
        np.testing.assert_allclose(before[label][1], after[label][1], atol=1e-3)


def test_picks_are_those_of_the_definition(embedded, tmp_path):
    chosen = choose(embedded, tmp_path)
    known = features_by_class(embedded[2])
    for label, ids in enumerate(ids_by_class(chosen)):
        names, values = known[label]
        picks, _ = herding.herd(np.stack(values), 5)
        assert ids == [names[i] for i in picks]
        points = np.stack(values).astype(float)
        nearest = np.linalg.norm(points - points.mean(0), axis=1).argmin()
        assert ids[0] == names[nearest]


def test_blocks_and_workers_change_nothing(embedded, tmp_path):
    whole = read_table(choose(embedded, tmp_path / "a").folder / "selection.parquet")
    parts = choose(embedded, tmp_path / "b", config=HerdingConfig(memory_mb=0.05), parallel=2)
    assert len(list((parts.folder / "blocks").iterdir())) > 3
    assert read_table(parts.folder / "selection.parquet").equals(whole)


def test_the_selection_is_one_and_can_be_fetched(embedded, tmp_path):
    engine = embedded[0]
    counts = [0, *range(1, 10)]
    chosen = choose(embedded, tmp_path, counts)
    plain = select(engine, [embedded[2]], ANY, counts)
    assert set(chosen.summary) == set(plain.summary)
    assert chosen.summary["candidates"] == plain.summary["candidates"]
    tables = [read_table(item.folder / "selection.parquet") for item in (chosen, plain)]
    assert tables[0].schema == tables[1].schema
    images = fetch(engine, chosen, [], 0, "herding")
    stored = pa.concat_tables(read_table(path) for path in part_files(images.folder))
    assert stored.num_rows == 45
    assert images.summary["counts"] == counts
    order = {
        (label, slot): name
        for label, ids in enumerate(ids_by_class(chosen))
        for slot, name in enumerate(ids)
    }
    for row in stored.select(["class_index", "slot", "id"]).to_pylist():
        assert order[row["class_index"], row["slot"]] == row["id"]


def test_candidates_are_drawn_by_seed(embedded, tmp_path):
    config = HerdingConfig(candidates=20)
    picks = [
        ids_by_class(choose(embedded, tmp_path / str(i), 3, config, seed=seed))
        for i, seed in enumerate((0, 0, 1))
    ]
    assert picks[0] == picks[1] != picks[2]
    few = ids_by_class(choose(embedded, tmp_path / "few", 5, HerdingConfig(candidates=5)))
    more = ids_by_class(choose(embedded, tmp_path / "more", 5, HerdingConfig(candidates=1)))
    assert few == more  # never fewer candidates than are asked for


def test_finished_blocks_are_not_done_again(embedded, tmp_path):
    config = HerdingConfig(memory_mb=0.05)
    first = choose(embedded, tmp_path, config=config)
    before = (first.folder / "selection.parquet").read_bytes()
    blocks = sorted((first.folder / "blocks").iterdir())
    kept = blocks[1].stat().st_mtime_ns
    blocks[0].unlink()
    for name in ("manifest.json", "selection.parquet"):
        (first.folder / name).unlink()
    again = choose(embedded, tmp_path, config=config)
    assert (again.folder / "selection.parquet").read_bytes() == before
    assert blocks[1].stat().st_mtime_ns == kept


def test_a_class_that_is_too_small_is_named(embedded, tmp_path):
    with pytest.raises(Refused, match=r"class \d has only \d+ images left to choose from"):
        choose(embedded, tmp_path, 1000)


def test_blocks_hold_what_fits():
    sizes = np.array([3, 3, 9, 1, 0, 5, 5])
    assert plan_blocks(sizes, 6) == [range(0, 2), range(2, 3), range(3, 6), range(6, 7)]
    assert plan_blocks(sizes, 100) == [range(0, 7)]
    with pytest.raises(ValueError, match="memory_mb above 0"):
        HerdingConfig(memory_mb=0)
