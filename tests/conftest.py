"""What all tests share: one thread a process, files in memory, the two tiers, one Ray.

Helpers (pools, programs, slow versions of rules) are modules in tests/helpers, which pyproject.toml puts on the path:
any test imports them by their name, and no test imports from a conftest. Names of test files are unique.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tiers import thin_crossings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before NumPy and torch are imported, here and in every process that a test starts

ROOMY = 2**30


def in_memory() -> str | None:
    """A folder in memory for what tests write, where there is room: there a flush to disk takes no time.

    No test cuts the power, so none can tell. A suite writes some ten thousand flushed files; that was a fifth of its
    time. TMPDIR chooses another place.
    """
    shared = "/dev/shm"
    chosen = {"TMPDIR", "PYTEST_DEBUG_TEMPROOT"} & os.environ.keys()
    if chosen or not os.path.ismount(shared) or not os.access(shared, os.W_OK):
        return None
    found = os.statvfs(shared)
    return shared if found.f_bavail * found.f_frsize > ROOMY else None


if memory := in_memory():
    os.environ["PYTEST_DEBUG_TEMPROOT"] = memory  # before pytest makes its first folder

settings.register_profile("patient", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("patient")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while tests are collected, and later not among them: that halves the time of collecting."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


GROUP = "ray"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Thin crossings, and put all tests that use Ray in one group, which one worker runs, and first: it takes longest.

    Any other file is a group of its own, so that what its tests share is made once.
    """
    thin_crossings(items)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(GROUP if uses_ray(item) else item.nodeid.split("::")[0]))
    items.sort(key=lambda item: not uses_ray(item))


def uses_ray(item: pytest.Item) -> bool:
    return "ray_session" in getattr(item, "fixturenames", ())


def ray_is_running() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


@pytest.fixture(autouse=True)
def no_ray_of_its_own(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that starts Ray without the fixture would run beside the group's Ray, in another worker."""
    before = ray_is_running()
    yield
    if ray_is_running() and not before and not uses_ray(request.node):
        sys.modules["ray"].shutdown()
        pytest.fail("this test starts Ray: let it use the fixture `ray_session`")


@pytest.fixture(scope="session")
def ray_session(object_server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray on this machine for all tests that need it: starting it takes seconds.

    Its processes have the environment of now, so the object store and a cache of their own are in it.
    """
    import programs
    import ray
    from object_store import environment

    ray.cloudpickle.register_pickle_by_value(programs)  # the actors' processes do not have this folder on their path
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(object_server[0]).items():  # type: ignore[index]
            patch.setenv(name, value)
        patch.setenv("RAYSAL_CACHE", str(tmp_path_factory.mktemp("cache of actors")))
        ray.init(num_cpus=4, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def object_server() -> Iterator[object]:
    """One object store on this machine for all tests of a process."""
    from object_store import running_server

    with running_server() as running:
        yield running


@pytest.fixture
def bucket_store(object_server: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    """A fresh bucket (`object_store.ObjectStore`), and an environment in which raysal and its processes find it."""
    from object_store import environment, fresh_bucket

    proxy, backend = object_server  # type: ignore[misc]
    for name, value in environment(proxy).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAYSAL_CACHE", str(tmp_path / "cache of objects"))
    with fresh_bucket(proxy, backend) as store:
        yield store
