"""What a cluster's totals allow is said in numbers, before anything can hang."""

import pytest

from raydd.engine.cluster import ClusterConfig, resolve
from raydd.engine.errors import Refused


def test_too_many_workers_are_refused_with_the_number_that_fits():
    with pytest.raises(Refused, match=r"4 CPUs .* and 0 GPUs; use at most 3"):
        resolve(ClusterConfig(num_workers=4), {"CPU": 4})
    assert resolve(ClusterConfig(num_workers=3), {"CPU": 4}).num_workers == 3


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_a_head_without_cpus_says_that_no_worker_has_joined(workers):
    with pytest.raises(Refused, match="no CPUs yet, for no worker has joined"):
        resolve(ClusterConfig(num_workers=workers), {"node:10.0.0.1": 1.0})


def test_gpus_alone_are_enough_for_gpu_workers():
    assert resolve(ClusterConfig(), {"GPU": 2}).num_workers == 2
