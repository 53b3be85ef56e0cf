"""Opening a fleet: errors name devices and clusters that do not exist, and threads are given back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch
from pools import make_pool, mixture
from tiers import deep

from raysal.config import FleetConfig
from raysal.errors import ConfigError
from raysal.fleet import open_fleet
from raysal.pool import Pool, committed

CONNECT = """
import sys
from raysal.errors import ConfigError
from raysal.fleet.ray_fleet import connect

for address in sys.argv[1:]:
    try:
        connect(address or None)
    except ConfigError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """A pool of 30 vectors."""
    return make_pool(tmp_path_factory.mktemp("open") / "pool", mixture(30, 6)[0])


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_here_is_named(pool: Pool, device: str) -> None:
    """This holds for a fleet in this process."""
    with pytest.raises(ConfigError, match=rf"fleet\.device: '{device}' cannot be used here .*device = \"cpu\""):
        open_fleet(pool, FleetConfig(backend="local", device=device))


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("device", ["cuda:1", "toaster", "cuda"])
def test_a_device_that_no_node_has_is_named(pool: Pool, device: str) -> None:
    """This holds for a fleet on Ray."""
    import ray

    if device == "cuda" and ray.cluster_resources().get("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match=r"fleet\.device"):
        open_fleet(pool, FleetConfig(backend="ray", device=device, partitions=1))


def test_the_records_of_a_pool_that_is_open_are_not_read_again(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be thousands, and as many partitions."""
    read = []
    monkeypatch.setattr(committed, "read_records", lambda *_: read.append(1))
    with open_fleet(pool, FleetConfig(backend="local", partitions=3)) as fleet:
        assert fleet.size == 3
    assert read == []


def test_threads_are_given_back(pool: Pool) -> None:
    """The first `close` gives them back; a second one changes nothing."""
    before = torch.get_num_threads()
    fleet = open_fleet(pool, FleetConfig(backend="local", threads=before + 1))
    assert torch.get_num_threads() == before + 1
    fleet.close()
    assert torch.get_num_threads() == before
    torch.set_num_threads(before + 2)
    try:
        fleet.close()
        assert torch.get_num_threads() == before + 2, "closed once is closed"
    finally:
        torch.set_num_threads(before)


@deep
def test_an_address_without_a_cluster_is_named_and_nothing_else_is_said() -> None:
    """Ray itself would try for a minute, and write to the log."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: whoever calls is refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", CONNECT, address, f"ray://{address}", "headnode", "headnode:port", ""],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "RAY_ADDRESS": address},
        )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("fleet.address: no Ray cluster can be joined at ") for line in lines)
    assert "refused" in lines[0]
    assert "'headnode': not host:port" in lines[2]
    assert f"'{address}' (from RAY_ADDRESS)" in lines[4]
