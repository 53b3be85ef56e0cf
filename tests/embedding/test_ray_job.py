"""The embed job on Ray: the same bytes as here, and workers that die."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from pool_files import bytes_of, quarantined
from small_sources import pictures
from tiers import deep
from tiny_models import Deadly

from raysal.embedding import ray_job
from raysal.embedding.custom import Torch
from raysal.embedding.job import embed
from raysal.errors import ConfigError, EncoderError, MemoryWarning, QuarantineExceeded
from raysal.pool import open_pool
from raysal.sources.memory import Memory
from raysal.types import Unit

pytestmark = pytest.mark.usefixtures("ray_session")


def thirteen(place: int, n: int = 24) -> Memory:
    values = np.arange(2 * n, dtype=np.float32).reshape(n, 2) + 100
    values[place, 0] = 13
    return Memory(vectors=values, keys=[f"k{i}" for i in range(n)])


def markers(path: Path, count: int) -> Path:
    path.mkdir()
    for number in range(count):
        (path / str(number)).touch()
    return path


def without_records(pool: Path) -> dict[str, bytes]:
    """The files of a pool but its commit records: a record holds the attempt, which a death changes."""
    return {name: data for name, data in bytes_of(pool).items() if not name.startswith("commits/")}


def test_ray_makes_the_same_bytes(tmp_path: Path) -> None:
    encoder = Torch(arg="tiny_models:weighted", size=8)
    embed(pictures(), encoder, tmp_path / "here", chunk_rows=40, threads=1)
    report = embed(pictures(), encoder, tmp_path / "ray", chunk_rows=40, threads=1, workers=2, backend="ray")
    assert (report.chunks, report.embedded) == (4, 160)
    assert bytes_of(tmp_path / "ray") == bytes_of(tmp_path / "here")


@deep
def test_a_killed_worker_is_replaced_and_its_units_done_again(tmp_path: Path) -> None:
    source = thirteen(9)
    embed(source, Deadly(markers=markers(tmp_path / "none", 0)), tmp_path / "here", chunk_rows=3)
    deadly = Deadly(markers=markers(tmp_path / "two", 2))
    report = embed(source, deadly, tmp_path / "ray", chunk_rows=3, threads=1, workers=1, backend="ray")
    assert not list((tmp_path / "two").iterdir())
    assert report.quarantined == 0
    assert {k: v for k, v in without_records(tmp_path / "ray").items() if k != "pool.json"} == {
        k: v for k, v in without_records(tmp_path / "here").items() if k != "pool.json"
    }
    open_pool(tmp_path / "ray").verify()


@deep
def test_a_unit_that_kills_every_worker_is_lost_and_counted_and_no_other(tmp_path: Path) -> None:
    deadly = Deadly(markers=markers(tmp_path / "many", 50))
    with pytest.raises(QuarantineExceeded):
        embed(thirteen(9), deadly, tmp_path / "pool", chunk_rows=3, threads=1, workers=2, backend="ray")
    deaths = 50 - len(list((tmp_path / "many").iterdir()))
    # One more where the first worker died with the answer of the unit before: then that unit was blamed.
    assert deaths in (ray_job.MAX_DEATHS, ray_job.MAX_DEATHS + 1)
    assert quarantined(tmp_path / "pool") == dict.fromkeys(("k9", "k10", "k11"), ("encode", "worker died 3 times"))
    assert len(open_pool(tmp_path / "pool")) == 21


def test_a_unit_that_was_with_a_dead_worker_runs_alone() -> None:
    fresh, suspect = (ray_job._Task(unit=Unit(index=n, first_id=n, keys=(f"k{n}",))) for n in (0, 1))
    suspect.attempt = 1
    worker = ray_job._Worker(actor=None, starting=None)
    assert worker.takes_more(suspects=True)
    worker.calls.append((None, fresh))
    assert worker.takes_more(suspects=False)
    assert not worker.takes_more(suspects=True)
    worker.calls[0] = (None, suspect)
    assert not worker.takes_more(suspects=False)


@deep
def test_an_error_in_a_worker_arrives_as_itself(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 5), dtype=np.uint8)
    source = Memory(images=list(pixels), keys=range(6))
    with pytest.raises(EncoderError, match="wires crossed") as caught:
        embed(source, Torch(arg="tiny_models:broken", size=4), tmp_path / "pool", threads=1, backend="ray")
    assert type(caught.value) is EncoderError


def test_a_job_that_finds_no_room_says_what_it_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_job, "START_SECONDS", 0.5)
    with pytest.raises(ConfigError, match=r"each asks for \{'CPU': 999\}, available are .*'CPU'"):
        embed(pictures(), Torch(arg="tiny_models:weighted", size=8), tmp_path / "p", backend="ray", threads=999)


def test_what_others_have_used_up_is_said_too() -> None:
    class Holder:
        def hold(self) -> None: ...

    cpus = ray.cluster_resources()["CPU"]
    holder = ray.remote(Holder).options(num_cpus=cpus).remote()
    ray.get(holder.hold.remote())
    try:
        given_up = time.monotonic() + 120
        while ray.available_resources().get("CPU"):  # the cluster takes a moment to see it
            assert time.monotonic() < given_up
        assert "each asks for {'CPU': 1}, available are {'CPU': 0.0" in ray_job._no_room(2, 1, 0)
    finally:
        ray.kill(holder)


@deep
def test_a_worker_that_runs_out_of_memory_halves_its_batch_and_the_job_says_so(tmp_path: Path) -> None:
    encoder = Torch(arg="tiny_models:cramped", size=8)
    options: dict[str, Any] = {"chunk_rows": 40, "threads": 1}
    embed(pictures(), encoder, tmp_path / "fits", batch_size=5, **options)
    with pytest.warns(MemoryWarning) as caught:
        embed(pictures(), encoder, tmp_path / "ray", batch_size=20, backend="ray", workers=2, **options)
    assert sorted(str(warning.message).split(" ")[0] for warning in caught) == ["10", "20"]
    assert bytes_of(tmp_path / "ray") == bytes_of(tmp_path / "fits")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "no node of the Ray cluster has a GPU"),
        ("cuda:1", "with Ray each worker has a GPU of its own"),
        ("cpu,cpu", "use .cpu. or .cuda."),
    ],
)
def test_a_device_that_no_worker_can_have_is_refused(tmp_path: Path, device: str, message: str) -> None:
    """At once: without this the job would wait for workers that never start. The driver itself needs no GPU."""
    encoder = Torch(arg="tiny_models:weighted", size=8)
    with pytest.raises(ConfigError, match=message):
        embed(pictures(), encoder, tmp_path / "pool", backend="ray", device=device)
