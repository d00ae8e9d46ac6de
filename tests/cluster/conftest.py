"""Workers do not import the tests: what tests define is sent to them whole."""

import pytest
import ray


@pytest.fixture
def by_value(request):
    """Send what the test's module defines."""
    ray.cloudpickle.register_pickle_by_value(request.module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(request.module)
