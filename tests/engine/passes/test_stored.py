"""Passes over pixels that are on disk leave the bytes of passes that decode, and decode nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from raydd.data.sources import open_source
from raydd.engine.passes.decode import fits_memory, list_images, stored_images
from raydd.engine.passes.embed import embed
from raydd.engine.passes.score import score
from raydd.engine.passes.stream import DataConfig
from raydd.engine.training.teacher import squeeze
from small_engine import PREPROCESSING, make_engine

LENIENT = DataConfig(max_rejected=0.5, score_batch=4)
STREAMED = replace(LENIENT, memory_limit_mb=0)


@pytest.fixture(scope="module")
def teacher(ray4, tmp_path_factory):
    return squeeze(make_engine(tmp_path_factory.mktemp("teacher")))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three classes of six images; two are broken, and so is all of the last class."""
    root = tmp_path_factory.mktemp("real")
    draws = np.random.default_rng(0)
    for label in ("cat", "dog", "eel"):
        (root / "train" / label).mkdir(parents=True)
        for i in range(6):
            path = root / "train" / label / f"{i}.png"
            Image.fromarray(draws.integers(0, 255, (20, 20, 3), np.uint8)).save(path)
            if label == "eel" or i == 3:
                path.write_bytes(path.read_bytes()[:60])
    return open_source("imagefolder", str(root), "train")


def contents(artifact):
    files = sorted(artifact.folder.rglob("*.parquet"))
    return {str(path.relative_to(artifact.folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("stage", [score, pytest.param(embed, marks=pytest.mark.slow)])
def test_a_stored_pass_leaves_the_bytes_of_a_streamed_one(stage, teacher, source, tmp_path):
    streamed = stage(make_engine(tmp_path / "a", source=source, data=STREAMED), teacher, "x")
    stored = stage(make_engine(tmp_path / "b", source=source, data=LENIENT), teacher, "x")
    assert contents(stored) == contents(streamed)
    assert stored.summary == streamed.summary
    assert stored.key == streamed.key
    assert stored.summary["rejected"] == 8


def test_other_processes_and_a_kill_change_nothing(teacher, source, tmp_path):
    calm = score(make_engine(tmp_path / "a", source=source, data=LENIENT), teacher, "x")
    engine = make_engine(tmp_path / "b", source=source, data=LENIENT, num_workers=2)
    table = score(engine, teacher, "x")
    assert contents(table) == contents(calm)
    (table.folder / "manifest.json").unlink()
    lost, *kept = sorted((table.folder / "parts").iterdir())
    lost.unlink()
    times = [path.stat().st_mtime_ns for path in kept]
    again = score(make_engine(tmp_path / "b", source=source, data=LENIENT), teacher, "x")
    assert contents(again) == contents(calm)
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_images_are_decoded_once_for_every_stage(teacher, tmp_path):
    engine = make_engine(tmp_path)
    score(engine, teacher, "x")
    embed(engine, teacher, "x")
    assert list_images(engine) == stored_images(engine, PREPROCESSING)
    names = [record.name.split()[0] for record in engine.stages.records]
    assert sorted(names) == ["decode", "embed", "score"]


def test_images_that_are_too_many_or_that_nobody_has_counted_are_not_stored(source, tmp_path):
    engine = make_engine(tmp_path, source=source, data=STREAMED)
    assert stored_images(engine, PREPROCESSING) is None
    assert not fits_memory(make_engine(tmp_path), math.nan, PREPROCESSING)
