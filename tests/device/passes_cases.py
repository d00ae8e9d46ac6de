"""Passes on a device: decoded pixels go there once, a few numbers per image come back."""

import math

import pyarrow as pa
import pytest
import torch

from device.small import NAMES, SIDE, network, pixels, save_network
from device.virtual import DEVICE, per_step, virtual
from raydd.data.rows import pixel_column
from raydd.engine.passes.embed import Embedder
from raydd.engine.passes.score import Scorer
from raydd.engine.passes.statistics_sums import add_statistics
from raydd.engine.passes.stream import DataConfig
from raydd.models.observer import ObserverTap
from raydd.models.preprocess import normalise
from small_engine import PREPROCESSING

BATCH = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("passes") / "network")


def decoded_rows() -> pa.Table:
    """What a task beside the device hands on; the last row is a broken one."""
    shown = pixels(BATCH).permute(0, 2, 3, 1).contiguous().numpy()
    labels = [*(number % len(NAMES) for number in range(BATCH - 1)), -1]
    return pa.table(
        {
            "id": [f"image {number}" for number in range(BATCH)],
            "class_index": pa.array(labels, pa.int32()),
            "images": pa.array([1] * BATCH),
            "shard": pa.array([0] * BATCH, pa.int32()),
            "row": pa.array(range(BATCH), pa.int32()),
            "reason": [*[""] * (BATCH - 1), "broken"],
            "content": pa.array(range(BATCH)),
            "pixels": pixel_column(shown),
        }
    )


@pytest.mark.parametrize(("kind", "copies"), [(Scorer, 2), (Embedder, 1)])
def test_an_actor_of_a_pass_sends_a_batch_once_and_reads_its_answers_once(folder, kind, copies):
    config, rows = DataConfig(score_batch=BATCH), decoded_rows()
    expected = kind(folder, config, "cpu", 1)(rows)
    with virtual():
        actor = kind(folder, config, DEVICE, 1)
        counts, found = per_step(lambda times: [actor(rows) for _ in range(times)][-1])
    assert found.equals(expected)
    assert counts.copies.total() <= copies  # pixels, and for scores the labels
    assert counts.reads.total() == 1


def test_sums_of_statistics_stay_on_the_device():
    labels = torch.arange(BATCH) % 3
    shown = normalise(pixels(BATCH), PREPROCESSING.mean, PREPROCESSING.std)
    tap = ObserverTap(network(), SIDE, 4, per_image=True)
    width = sum(tap.sizes)
    expected = torch.zeros(len(NAMES), 3, width, dtype=torch.float64)
    add_statistics(expected, labels, tap, shown)
    with virtual():
        there = ObserverTap(network().to(DEVICE), SIDE, 4, per_image=True)
        total = torch.zeros(len(NAMES), 3, width, dtype=torch.float64, device=DEVICE)
        images = shown.to(DEVICE)

        def add(times: int) -> None:
            for _ in range(times):
                add_statistics(total, labels, there, images)

        counts, _ = per_step(add)
        found = total.cpu()
    assert counts.reads.total() == 0
    assert counts.copies.total() <= 2  # who belongs to which class
    times = found[0, 0].sum().item() / expected[0, 0].sum().item()
    assert math.isclose(times, round(times), rel_tol=1e-6)
    torch.testing.assert_close(found / round(times), expected, rtol=1e-6, atol=1e-9)
