"""Passes over real images: score tables, quarantine, resume, independence from workers."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import ray.data as rd
import torch
from PIL import Image
from ray import cloudpickle
from torch.utils._python_dispatch import TorchDispatchMode
from upath import UPath

from ray_nodes import ancestors, processes
from raydd.cluster.ahead import apply
from raydd.data.rows import Reader, try_rows
from raydd.data.sources import open_source
from raydd.engine.passes.decode import class_counts, place_images, stream_pixels
from raydd.engine.passes.dynamics import DynamicsTable, TrainingDynamics, margins
from raydd.engine.passes.score import ask, largest, score, score_teacher
from raydd.engine.passes.stream import DataConfig
from raydd.engine.training.loop import Training, _State, train_network
from raydd.engine.training.stage import new_job
from raydd.engine.training.teacher import TeacherConfig, squeeze
from raydd.errors import Refused
from raydd.models.preprocess import normalise
from raydd.ops.recipe import Recipe
from raydd.store.checkpoint import load_checkpoint
from raydd.store.images import load_pixels
from raydd.store.tables import part_files, read_table
from small_engine import PREPROCESSING, RECIPE, TINY, make_engine
from small_sets import write_tar


@pytest.fixture(scope="module")
def squeezed(ray4, tmp_path_factory):
    engine = make_engine(tmp_path_factory.mktemp("squeezed"))
    return engine, squeeze(engine)


def table_of(artifact):
    return pa.concat_tables(read_table(path) for path in part_files(artifact.folder))


def test_score_table_equals_a_plain_forward(squeezed):
    engine, teacher = squeezed
    table = table_of(score_teacher(engine, teacher))
    (folder,) = place_images(engine, PREPROCESSING).folders
    pixels = load_pixels(UPath(folder), 16)
    network, _ = load_checkpoint(teacher.folder)
    with torch.no_grad():
        logits = network.eval()(normalise(pixels.images, PREPROCESSING.mean, PREPROCESSING.std))
    assert table["id"].to_pylist() == list(pixels.ids)
    assert table["class_index"].to_pylist() == pixels.labels.tolist()
    true = logits.gather(1, pixels.labels[:, None])[:, 0].numpy()
    np.testing.assert_allclose(table["true_logit"].to_numpy(), true, rtol=1e-3, atol=1e-3)
    agree = table["prediction"].to_numpy() == logits.argmax(1).numpy()
    assert agree.mean() > 0.999
    probability = logits.softmax(1).gather(1, pixels.labels[:, None])[:, 0].numpy()
    np.testing.assert_allclose(table["true_probability"].to_numpy(), probability, atol=1e-3)


def test_a_squeezed_network_s_table_tells_what_it_forgot(squeezed):
    engine, teacher = squeezed
    told = table_of(score_teacher(engine, teacher))["forgetting"].to_numpy()
    # two epochs: an image was forgotten at most once, or never learned; every image was met
    assert set(np.unique(told)) <= {0, 1, RECIPE.epochs}
    assert 0.1 < (told == 0).mean() < 1


class Noted(TrainingDynamics):
    """Keeps what it is told, too."""

    def __init__(self):
        super().__init__()
        self.told = defaultdict(list)

    def visit(self, places, logits, labels):
        super().visit(places, logits, labels)
        right = (logits.argmax(1) == labels).tolist()
        for place, *seen in zip(places, right, margins(logits, labels).tolist(), strict=True):
            self.told[int(place)].append(seen)


def test_a_training_notes_what_a_recount_finds_also_after_a_kill(squeezed, tmp_path):
    engine, _ = squeezed
    real = place_images(engine, PREPROCESSING)

    def job(name):
        (tmp_path / name).mkdir(exist_ok=True)
        made = new_job(engine, TINY, replace(RECIPE, epochs=4), "squeeze", ("recount",))
        more = {"images": real.folders, "num_images": real.count, "notes_dynamics": True}
        return replace(made, folder=str(tmp_path / name), **more)

    training = Training(job("calm"), 0, 1)
    training.dynamics = noted = Noted()
    training.run()
    places = np.array(sorted(noted.told))
    assert len(places) == real.count
    found = DynamicsTable(UPath(tmp_path / "calm")).lookup(places >> 32, places & 0xFFFFFFFF)
    for at, place in enumerate(places.tolist()):
        right, margin = zip(*noted.told[place], strict=True)
        events = sum(before and not after for before, after in pairwise(right))
        assert found["forgetting"][at] == (events if any(right) else 4)
        assert found["aum"][at] == pytest.approx(np.mean(margin), rel=1e-5, abs=1e-5)
    killed = Training(job("killed"), 0, 1)
    for epoch in range(2):
        killed._epoch(_State(epoch=epoch))
    killed._save(_State(epoch=2))
    train_network(job("killed"))
    calm = sorted((tmp_path / "calm" / "forgetting").iterdir())
    again = sorted((tmp_path / "killed" / "forgetting").iterdir())
    assert [path.read_bytes() for path in calm] == [path.read_bytes() for path in again]


@pytest.mark.parametrize("classes", [5, 2048, 2100, 21841])
def test_the_largest_logit_is_that_of_argmax(classes):
    logits = torch.randn(40, classes, generator=torch.Generator().manual_seed(classes))
    logits[1] = 0  # all are equal
    logits[2, [classes - 1, 1]] = 9.0
    logits[3, -1] = 9.0
    logits[4, classes // 2] = torch.inf
    assert torch.equal(largest(logits), logits.argmax(1))
    labels = torch.arange(40) % classes
    rank = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert ask(logits, labels)[3].tolist() == rank.tolist()


@pytest.mark.parametrize(("device", "parts"), [("meta", 1), ("cpu", 4)])
def test_rows_of_many_classes_are_cut_for_the_caches_of_cpus_alone(device, parts):
    calls = []

    class Counted(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            calls.append(operation is torch.ops.aten._softmax.default)
            return operation(*args, **(kwargs or {}))

    with Counted():
        ask(torch.zeros(96, 21841, device=device), torch.zeros(96, dtype=int, device=device))
    assert sum(calls) == parts


def test_the_error_norm_is_that_of_el2n():
    drawn = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) * 4
    labels = torch.arange(40) % 5
    odds = np.exp(drawn.double().numpy())
    error = odds / odds.sum(1, keepdims=True) - np.eye(5)[labels]
    expected = np.sqrt((error**2).sum(1))
    answers = ask(drawn, labels, error_norm=True)
    np.testing.assert_allclose(answers[4], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(answers[:4], ask(drawn, labels))


def test_a_table_with_the_error_norm_is_a_stage_of_its_own(squeezed):
    engine, teacher = squeezed
    plain, more = (score(engine, teacher, "teacher", error_norm=flag) for flag in (False, True))
    assert plain.key != more.key
    one, two = table_of(plain), table_of(more)
    assert two.drop_columns(["error_norm"]).equals(one)
    # of an image whose true class has all but nothing, and of one that has all but everything
    norm, probability = two["error_norm"].to_numpy(), two["true_probability"].to_numpy()
    assert (norm >= 1 - probability - 1e-6).all()
    assert (norm <= np.sqrt(2) * (1 - probability) + 1e-6).all()


def test_scores_and_selection_are_equal_for_batches_of_1_and_32_and_for_1_and_2_workers(
    squeezed, tmp_path
):
    _, teacher = squeezed
    tables = []
    for name, batch, parallel in (("a", 1, 1), ("b", 32, 2)):
        data = DataConfig(score_batch=batch, memory_limit_mb=0)
        engine = make_engine(tmp_path / name, parallel=parallel, data=data)
        tables.append(table_of(score_teacher(engine, teacher)))
    assert tables[0]["id"].equals(tables[1]["id"])
    assert tables[0]["prediction"].equals(tables[1]["prediction"])


@pytest.mark.slow
def test_a_pass_continues_with_the_shards_that_are_missing(squeezed, tmp_path):
    _, teacher = squeezed
    engine = make_engine(tmp_path)
    table = score_teacher(engine, teacher)
    files = part_files(table.folder)
    assert len(files) > 1
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    (table.folder / "manifest.json").unlink()
    files[0].unlink()
    again = score_teacher(make_engine(tmp_path), teacher)  # an engine remembers what it finished
    after = {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in part_files(again.folder)
    }
    assert {name: content for name, (content, _) in after.items()} == {
        n: c for n, (c, _) in before.items()
    }
    assert [name for name in after if after[name][1] != before[name][1]] == [files[0].name]


def encoded(size=20, kind="PNG"):
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(size).integers(0, 255, (size, size, 3), np.uint8)).save(
        sink, kind
    )
    return sink.getvalue()


@pytest.fixture
def folder_with_broken_images(tmp_path):
    root = tmp_path / "real"
    for label in ("cat", "dog"):
        (root / "train" / label).mkdir(parents=True)
        for i in range(6):
            (root / "train" / label / f"{i}.png").write_bytes(encoded(20 + i))
    broken = {
        "cat/truncated.jpg": encoded(40, "JPEG")[:500],
        "cat/text.jpg": b"this is no image",
        "dog/empty.png": b"",
        "dog/bomb.png": encoded(60),
    }
    for name, content in broken.items():
        (root / "train" / name).write_bytes(content)
    return open_source("imagefolder", str(root), "train"), set(broken)


def test_broken_images_are_quarantined_with_a_reason(squeezed, tmp_path, folder_with_broken_images):
    source, broken = folder_with_broken_images
    data = DataConfig(max_rejected=0.5, max_pixels=50 * 50)
    engine = make_engine(tmp_path / "run", source=source, data=data)
    _, teacher = squeezed
    table = score(engine, teacher, "student")
    rejected = read_table(table.folder / "rejected.parquet").to_pydict()
    assert set(rejected["id"]) == broken
    assert all(len(reason) > 5 for reason in rejected["reason"])
    assert table.summary["rows"] == 12
    assert table.summary["rejected"] == 4
    assert sum(table.summary["reasons"].values()) == 4


def test_too_many_broken_images_stop_the_run(squeezed, tmp_path, folder_with_broken_images):
    source, _ = folder_with_broken_images
    engine = make_engine(
        tmp_path / "run", source=source, data=DataConfig(max_rejected=0.1, max_pixels=50 * 50)
    )
    with pytest.raises(
        Refused, match=r"4 of 16 training images are broken, more than data.max_rejected=0.1"
    ):
        score(engine, squeezed[1], "student")


def test_a_teacher_that_knows_nothing_is_refused(ray4, tmp_path):
    recipe = Recipe(epochs=1, batch_size=2000, learning_rate=1e-9)
    engine = make_engine(tmp_path, teacher=TeacherConfig(TINY, recipe))
    with pytest.raises(Refused, match="class order or preprocessing most likely differs"):
        score_teacher(engine, squeeze(engine))


@pytest.mark.slow
def test_a_set_above_the_memory_limit_is_streamed_into_two_workers(ray4, tmp_path):
    recipe = replace(RECIPE, batch_size=128)  # for each of two workers the least
    engine = make_engine(
        tmp_path,
        num_workers=2,
        data=DataConfig(memory_limit_mb=0),
        teacher=TeacherConfig(TINY, recipe),
    )
    teacher = squeeze(engine)
    assert teacher.summary["workers"] == [2]
    assert teacher.summary["top1_last"] > 0.3
    decoded = list((tmp_path / "stages").glob("decode-*"))
    assert len(decoded) == 1, "only the test split may be decoded"
    met = pa.concat_tables(read_table(path) for path in (teacher.folder / "forgetting").iterdir())
    count = int(class_counts(engine).sum())
    # two epochs of whole batches on two ranks, gathered by one writer: no image stands there twice
    assert count - 4 * recipe.batch_size <= met.num_rows <= count
    assert set(met["forgetting"].to_pylist()) <= {0, 1, RECIPE.epochs}
    assert np.isfinite(met["aum"].to_numpy()).all()


def test_classes_of_a_source_that_cannot_tell_are_counted_by_a_pass(ray4, tmp_path):
    members = []
    for i, label in enumerate([0, 1, 1, 2, 1]):
        members += [(f"{i}.png", encoded(20)), (f"{i}.cls", str(label).encode())]
    write_tar(tmp_path / "real" / "train" / "0.tar", members)
    source = open_source("webdataset", str(tmp_path / "real"), "train", num_classes=3)
    assert source.class_counts() is None
    engine = make_engine(tmp_path / "run", source=source)
    assert class_counts(engine).tolist() == [1, 3, 1]


@pytest.mark.slow
def test_a_killed_scorer_costs_a_restart_and_changes_nothing(squeezed, tmp_path):
    _, teacher = squeezed
    data = DataConfig(score_batch=1, memory_limit_mb=0)
    calm = table_of(score(make_engine(tmp_path / "a", data=data), teacher, "x"))
    killed: list[int] = []

    def kill_one_scorer():
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            killed.extend(scorers()[:1])
            time.sleep(0.05)
        time.sleep(0.3)  # let it score something first
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one_scorer)
    killer.start()
    table = score(make_engine(tmp_path / "b", data=data), teacher, "x")
    killer.join()
    assert killed
    assert table_of(table).equals(calm)


def scorers() -> list[int]:
    """Processes of this session's scoring actors, by the title that Ray gives them."""
    titles = processes()  # of every run on this machine
    return [pid for pid in titles if "Scorer" in titles[pid] and os.getpid() in ancestors(pid)]


def test_processes_that_only_decode_never_import_torch(monkeypatch, tmp_path):
    """Torch is 300 MB in every one of them; a captured object of the engine would bring it."""
    sent = []

    class Recorder:
        def map_batches(self, function, **_):
            sent.append(function)
            return self

    monkeypatch.setattr(rd, "from_items", lambda *_, **__: Recorder())
    stream_pixels(make_engine(tmp_path), PREPROCESSING)
    assert len(sent) == 2
    code = (
        "import sys, ray.cloudpickle as c; c.loads(sys.stdin.buffer.read()); "
        "print('torch' in sys.modules)"
    )
    for function in (*sent, apply, try_rows, Reader.fetch):
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=cloudpickle.dumps(function),
            capture_output=True,
            check=True,
        )
        assert done.stdout.strip() == b"False"
