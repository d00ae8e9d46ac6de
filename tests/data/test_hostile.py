"""Among hostile files every good image is used and every bad one is rejected with a reason."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hostile_images import good_image
from hostile_ledger import account
from hostile_sets import CLASSES, WRITERS
from raydd.data import images
from raydd.data.images import decode
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import decode_rows
from raydd.data.sources import Row, open_source

PREPROCESSING = Preprocessing(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def decoded(rows: list[Row]) -> list[tuple[str, str]]:
    """(id, reason) of rows after decoding; the reason of a good one is empty."""
    table = pa.table({
        "image": pa.array([row.image for row in rows], pa.binary()),
        "reason": pa.array([row.reason or "" for row in rows], pa.string()),
        "id": pa.array([row.id for row in rows], pa.string()),  # ids are text
    })  # fmt: skip
    _, reasons = decode_rows(table, PREPROCESSING, 50_000_000)
    return list(zip(table["id"].to_pylist(), reasons, strict=True))


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_good_images_are_used_and_bad_ones_rejected(kind: str, tmp_path: Path) -> None:
    ledger = WRITERS[kind](tmp_path / "set", 60, 120, 0)
    source = open_source(kind, str(tmp_path / "set"), "train", class_names=CLASSES)
    rows = [row for shard in source.shards() for row in source.read(shard)]
    outcome = decoded(rows)
    used = [row_id for row_id, reason in outcome if not reason]
    result = account(ledger, used, [pair for pair in outcome if pair[1]])
    assert result.is_right, (result.lost, result.accepted, result.unreported, result.strange)
    good = set(used)
    assert source.fetch(used) == {row.id: row.image for row in rows if row.id in good}
    assert all(len(reason) <= 300 for _, reason in outcome)


def test_equal_hostile_sets_give_equal_rows_and_reasons(tmp_path: Path) -> None:
    ledgers = [WRITERS["webdataset"](tmp_path / name, 10, 40, 1) for name in "ab"]
    assert ledgers[0] == ledgers[1]
    first, second = (
        [
            row
            for source in [open_source("webdataset", str(tmp_path / name), "train", num_classes=3)]
            for shard in source.shards()
            for row in source.read(shard)
        ]
        for name in "ab"
    )
    assert first == second
    assert decoded(first) == decoded(second)


def test_large_images_are_converted_in_bands_to_the_same_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    encoded = [good_image(rng) for _ in range(60)]
    whole = [decode(content, PREPROCESSING) for content in encoded]
    monkeypatch.setattr(images, "BAND_PIXELS", 300)
    for content, pixels in zip(encoded, whole, strict=True):
        np.testing.assert_array_equal(decode(content, PREPROCESSING), pixels)
