"""What a cluster's totals allow is said in numbers, before anything can hang."""

import os
from dataclasses import replace

import pytest

from raydd.cluster.config import ClusterConfig
from raydd.cluster.connect import resolve
from raydd.errors import Refused
from raydd.sweep.tune import fitting_trials


def test_too_many_workers_are_refused_with_the_number_that_fits():
    with pytest.raises(Refused, match=r"4 CPUs .* and 0 GPUs; use at most 3"):
        resolve(ClusterConfig(num_workers=4), {"CPU": 4})
    assert resolve(ClusterConfig(num_workers=3), {"CPU": 4}).num_workers == 3


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_a_head_without_cpus_says_that_no_worker_has_joined(workers):
    with pytest.raises(Refused, match="this cluster has 0 CPUs, but one must read"):
        resolve(ClusterConfig(num_workers=workers), {"node:10.0.0.1": 1.0})


def test_gpus_alone_are_enough_for_gpu_workers():
    assert resolve(ClusterConfig(), {"GPU": 2}).num_workers == 2


@pytest.mark.parametrize(
    ("config", "totals", "lanes"),
    [
        (ClusterConfig(), {"CPU": 5}, 1),
        (ClusterConfig(), {"CPU": 16}, 3),
        (ClusterConfig(num_workers=6), {"CPU": 18}, 2),
        (ClusterConfig(num_workers=2), {"CPU": 64, "GPU": 8}, 4),
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
