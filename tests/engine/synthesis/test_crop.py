"""The stage ``crop``: the observer's best crops of real images, whoever cuts them."""

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from upath import UPath

from raydd.data.rows import Reader, pixel_array
from raydd.data.sources import open_source
from raydd.engine.passes.score import score
from raydd.engine.selection.ranking import ANY
from raydd.engine.selection.select import select
from raydd.engine.synthesis.crop import crop
from raydd.engine.synthesis.tiles import CropConfig
from raydd.errors import Refused
from raydd.models.registry import ModelConfig, create_model
from raydd.ops.augment import crop_and_resize, resized_crop_boxes
from raydd.ops.seeds import generator
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import CheckpointCard, load_checkpoint, save_checkpoint
from raydd.store.tables import part_files, read_table, write_table
from small_engine import PREPROCESSING, TINY, make_engine
from small_sets import CLASSES, write_imagefolder

CONFIG = CropConfig(crops=3, batch=16, block=4)
IPC = 2
SIZES = [8, 12, 9, 20, 8, 10, 15, 8, 11, 9]  # pool of each digit; 2 images of 2 x 2 tiles take 8
DIGITS = tuple("0123456789")


def make_observer(folder, class_names=DIGITS, model=TINY, flat=False, order=None):
    """A checkpoint with random weights whose losses differ widely, or not at all."""
    torch.manual_seed(0)
    network = create_model(model, len(class_names), PREPROCESSING.resolution)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network(torch.randn(32, 3, 16, 16))  # running statistics of its own activations
    head = list(network.modules())[-1]
    with torch.no_grad():
        head.weight.mul_(0 if flat else 10)
        if order is not None:
            head.weight.copy_(head.weight[order].clone())
            head.bias.copy_(head.bias[order].clone())
    folder = UPath(folder)
    folder.mkdir(parents=True)
    save_checkpoint(folder, network, CheckpointCard(model, tuple(class_names), PREPROCESSING))
    return Artifact(folder, f"observer {folder}", stage="squeeze")


def make_selection(folder, ids):
    """A selection of the given ids, a list per class."""
    folder = UPath(folder)
    folder.mkdir(parents=True)
    labels = [label for label, names in enumerate(ids) for _ in names]
    names = [name for names in ids for name in names]
    table = pa.table({"class_index": pa.array(labels, pa.int32()), "id": names})
    write_table(folder / "selection.parquet", table)
    chosen = [len(names) for names in ids]
    return Artifact(folder, f"selection {folder}", {"chosen": chosen}, "select")


@pytest.fixture(scope="module")
def setting(ray4, tmp_path_factory):
    """Folder, observer and a pool that a real selection drew."""
    folder = tmp_path_factory.mktemp("rded")
    engine, observer = make_engine(folder), make_observer(folder / "observer")
    scores = score(engine, observer, "observer")
    return folder, observer, select(engine, [scores], ANY, SIZES, draw="pool")


@pytest.fixture(scope="module")
def calm(setting):
    folder, observer, pool = setting
    return crop(make_engine(folder), pool, observer, CONFIG, IPC)


def made_with(setting, **changes):
    folder, observer, pool = setting
    return crop(make_engine(folder), pool, observer, replace(CONFIG, **changes), IPC)


def rows(artifact, kind="parts"):
    files = sorted((artifact.folder / kind).glob("*.parquet"), key=lambda path: path.name)
    return pa.concat_tables(read_table(path) for path in files)


def pixels(artifact):
    return pixel_array(rows(artifact)["pixels"], PREPROCESSING.resolution)


def pool_ids(pool):
    table = read_table(pool.folder / "selection.parquet").to_pandas()
    return table.groupby("class_index")["id"].apply(list).tolist()


def digests(artifact):
    files = [path for kind in ("parts", "cells") for path in (artifact.folder / kind).iterdir()]
    return {
        f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_classes_of_any_size_give_their_own_images(setting, calm):
    _, _, pool = setting
    assert pool.summary["chosen"] == SIZES
    summary = {**calm.summary, "loss": None}
    assert summary == {
        "curriculum": 0,
        "slots": [0, IPC],
        "counts": [IPC] * 10,
        "block": 4,
        "loss": None,
    }
    images, cells = rows(calm).to_pylist(), rows(calm, "cells").to_pylist()
    places = [(label, slot) for label in range(10) for slot in range(IPC)]
    assert [(row["class_index"], row["slot"]) for row in images] == places
    assert {row["origin"] for row in images} == {"synthetic"}
    assert [(row["class_index"], row["slot"], row["cell"]) for row in cells] == [
        (*place, cell) for place in places for cell in range(4)
    ]
    ids = pool_ids(pool)
    assert all(row["id"] in ids[row["class_index"]] for row in cells)
    for image, first in zip(images, range(0, len(cells), 4), strict=True):
        assert image["id"] == "|".join(row["id"] for row in cells[first : first + 4])


def test_a_class_is_found_in_the_part_that_the_summary_names(calm):
    names = [f"class{first:05d}.parquet" for first in (0, 4, 8)]
    assert [path.name for path in part_files(calm.folder)] == names
    for label in range(10):
        first = label - label % calm.summary["block"]
        table = read_table(calm.folder / "parts" / f"class{first:05d}.parquet")
        assert label in table["class_index"].to_pylist()


def test_no_image_gives_two_crops(calm):
    ids = rows(calm, "cells")["id"].to_pylist()
    assert len(set(ids)) == len(ids) == 10 * IPC * 4


def see(crops, view):
    """What the observer sees of float crops [M, 3, 8, 8] in [0, 255], written out plainly."""
    mean = torch.tensor(PREPROCESSING.mean).view(3, 1, 1)
    std = torch.tensor(PREPROCESSING.std).view(3, 1, 1)
    crops = (crops / 255 - mean) / std
    if view == "upsampled":
        return F.interpolate(crops, size=(16, 16), mode="bilinear", align_corners=False)
    if view == "padded":
        frame = torch.zeros(len(crops), 3, 16, 16)
        frame[:, :, 4:12, 4:12] = crops
        return frame
    return crops


@pytest.mark.parametrize("view", ["padded", "native", "upsampled"])
def test_the_kept_crops_have_the_lowest_loss_of_their_image_and_class(setting, view):
    _, observer, pool = setting
    network, _ = load_checkpoint(observer.folder)
    network.eval()
    source = open_source("digits", "", "train")
    reader = Reader(source, replace(PREPROCESSING, resolution=32, resize=32), 10**6)
    made = rows(made_with(setting, score_view=view), "cells").to_pylist()
    for label in (0, 3):
        best = []
        for name in pool_ids(pool)[label]:
            image = torch.from_numpy(reader.fetch([name])).permute(0, 3, 1, 2).float()
            boxes = resized_crop_boxes(3, (0.08, 1.0), (1.0, 1.0), generator(0, "crop", name))
            crops = torch.cat([crop_and_resize(image, box[None], 8) for box in boxes])
            with torch.no_grad():
                losses = -network(see(crops, view)).log_softmax(1)[:, label]
            assert losses.max() - losses.min() > 1e-3  # the choice means something
            best.append((losses.min().item(), name, boxes[losses.argmin()].tolist()))
        best = sorted(best)[: IPC * 4]
        mine = [row for row in made if row["class_index"] == label]
        by_rank = sorted(mine, key=lambda row: row["cell"] * IPC + row["slot"])
        assert [row["id"] for row in by_rank] == [name for _, name, _ in best]
        for row, (loss, _, box) in zip(by_rank, best, strict=True):
            assert row["loss"] == pytest.approx(loss, rel=1e-4, abs=1e-5)
            assert [row[side] for side in ("top", "left", "height", "width")] == box


def test_the_summary_has_the_mean_loss_of_the_kept_crops(calm):
    losses = rows(calm, "cells")["loss"].to_numpy()
    assert calm.summary["loss"] == pytest.approx(losses.mean(dtype=np.float64), rel=1e-6)


@pytest.mark.parametrize(("tiles", "mapping"), [(1, "ranked"), (2, "ranked"), (4, "shuffled")])
def test_images_are_rebuilt_from_real_data_and_cells(setting, tmp_path, tiles, mapping):
    """From images decoded at f times the size, with the same margin around the centre crop."""
    _, observer, _ = setting
    pool = make_selection(tmp_path / "pool", [_train_ids(label)[:20] for label in range(10)])
    engine = replace(make_engine(tmp_path), preprocessing=replace(PREPROCESSING, resize=18))
    artifact = crop(engine, pool, observer, replace(CONFIG, tiles=tiles, mapping=mapping), 1)
    large = replace(PREPROCESSING, resolution=16 * tiles, resize=18 * tiles)
    reader = Reader(engine.train_source, large, 10**6)
    rebuilt, side = np.zeros((10, 16, 16, 3), np.uint8), 16 // tiles
    for row in rows(artifact, "cells").to_pylist():
        image = torch.from_numpy(reader.fetch([row["id"]]))
        box = torch.tensor([[row[name] for name in ("top", "left", "height", "width")]])
        cut = crop_and_resize(image.permute(0, 3, 1, 2).float().contiguous(), box, side)
        top, left = side * (row["cell"] // tiles), side * (row["cell"] % tiles)
        target = rebuilt[row["class_index"], top : top + side, left : left + side]
        target[:] = cut[0].round().permute(1, 2, 0).numpy()
    assert np.array_equal(rebuilt, pixels(artifact))
    assert rebuilt.std() > 20  # not blank


def _train_ids(label):
    source = open_source("digits", "", "train")
    found = (row for shard in source.shards() for row in source.read(shard))
    return [row.id for row in found if row.class_index == label]


def test_the_batch_size_decides_nothing(setting, calm):
    large = made_with(setting, batch=64)
    assert np.array_equal(pixels(large), pixels(calm))
    ours, theirs = rows(large, "cells"), rows(calm, "cells")
    assert ours.drop_columns(["loss"]).equals(theirs.drop_columns(["loss"]))
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [1, 3, 100])
def test_the_blocking_of_classes_decides_nothing(setting, calm, block):
    other = made_with(setting, block=block)
    assert len(part_files(other.folder)) == -(-10 // block)
    for kind in ("parts", "cells"):
        assert rows(other, kind).equals(rows(calm, kind))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_bytes(setting, calm, workers):
    folder, observer, pool = setting
    before = digests(calm)
    for path in [*part_files(calm.folder), calm.folder / "manifest.json"]:
        path.unlink()
    again = crop(make_engine(folder, num_workers=workers), pool, observer, CONFIG, IPC)
    assert digests(again) == before


def test_only_a_missing_part_is_made_again(setting, calm):
    folder, observer, pool = setting
    before = digests(calm)
    times = {path.name: path.stat().st_mtime_ns for path in part_files(calm.folder)}
    lost = part_files(calm.folder)[1]
    lost.unlink()
    (calm.folder / "cells" / lost.name).unlink()
    (calm.folder / "manifest.json").unlink()
    again = crop(make_engine(folder), pool, observer, CONFIG, IPC)
    assert digests(again) == before
    changed = [p.name for p in part_files(again.folder) if p.stat().st_mtime_ns != times[p.name]]
    assert changed == [lost.name]


def test_equal_losses_are_ordered_by_id(setting):
    folder, _, pool = setting
    flat = make_observer(folder / "flat", flat=True)
    made = crop(make_engine(folder), pool, flat, replace(CONFIG, tiles=1), 8)
    cells = rows(made, "cells").to_pandas()
    for label, names in enumerate(pool_ids(pool)):
        mine = cells[cells["class_index"] == label]
        assert mine["id"].tolist() == sorted(names)[:8]
        first = resized_crop_boxes(
            3, (0.08, 1.0), (1.0, 1.0), generator(0, "crop", sorted(names)[0])
        )
        assert mine[["top", "left", "height", "width"]].iloc[0].tolist() == first[0].tolist()


def test_one_tile_shows_the_observer_the_whole_image_in_every_view(setting):
    images = [pixels(made_with(setting, tiles=1, score_view=view)) for view in ("padded", "native")]
    assert np.array_equal(*images)


def test_random_crops_are_one_of_each_image_and_not_the_surest(setting, calm):
    made = made_with(setting, policy="random")
    cells = rows(made, "cells")
    ids = cells["id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert made.summary["loss"] > calm.summary["loss"] + 0.1
    losses = cells["loss"].to_numpy().reshape(10, IPC, 4).transpose(0, 2, 1).reshape(10, -1)
    assert (np.diff(losses) < 0).any(axis=1).mean() > 0.5  # in no order


@pytest.mark.parametrize(
    "changes", [{}, {"mapping": "shuffled"}, {"policy": "random"}], ids=lambda changes: str(changes)
)
def test_the_order_of_the_classes_and_of_the_pool_decides_nothing(setting, tmp_path, changes):
    write_imagefolder(tmp_path / "real", per_class=7)
    (tmp_path / "real" / "train" / "bee" / "03.png").unlink()
    made = []
    for order in ([0, 1, 2], [2, 0, 1]):
        names = tuple(CLASSES[i] for i in order)
        source = open_source("imagefolder", str(tmp_path / "real"), "train", class_names=names)
        folder = tmp_path / "".join(names)
        read = [row for shard in source.shards() for row in source.read(shard)]
        ids = [[row.id for row in read if row.class_index == label] for label in range(3)]
        ids = [names if order[0] else names[::-1] for names in ids]
        observer = make_observer(folder / "observer", names, order=order)
        selection = make_selection(folder / "selection", ids)
        engine, config = make_engine(folder, source=source), replace(CONFIG, **changes, block=2)
        artifact = crop(engine, selection, observer, config, 1)
        cells = rows(artifact, "cells").to_pandas()
        columns = ["cell", "id", "top", "left", "height", "width"]
        made.append(
            {
                name: (pixels(artifact)[i], cells.loc[cells["class_index"] == i, columns])
                for i, name in enumerate(names)
            }
        )
    for name in CLASSES:
        (image, cells), (other_image, other_cells) = made[0][name], made[1][name]
        assert np.array_equal(image, other_image)
        assert cells.to_numpy().tolist() == other_cells.to_numpy().tolist()
    assert not np.array_equal(made[0]["ant"][0], made[0]["bee"][0])


def refuse(setting, engine_folder, match, config=CONFIG, ipc=IPC, observer=None):
    _, usual, pool = setting
    engine = make_engine(engine_folder)
    with pytest.raises(Refused, match=match) as caught:
        crop(engine, pool, observer or usual, config, ipc)
    assert "\n" not in str(caught.value)
    assert not (UPath(engine_folder) / "stages").exists()  # before any work


def test_a_small_pool_is_refused_before_any_work(setting, tmp_path):
    match = r"Class 0 \(0\) has a pool of 8 images, but ipc=3 with 2 x 2 tiles needs 12.*lower ipc"
    refuse(setting, tmp_path, match, ipc=3)


def test_tiles_that_do_not_divide_the_image_are_refused(setting, tmp_path):
    refuse(setting, tmp_path, "3 x 3 tiles do not divide 16", replace(CONFIG, tiles=3))


def test_an_observer_of_other_classes_is_refused(setting, tmp_path):
    other = make_observer(tmp_path / "other", DIGITS[::-1])
    refuse(setting, tmp_path / "run", "class order of the observer", observer=other)


def test_an_observer_of_one_size_is_not_shown_another(setting, tmp_path):
    fixed = make_observer(tmp_path / "fixed", model=ModelConfig("convnet2", width=8))
    native = replace(CONFIG, score_view="native")
    refuse(setting, tmp_path / "run", "cannot be shown 8", native, observer=fixed)
    _, _, pool = setting
    crop(make_engine(tmp_path / "run"), pool, fixed, CONFIG, IPC)  # padded it can be


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"score_view": "large"}, "padded, native, upsampled"),
        ({"mapping": "sorted"}, "ranked, shuffled"),
        ({"policy": "highest_ce"}, "lowest_ce, random"),
        ({"tiles": 0}, "tiles must be at least 1"),
        ({"crops": 0}, "crops must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.5, 0.1)}, "crop_scale"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, match):
    with pytest.raises(ValueError, match=match):
        CropConfig(**changes)
