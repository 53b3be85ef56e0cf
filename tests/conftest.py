"""What all tests share: one thread a process, the two tiers, one Ray.

Helpers (pools, programs, slow versions of rules) are modules in tests/helpers, which pyproject.toml puts on the path:
any test imports them by their name, and no test imports from a conftest. Names of test files are unique.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before NumPy and torch are imported, here and in every process that a test starts

settings.register_profile("patient", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("patient")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray on this machine for all tests that need it: starting it takes seconds."""
    import programs
    import ray

    ray.cloudpickle.register_pickle_by_value(programs)  # the actors' processes do not have this folder on their path
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()
