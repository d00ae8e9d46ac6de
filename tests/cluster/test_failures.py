"""An error ends the work at once, in its own words; only deaths are worth another try."""

import os
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest
import ray.data as rd
import torch
import torch.distributed as dist
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
)
from upath import UPath

from raydd.cluster.failures import follows_death
from raydd.cluster.fit import fit, rank_and_world
from raydd.cluster.pool import run_units
from raydd.cluster.tasks import run_many
from raydd.data.sources import open_source
from raydd.engine.passes.feed import encoded_rows, map_actors, mapped_rows
from raydd.engine.passes.stream import run_pass
from raydd.errors import Stopped, exit_code, known_trouble
from small_engine import resources

pytestmark = pytest.mark.usefixtures("by_value")

FULL = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 7.79 GiB"
SENTENCE = (
    f"memory is full ({FULL}): use smaller batches, fewer workers or more memory. "
    "What is finished is kept; mend it and run the same command to continue."
)


def note(folder: str, rank: int) -> int:
    """Note a start; how many there were of this rank."""
    with Path(folder, f"starts-{rank}").open("a") as file:
        file.write("x")
    return Path(folder, f"starts-{rank}").stat().st_size


def full(arguments):
    """A loop of which one worker finds its GPU full while the other waits for it."""
    rank, _ = rank_and_world()
    note(arguments["folder"], rank)
    if rank == 1:
        raise torch.OutOfMemoryError(FULL)
    dist.all_reduce(torch.ones(1))


def dying(arguments):
    """A loop of which one worker dies at first while the other waits for it."""
    rank, world = rank_and_world()
    if note(arguments["folder"], rank) == 1 and rank == 1:
        time.sleep(1)  # Ray Train gives up where a worker dies as it starts
        os.kill(os.getpid(), signal.SIGKILL)
    total = torch.ones(1)
    dist.all_reduce(total)
    return float(total), world


def alone(arguments):
    """A loop that says where it is."""
    return os.getpid(), rank_and_world(), torch.get_num_threads(), dist.is_initialized()


def fail(job):
    """A job, a unit or a batch for which the memory does not suffice."""
    raise torch.OutOfMemoryError(FULL)


class Full:
    """An actor of a pass."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        fail(batch)
        return batch


def load(job):
    """What does a unit of a pool."""
    return fail


class Unloadable(Full):
    """An actor that has no room for its network."""

    def __init__(self, folder: str) -> None:
        Path(folder, f"start-{os.getpid()}").touch()
        fail(folder)


def through_a_pass():
    rows = rd.from_items([{"row": 1}], override_num_blocks=1)
    list(map_actors(rows, Full, (), 8, resources()).iter_batches(batch_size=None))


def test_an_error_in_a_training_ends_it_at_its_first_start(ray4, tmp_path):
    with pytest.raises(torch.OutOfMemoryError) as caught:
        fit(full, {"folder": str(tmp_path)}, resources(2), UPath(tmp_path))
    assert known_trouble(caught.value) == SENTENCE
    assert Path(tmp_path, "starts-1").read_text() == "x"


@pytest.mark.slow
def test_a_death_in_a_training_starts_its_group_again(ray4, tmp_path):
    found = fit(dying, {"folder": str(tmp_path)}, resources(2), UPath(tmp_path))
    assert found == (2.0, 2)
    assert Path(tmp_path, "starts-1").read_text() == "xx"


def test_one_worker_is_a_task_without_a_group(ray4, tmp_path):
    pid, ranks, threads, has_group = fit(alone, {}, resources(1), UPath(tmp_path))
    assert pid != os.getpid()
    assert (ranks, threads, has_group) == ((0, 1), 1, False)


def test_no_worker_is_this_process(tmp_path):
    assert fit(alone, {}, resources(0), UPath(tmp_path))[0] == os.getpid()


@pytest.mark.parametrize(
    "act",
    [
        lambda: run_many(fail, [1, 2], resources()),
        lambda: run_units(load, None, [1, 2], resources(1)),
        through_a_pass,
    ],
    ids=["task", "pool", "pass"],
)
def test_a_full_gpu_is_told_in_torchs_words(ray4, act, capsys):
    assert exit_code(act) == 1
    assert capsys.readouterr().err == f"raydd: {SENTENCE}\n"


def test_a_pass_is_not_begun_again_for_an_actor_that_cannot_load(ray4, tmp_path):
    source = open_source("digits", "", "train")

    def flow(shards):
        rows = encoded_rows(source, shards)
        return map_actors(rows, Unloadable, (str(tmp_path),), 8, resources())

    with pytest.raises(ActorDiedError) as caught:
        run_pass(UPath(tmp_path / "pass"), source, flow, 0.0)
    assert known_trouble(caught.value) == SENTENCE
    assert len(list(tmp_path.glob("start-*"))) == 1


LOSSES = [
    ActorUnavailableError("Socket closed", None),  # its node was killed a moment ago
    NodeDiedError("gone"),
    ObjectLostError("00", None, ""),  # a block that lay there
    OutOfMemoryError("the node is low on memory"),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_pass_goes_on_whatever_ray_says_of_a_loss(ray4, tmp_path, loss):
    source, losses = open_source("digits", "", "train"), [loss]

    def flow(shards):
        if losses:
            raise losses.pop()
        return mapped_rows(source, shards, lambda table: table.drop_columns(["image"]))

    assert run_pass(UPath(tmp_path), source, flow, 0.0)["rows"] == 1442
    assert follows_death(loss)


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: out of memory",
    ],
)
def test_libraries_of_a_gpu_have_words_of_their_own(said):
    error = RuntimeError(f"{said}\nCUDA kernel errors might be reported later.")
    assert known_trouble(error).startswith(f"memory is full ({said}): use smaller batches")


def test_other_errors_keep_their_traceback():
    assert known_trouble(RuntimeError("CUDA error: an illegal memory access")) is None


@pytest.mark.parametrize(
    ("error", "is_death"),
    [
        (ValueError("a mistake"), False),
        (torch.OutOfMemoryError(FULL), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ActorDiedError(), True),
        (OutOfMemoryError("the node is low on memory"), True),
        (dist.DistBackendError("NCCL communicator was aborted"), True),
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"), True),
    ],
)
def test_deaths_are_told_from_errors(error, is_death):
    assert follows_death(error) is is_death


@pytest.mark.parametrize(
    ("signal_error", "code", "name"),
    [(Stopped(), 143, "SIGTERM"), (KeyboardInterrupt(), 130, "SIGINT")],
)
def test_a_signal_that_meets_ray_s_c_code_is_said_as_any_other(signal_error, code, name, capsys):
    """Python turns an exception that C code forgets into a SystemError: so it was in ray.wait."""

    def act() -> None:
        raise SystemError("wait returned a result with an exception set") from signal_error

    assert exit_code(act) == code
    assert f"raydd: stopped by {name}. What is finished is kept" in capsys.readouterr().err
