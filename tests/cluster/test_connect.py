"""What a cluster's totals allow is said in numbers, before anything can hang."""

import os
import time
from dataclasses import replace

import pytest
import torch

from raydd.cluster.config import ClusterConfig
from raydd.cluster.gpus import wait_for_gpus, what_is_wrong
from raydd.cluster.resources import fitting_workers, resolve
from raydd.errors import Refused
from raydd.sweep.tune import fitting_trials

NODES = {"node:10.0.0.1": 1.0, "node:10.0.0.2": 1.0}


def test_too_many_workers_are_refused_with_the_number_that_fits():
    with pytest.raises(Refused, match=r"4 CPUs .* and 0 GPUs; use at most 3"):
        resolve(ClusterConfig(num_workers=4), {"CPU": 4})
    assert resolve(ClusterConfig(num_workers=3), {"CPU": 4}).num_workers == 3


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_a_head_without_cpus_says_that_no_worker_has_joined(workers):
    with pytest.raises(Refused, match="this cluster has 0 CPUs, but one must read"):
        resolve(ClusterConfig(num_workers=workers), {"node:10.0.0.1": 1.0})


def test_gpus_without_a_cpu_are_refused_with_the_numbers():
    with pytest.raises(Refused, match=r"has 2 GPUs, but 0 CPUs, and .* takes at least one"):
        resolve(ClusterConfig(), {"GPU": 2})


@pytest.mark.parametrize("gpus", [1, 2, 8])
def test_one_cpu_is_enough_beside_any_gpus_for_their_workers_hold_none(gpus):
    found = resolve(ClusterConfig(), {"CPU": 1, "GPU": gpus})
    assert (found.num_workers, found.device, found.parallel) == (gpus, "cuda", gpus)
    assert found.per_worker == {"GPU": 1}
    assert resolve(ClusterConfig(), {"CPU": 2}).per_worker == {"CPU": 1}


def test_what_would_compute_on_a_gpu_in_the_driver_is_a_worker_beside_it():
    found = resolve(ClusterConfig(num_workers=0), {"CPU": 4, "GPU": 2})
    assert (found.num_workers, found.unit_workers) == (1, 1)
    assert resolve(ClusterConfig(unit_workers=0), {"CPU": 4, "GPU": 2}).unit_workers == 1
    on_cpu = resolve(ClusterConfig(num_workers=0), {"CPU": 4})
    assert (on_cpu.num_workers, on_cpu.unit_workers) == (0, 0)
    by_default = resolve(ClusterConfig(), {"CPU": 4})
    assert (by_default.num_workers, by_default.unit_workers) == (0, None)


@pytest.mark.parametrize(
    ("config", "totals", "decoders"),
    [
        (ClusterConfig(), {"CPU": 64, "GPU": 8, **NODES}, 64),
        (ClusterConfig(threads_per_worker=8), {"CPU": 64, **NODES}, 57),  # seven actors hold one
        (ClusterConfig(), {"CPU": 64, **NODES}, 1),  # the actors hold the others
        (ClusterConfig(), {"CPU": 2, "GPU": 8}, min(2, os.cpu_count())),
        (ClusterConfig(), {"CPU": 2000, "GPU": 8}, os.cpu_count()),  # logical ones of a machine
    ],
)
def test_the_cpus_that_the_actors_of_a_pass_leave_decode(config, totals, decoders):
    found = resolve(config, totals)
    assert found.count_decoders() == decoders
    assert found.shared(2).count_decoders() == max(1, decoders // 2)


@pytest.mark.parametrize(
    ("asked", "batch", "workers"),
    [(8, 25, 1), (8, 127, 1), (8, 128, 2), (8, 1024, 8), (0, 1024, 0), (3, 256, 3)],
)
def test_a_training_has_no_more_workers_than_its_batch_has_64_images(asked, batch, workers):
    assert fitting_workers(asked, batch) == workers


def test_a_small_training_is_not_elastic():
    found = resolve(ClusterConfig(num_workers=8, min_workers=2), {"CPU": 9})
    assert found.for_batch(64).elastic is None
    assert (found.for_batch(64).num_workers, found.for_batch(256).elastic) == (1, (2, 4))


def test_a_run_says_on_what_it_is():
    gpus, cpus = {"CPU": 4, "GPU": 8}, {"CPU": 4}
    assert resolve(ClusterConfig(), gpus).describe() == "on 8 GPUs"
    cores = min(3, os.cpu_count())  # one of four is the readers'
    spread = resolve(ClusterConfig(threads_per_worker=cores), cpus)
    assert spread.describe() == "on CPUs"
    lone = replace(resolve(ClusterConfig(), cpus), parallel_cpu=8)
    about = "on 8 CPUs, of which a training uses 1: cluster.threads_per_worker"
    assert lone.describe() == about
    assert replace(lone, num_workers=8).describe() == "on CPUs"
    joined = replace(resolve(ClusterConfig(), cpus), grows=True)
    assert "no GPU now; cluster.use_gpu=true waits for one" in joined.describe()


@pytest.mark.parametrize(
    ("config", "totals", "lanes"),
    [
        (ClusterConfig(), {"CPU": 5}, 1),
        (ClusterConfig(), {"CPU": 16}, 3),
        (ClusterConfig(num_workers=6), {"CPU": 18}, 2),
        (ClusterConfig(num_workers=2), {"CPU": 64, "GPU": 8}, 4),
        (ClusterConfig(num_workers=0), {"CPU": 64, "GPU": 8}, 8),  # a GPU for each
    ],
)
def test_as_many_trials_run_at_once_as_never_wait_for_each_other(config, totals, lanes):
    assert fitting_trials(config, totals) == lanes


def test_a_cluster_too_small_for_one_trial_is_refused_with_the_numbers():
    with pytest.raises(Refused, match="has 4 CPUs, but a trial needs 5"):
        fitting_trials(ClusterConfig(), {"CPU": 4})


def test_a_cpu_is_left_to_the_readers_of_a_pass():
    """Actors that hold every CPU would wait for them without end, and without a word."""
    assert resolve(ClusterConfig(), {"CPU": 2.0}).parallel == 1
    with pytest.raises(Refused, match="has 1 CPUs, but one must read data while another computes"):
        resolve(ClusterConfig(), {"CPU": 1.0})


def test_an_elastic_training_starts_with_what_is_there():
    found = resolve(ClusterConfig(num_workers=8, min_workers=1), {"CPU": 4})
    assert (found.num_workers, found.elastic) == (3, (1, 8))
    assert resolve(ClusterConfig(num_workers=2), {"CPU": 4}).elastic is None


def test_an_elastic_training_is_refused_where_not_even_its_least_workers_fit():
    with pytest.raises(Refused, match=r"cluster.min_workers=4 asks for more .* use at most 3"):
        resolve(ClusterConfig(num_workers=8, min_workers=4), {"CPU": 4})


@pytest.mark.parametrize(("least", "most"), [(0, 2), (3, 2), (1, None)])
def test_the_least_workers_are_between_one_and_the_most(least, most):
    with pytest.raises(
        ValueError,
        match=f"min_workers={least} must .* at most cluster.num_workers={most}, which must be set",
    ):
        ClusterConfig(num_workers=most, min_workers=least)


def test_tasks_and_passes_use_machines_that_joined_later(ray4):
    joined = resolve(ClusterConfig(), {"CPU": 2.0})
    assert joined.count_parallel() == 1
    now = replace(joined, grows=True)
    assert now.count_parallel() == min(os.cpu_count(), ray4.cluster_resources()["CPU"] - 1)
    assert now.shared(2).count_parallel() == 1


def test_a_cluster_without_gpus_is_waited_for_with_a_line_and_not_for_ever(ray4):
    lines = []
    started = time.monotonic()
    wait_for_gpus(lines.append, seconds=0.5)
    assert time.monotonic() - started < 20
    assert lines == ["this cluster has no GPU yet: waits for one, 0 minutes at most"]


def test_torch_says_why_it_cannot_compute_on_a_gpu():
    assert bool(what_is_wrong()) != torch.cuda.is_available()
