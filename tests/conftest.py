"""One small Ray for the whole session, and the environment it must find.

Ray reads these variables when it is imported, so they are set before any test module is.
"""

import os
import signal
from pathlib import Path

import pytest

os.environ.pop("RAY_ADDRESS", None)  # never run the tests on somebody's cluster
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_AUTH_MODE="disabled",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.2",  # seconds; each report waits for one poll
    RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="0",
    RAY_TRAIN_METRICS_ENABLED="0",
    RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="20",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",  # as workers compute; two threads on busy cores wait for each other
)

# A file is one process's work, and the last to begin is what the other process waits for.
LONG_FILES = (
    "cluster/test_logical_gpus.py",
    "test_own_data.py",
    "engine/passes/test_passes.py",
    "device/test_device.py",
    "cluster/test_failures.py",
    "sweep/test_tune.py",
    "engine/passes/test_stored.py",
    "test_examples.py",
    "cluster/test_pool.py",
    "test_evaluate.py",
    "engine/training/test_training.py",
    "engine/labels/test_labels.py",
    "engine/labels/test_labelled_product.py",
    "test_sweep.py",
    "test_golden.py",
    "test_claims.py",
    "cluster/test_private_cluster.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, those with the longest tests before all; the others as they lie."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def ray4():
    """Ray with at least four logical CPUs: with fewer, pipelines beside actors hang silently."""
    import ray

    from raydd.cluster.connect import private_cluster

    interrupt = signal.getsignal(signal.SIGINT)  # Ray Train replaces it and never gives it back
    with private_cluster():
        ray.init(
            address="local",
            num_cpus=max(4, os.cpu_count() or 1),
            object_store_memory=200 << 20,
            resources={"trial": 2},
            log_to_driver=False,
            logging_level="ERROR",
        )
    yield ray
    ray.shutdown()
    signal.signal(signal.SIGINT, interrupt)
