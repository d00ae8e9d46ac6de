"""Numbers of real images as torchvision and parquet readers count them; CCFS's index file."""

import json
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from raydd.data.distilled import DistilledInfo, DistilledRow
from raydd.data.distilled_writer import seal, write_images
from raydd.data.export import SELECTED, export_selected_indices
from raydd.data.image_numbers import image_numbers
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source, open_source
from small_sets import CLASSES, all_rows, picture, png, write_imagefolder, write_parquet, write_tar

PREPROCESSING = Preprocessing(12, 12, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def write_set(folder: Path, rows: list[DistilledRow]) -> Path:
    counts = write_images(
        folder, iter(rows), num_rows=len(rows), class_names=CLASSES, resolution=12
    )
    seal(folder, DistilledInfo(CLASSES, PREPROCESSING, counts, {}, {}, {"run": 0}, {}, {}))
    return folder


def real(label: int, slot: int, curriculum: int, row_id: str) -> DistilledRow:
    return DistilledRow(picture(slot), label, slot, curriculum, "real", row_id)


def test_folders_are_numbered_as_torchvision_does(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, per_class=3)
    for name in ("b-c/1.png", "b/2.png", "b/10.png", "Z.png", ".hidden.jpg", "a.gif"):
        path = tmp_path / "train" / "bee" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(0))
    (tmp_path / "train" / "bee" / "notes.txt").touch()
    theirs = [path for path, _ in ImageFolder(tmp_path / "train").samples]
    names = [str(Path(path).relative_to(tmp_path / "train")) for path in theirs]
    source = open_source("imagefolder", str(tmp_path), "train", class_names=CLASSES[::-1])
    assert image_numbers(source, names[::-1]) == list(range(len(names)))[::-1]
    with pytest.raises(ValueError, match=r"'bee/a\.gif' has no number: torchvision"):
        image_numbers(source, ["bee/a.gif"])


def test_parquet_rows_are_numbered_through_all_files(tmp_path: Path) -> None:
    for number, count in enumerate((5, 7, 2)):
        labels = [i % 3 for i in range(count)]
        write_parquet(tmp_path / "data" / f"train-{number}.parquet", labels, names=CLASSES)
    source = open_source("parquet", str(tmp_path), "train")
    ids = [row.id for row in all_rows(source)]
    assert image_numbers(source, ids) == list(range(14))
    assert image_numbers(source, ids[::-3]) == list(range(14))[::-3]
    with pytest.raises(ValueError, match="holds no image"):
        image_numbers(source, ["data/test-0.parquet#1"])


def test_the_digits_are_numbered_within_their_split() -> None:
    source = open_source("digits", "", "test")
    ids = [row.id for row in all_rows(source)]
    assert image_numbers(source, [ids[7], ids[300]]) == [7, 300]


def test_archives_have_no_numbers(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", [("a.png", png(0)), ("a.cls", b"0")])
    source = open_source("webdataset", str(tmp_path), "train", num_classes=3)
    with pytest.raises(
        ValueError, match=r"folders .* parquet files .* use the ids of ids\.parquet"
    ):
        image_numbers(source, [all_rows(source)[0].id])


@pytest.fixture
def source(tmp_path: Path) -> Source:
    write_imagefolder(tmp_path / "data", per_class=4)
    return open_source("imagefolder", str(tmp_path / "data"), "train")


def test_the_selection_is_written_as_ccfs_keeps_it(tmp_path: Path, source: Source) -> None:
    rows = [DistilledRow(picture(label), label, 0) for label in range(3)]
    rows += [real(label, 2, 2, f"{name}/00.png") for label, name in enumerate(CLASSES)]
    rows += [real(label, 1, 1, f"{name}/03.png") for label, name in enumerate(CLASSES)][::-1]
    folder = write_set(tmp_path / "set", rows)
    written = export_selected_indices(folder, source, tmp_path / SELECTED)
    assert written == json.loads((tmp_path / SELECTED).read_text())
    assert written["idx_selected"] == [3, 7, 11, 0, 4, 8]  # by curriculum, then class
    assert (written["ipc"], int(written["ipc"] * written["alpha"])) == (3, 1)


def test_the_share_gives_back_the_distilled_images(tmp_path: Path, source: Source) -> None:
    """CCFS cuts ipc * alpha to a whole number, and 100 * 0.29 is less than 29."""
    rows = [DistilledRow(picture(0), 0, slot) for slot in range(29)]
    rows += [real(0, slot, 1, "ant/00.png") for slot in range(29, 100)]
    folder = write_set(tmp_path / "set", rows)
    written = export_selected_indices(folder, source, tmp_path / SELECTED)
    assert int(written["ipc"] * written["alpha"]) == 29
    assert written["alpha"] == pytest.approx(0.29)


def test_a_set_without_real_images_has_no_indices(tmp_path: Path, source: Source) -> None:
    folder = write_set(tmp_path / "set", [DistilledRow(picture(0), 0, 0)])
    with pytest.raises(ValueError, match="holds no real images"):
        export_selected_indices(folder, source, tmp_path / SELECTED)
