"""What flows into a pass: tasks, their rows, and that a device sees what a CPU sees."""

import numpy as np
import pyarrow as pa
import pytest
import ray

from raydd.data.rows import pixel_array
from raydd.data.sources import open_source
from raydd.engine.passes.decode import stream_pixels
from raydd.engine.passes.embed import Embedder
from raydd.engine.passes.encoded import END
from raydd.engine.passes.feed import decoded_rows, encoded_rows, mapped_rows
from raydd.engine.passes.score import Scorer
from raydd.engine.passes.stream import DataConfig
from raydd.engine.training.teacher import squeeze
from small_engine import PREPROCESSING, make_engine

MAX_PIXELS = 1_000_000


@pytest.fixture(scope="module")
def shards():
    source = open_source("digits", "", "train")
    return source, dict(enumerate(source.shards()))


def collect(rows) -> pa.Table:
    tables = list(rows.iter_batches(batch_size=None, batch_format="pyarrow"))
    return pa.concat_tables(tables).sort_by([("shard", "ascending"), ("row", "ascending")])


def test_every_shard_is_a_task_of_its_own(ray4, shards):
    """Two map_batches in a row were one task for 256 shards: one core worked."""
    source, numbered = shards

    def note(rows: pa.Table) -> pa.Table:
        task = ray.get_runtime_context().get_task_id()
        return rows.select(["shard", "row"]).append_column("task", pa.array([task] * len(rows)))

    rows = collect(mapped_rows(source, numbered, note))
    pairs = set(zip(rows["shard"].to_pylist(), rows["task"].to_pylist(), strict=True))
    assert len(pairs) == len(numbered) == len({task for _, task in pairs}) > 4


def test_decoded_rows_are_the_encoded_ones(ray4, shards):
    source, numbered = shards
    some = {0: numbered[0], 3: numbered[3]}
    decoded = collect(decoded_rows(source, some, PREPROCESSING, MAX_PIXELS))
    encoded = collect(encoded_rows(source, some))
    for name in ("id", "class_index", "shard", "row"):
        assert decoded[name].to_pylist() == encoded[name].to_pylist()
    assert set(decoded["reason"].to_pylist()) == {"", END}
    assert pixel_array(decoded["pixels"], 16).std() > 10


def test_a_device_answers_decoded_rows_as_a_cpu_answers_encoded_ones(ray4, shards, tmp_path):
    source, numbered = shards
    engine = make_engine(tmp_path)
    folder = str(squeeze(engine).folder)
    encoded = collect(encoded_rows(source, {0: numbered[0]})).slice(0, 64)
    decoded = collect(decoded_rows(source, {0: numbered[0]}, PREPROCESSING, MAX_PIXELS))
    for actor in (Scorer, Embedder):
        answer = actor(folder, DataConfig(score_batch=64), "cpu", 1)
        first, second = answer(encoded), answer(decoded.slice(0, 64))
        assert first.select(sorted(first.column_names)).equals(
            second.select(sorted(first.column_names))
        )


def test_a_streamed_training_gets_every_good_image_in_another_order(ray4, tmp_path):
    engine = make_engine(tmp_path)
    batches = stream_pixels(engine, PREPROCESSING).iter_batches(
        batch_size=256, batch_format="numpy"
    )
    found = list(batches)
    shards = np.concatenate([batch["shard"] for batch in found])
    assert len(shards) == engine.num_images
    assert len(set(zip(shards, np.concatenate([b["row"] for b in found]), strict=True))) == len(
        shards
    )
    assert found[0]["pixels"].shape[1:] == (16, 16, 3)
