"""Data and storage on an object store: the S3 protocol, spoken by a server on this machine."""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

import raydd
from ray_nodes import free_port
from raydd.data.distilled import read_distilled
from raydd.data.sources import open_source
from raydd.engine.cost import Cost
from raydd.errors import Refused
from raydd.run import main
from raydd.store.artifacts import Stages
from raydd.store.files import open_storage
from raydd.store.journal import Journal
from raydd.store.progress import Progress
from raydd.store.tables import part_files
from raydd.store.units import PART
from small_sets import all_rows, png, write_imagefolder, write_parquet, write_tar

pytest.importorskip("moto.server", reason="needs moto[server]")
s3fs = pytest.importorskip("s3fs", reason="needs s3fs")

REPOSITORY = Path(__file__).parent.parent
TIMEOUT = 600  # seconds, of one run
UNITS = 10
SMALL = [
    "dataset=parquet", "dataset.num_classes=10", "dataset.resolution=16", "dataset.resize=16",
    "dataset.flip=0", f"method.ipc={UNITS}", "method.boundaries=[]", "method.synthesis.steps=20",
    "method.synthesis.batch_size=10", "teacher.model.width=8", "teacher.recipe.epochs=2",
    "teacher.min_top1=0", "protocol.seeds=1", "protocol.recipe.epochs=1",
    "protocol.architectures=[{name: convnet2, width: 8}]", "name=small",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An empty store; this process and those it starts find it by their environment."""
    port = free_port()
    log = tmp_path_factory.mktemp("moto") / "log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        for name, value in environment(port).items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # clients of another endpoint
        wait_for(lambda: answers(port), process, log)
        yield
        s3fs.S3FileSystem.clear_instance_cache()
    process.terminate()
    process.wait()


def environment(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.fixture
def fs(server):
    """A client that asks the server every time."""
    return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)


@pytest.fixture
def bucket(fs, request) -> str:
    """Address of a bucket of this test's own."""
    name = f"b{hashlib.sha256(request.node.name.encode()).hexdigest()[:16]}"
    fs.mkdir(name)
    return f"s3://{name}"


def write_digits(root: Path) -> None:
    """The embedded digits as a parquet data set."""
    for split in ("train", "test"):
        source = open_source("digits", "", split)
        rows = all_rows(source)
        path = root / "data" / f"{split}-00000-of-00001.parquet"
        labels, images = [row.class_index for row in rows], [row.image for row in rows]
        write_parquet(path, labels, images, names=source.class_names, row_group=100)


class Gate:
    """A way to the server that can be shut: connections are refused, those that stand are cut."""

    def __init__(self, server: int) -> None:
        self.server, self.port = server, 0
        self.ends: list[socket.socket] = []
        self.open()

    def __enter__(self) -> "Gate":
        return self

    def __exit__(self, *error: object) -> None:
        self.shut()

    def open(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def shut(self) -> None:
        for end in [self.listener, *self.ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.ends.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.server))
            self.ends += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                target.sendall(content)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def start():
    """Starts runs whose output goes to a file; ends what a failed test leaves behind."""
    begun = []

    def begin(log: Path, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "raydd.run", *SMALL, *words]
        with log.open("a") as file:
            begun.append(subprocess.Popen(command, stdout=file, stderr=file, cwd=REPOSITORY))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def finish(process: subprocess.Popen, log: Path) -> None:
    assert process.wait(TIMEOUT) == 0, log.read_text()


def units(fs: Any, storage: str) -> dict[str, tuple[Any, ...]]:
    """Finished units of the synthesis, and when each was written."""
    found = fs.glob(f"{storage}/stages/synthesize-*/parts/*.parquet", detail=True)
    return {name: (entry["ETag"], entry["LastModified"]) for name, entry in found.items()}


def product(storage: str) -> dict[str, str]:
    """The sha256 of every file of images, compared with the files themselves."""
    files = read_distilled(f"{storage}/small/distilled", verify=True).info.files
    return {name: file["sha256"] for name, file in files.items() if name.startswith("data/")}


def fetch_stages(fs: Any, storage: str, local: Path) -> None:
    """Copy the finished stages, to save their time; the synthesis shall be made again."""
    fs.get(f"{storage}/stages", str(local / "stages"), recursive=True)
    for folder in local.glob("stages/synthesize-*"):
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(900)  # seconds; runs need one on a quiet machine
def test_a_killed_run_is_continued_and_makes_the_bytes_of_a_local_one(
    ray4, fs, bucket, start, tmp_path
):
    data, storage, log = tmp_path / "digits", f"{bucket}/runs", tmp_path / "log"
    write_digits(data)
    fs.put(str(data), f"{bucket}/digits", recursive=True)
    words = (f"dataset.root={bucket}/digits", f"storage={storage}", "export=imagefolder")

    killed = start(log, *words)
    wait_for(lambda: len(units(fs, storage)) >= 2, killed, log)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    before = units(fs, storage)
    assert len(before) < UNITS, "nothing was left to do"

    continued = start(log, *words)
    calm = tmp_path / "runs"
    fetch_stages(fs, storage, calm)
    assert main([*SMALL, f"dataset.root={data}", f"storage={calm}", "evaluate=false"]) == 0
    finish(continued, log)

    after = units(fs, storage)
    assert len(after) == UNITS
    assert all(after[name] == before[name] for name in before), "a finished unit was made again"
    assert product(storage) == product(str(calm))
    assert len(raydd.load(f"{storage}/small/distilled")) == 10 * UNITS
    assert len(fs.glob(f"{storage}/small/imagefolder/*/*.png")) == 10 * UNITS
    assert fs.isfile(f"{storage}/small/report.html")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_share_a_stage_on_the_store(fs, bucket, start, tmp_path):
    write_digits(tmp_path / "digits")
    fs.put(str(tmp_path / "digits"), f"{bucket}/digits", recursive=True)
    storage, log = f"{bucket}/runs", tmp_path / "log"
    words = (f"dataset.root={bucket}/digits", f"storage={storage}", "cluster.num_workers=2")
    words += ("teacher.recipe.batch_size=128",)  # enough for both
    finish(start(log, *words, "evaluate=false"), log)
    assert len(units(fs, storage)) == UNITS
    assert len(raydd.load(f"{storage}/small/distilled", verify=True)) == 10 * UNITS


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_store_that_is_out_of_reach_for_a_while_costs_nothing_but_time(
    fs, bucket, start, tmp_path, monkeypatch
):
    with Gate(int(os.environ["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{gate.port}")
        storage, log = f"{bucket}/runs", tmp_path / "log"
        words = ("dataset=digits", f"storage={storage}", "evaluate=false")
        more = ("cluster.unit_workers=1", "method.synthesis.steps=150")
        process = start(log, *words, *more)
        wait_for(lambda: len(units(fs, storage)) >= 2, process, log)
        gate.shut()
        time.sleep(25)
        gate.open()
        finish(process, log)
        assert len(units(fs, storage)) == UNITS

        process = start(log, *words, *more, "name=again", "seed=1")
        wait_for(lambda: len(units(fs, storage)) >= UNITS + 2, process, log)
        gate.shut()
        assert process.wait(TIMEOUT) == 1, log.read_text()
        assert "raydd: the storage is out of reach" in log.read_text()
        assert "Traceback" not in log.read_text()
        before = units(fs, storage)
        gate.open()
        finish(start(log, *words, *more, "name=again", "seed=1"), log)
    after = units(fs, storage)
    assert len(after) == 2 * UNITS
    assert all(after[name] == before[name] for name in before), "a finished unit was made again"


def test_parts_that_other_processes_write_are_seen(fs, bucket):
    def work(folder: UPath) -> dict[str, Any]:
        (folder / "parts" / "0.parquet").write_bytes(b"ours")
        assert PART.found(folder) == {"0"}
        fs.pipe(f"{folder}/parts/1.parquet", b"a worker's")
        parts = [path.name for path in part_files(folder)]
        return {"parts": parts, "done": sorted(PART.found(folder))}

    stages = Stages(UPath(bucket), Progress())
    made = stages.run(
        "synthesize", work, inputs=[], config=None, seed=0, cost=Cost, expected=dict, done=[PART]
    )
    assert made.summary == {"parts": ["0.parquet", "1.parquet"], "done": ["0", "1"]}


def test_no_event_is_lost_between_writers(fs, bucket):
    def write(journal: Journal, stage: str) -> None:
        for epoch in range(120):
            journal.log(stage, epoch=epoch)

    writers = [
        threading.Thread(target=write, args=(Journal(f"{bucket}/metrics.jsonl"), stage))
        for stage in ("student", "judge")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = [line for path in fs.glob(f"{bucket}/metrics/*.jsonl")
             for line in fs.cat(path).splitlines()]  # fmt: skip
    assert len(lines) == len(set(lines)) == 240


@pytest.mark.parametrize("kind", ["imagefolder", "webdataset"])
def test_a_source_reads_alike_on_disk_and_on_the_store(fs, bucket, tmp_path, kind):
    if kind == "imagefolder":
        write_imagefolder(tmp_path / "data")
    else:
        members = [(f"{i}.{end}", content) for i in range(5)
                   for end, content in (("png", png(i)), ("cls", b"%d" % (i % 3)))]  # fmt: skip
        write_tar(tmp_path / "data" / "train-0.tar", members)
        (tmp_path / "data" / "classes.txt").write_text("ant\nbee\ncat\n")
    fs.put(str(tmp_path / "data"), f"{bucket}/data", recursive=True)
    disk = open_source(kind, str(tmp_path / "data"), "train")
    store = open_source(kind, f"{bucket}/data", "train")
    rows = all_rows(disk)
    ids = [row.id for row in rows[::2]]
    assert all_rows(store) == rows
    assert store.fetch(ids) == disk.fetch(ids)
    # each is known by what its file system says of the files, and by nothing that moves
    assert store.fingerprint != disk.fingerprint
    for source, root in ((disk, str(tmp_path / "data")), (store, f"{bucket}/data")):
        assert open_source(kind, root, "train").fingerprint == source.fingerprint


def test_a_misspelt_bucket_is_refused_and_not_made(fs, bucket):
    assert str(open_storage(f"{bucket}/runs")).endswith("/runs")
    with pytest.raises(Refused, match="names the bucket 'misspelt', which does not exist"):
        open_storage("s3://misspelt/runs")
    assert not fs.exists("misspelt")


def test_a_root_without_credentials_gets_one_sentence(server, bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    s3fs.S3FileSystem.clear_instance_cache()  # the client in hand knows the old ones
    with pytest.raises(ValueError, match=r"may not be read: .* for S3: set AWS_PROFILE"):
        open_source("parquet", f"{bucket}/digits", "train")
    s3fs.S3FileSystem.clear_instance_cache()
