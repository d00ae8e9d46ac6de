"""One small Ray for the whole session, and the environment it must find.

Ray reads these variables when it is imported, so they are set before any test module is.
"""

import os
import signal

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


@pytest.fixture(scope="session")
def ray4():
    """Ray with at least four logical CPUs: with fewer, pipelines beside actors hang silently."""
    import ray

    interrupt = signal.getsignal(signal.SIGINT)  # Ray Train replaces it and never gives it back
    ray.init(
        address="local",
        num_cpus=max(4, os.cpu_count() or 1),
        include_dashboard=False,
        object_store_memory=200 << 20,
        resources={"trial": 2},
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield ray
    ray.shutdown()
    signal.signal(signal.SIGINT, interrupt)
