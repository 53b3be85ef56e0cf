"""A job on several devices: the bytes of one device, a copy of the model on each, and all of them at work."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from pool_files import bytes_of
from small_sources import pictures
from tiers import deep_unless

from raysal.embedding import custom
from raysal.embedding.custom import Torch
from raysal.embedding.devices import AHEAD, PerDevice, Replicas, devices_of
from raysal.embedding.job import embed
from raysal.errors import EncoderError, MemoryWarning

SECONDS = 60.0
"""After which a thread that waits for another one gives up."""


def embedded(out: Path, device: str, model: str = "weighted", **options: Any) -> dict[str, bytes]:
    encoder = Torch(arg=f"tiny_models:{model}", size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MemoryWarning)
        embed(pictures(), encoder, out, device=device, **{"chunk_rows": 60, "batch_size": 7, "threads": 1, **options})
    return bytes_of(out)


@pytest.mark.parametrize("model", deep_unless(["cramped"], ["weighted", "cramped", "with_norms"]))
@pytest.mark.parametrize(
    "device", deep_unless(["cpu,cpu:0"], ["cpu,cpu", "cpu,cpu:0", "cpu, cpu, cpu, cpu:0", "cpu:0"])
)
def test_the_bytes_are_those_of_one_device(tmp_path: Path, device: str, model: str) -> None:
    """Of `cramped`, too, in whose vectors one sees how its batches were cut."""
    assert embedded(tmp_path / "several", device, model) == embedded(tmp_path / "one", "cpu", model)


def test_a_resumed_job_may_have_other_devices(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedded(tmp_path / "pool", "cpu,cpu", report=stop)
    assert embedded(tmp_path / "pool", "cpu") == embedded(tmp_path / "whole", "cpu")


class Meeting(tiny_models.Weighted):
    """Its copies wait for one another in their first batch."""

    barrier = threading.Barrier(2)
    met: dict[int, int]

    def __init__(self) -> None:
        super().__init__(0)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1:  # not the grey image that finds `dim`
            self.calls += 1
            if self.calls == 1:
                self.barrier.wait(SECONDS)
        return super().forward(x)


COPIES: list[Meeting] = []


def meeting() -> torch.nn.Module:
    COPIES.append(Meeting())
    return COPIES[-1]


def test_all_devices_work_at_once_each_with_its_own_copy(tmp_path: Path) -> None:
    """A job that had one at work, or one copy for both, would break the barrier."""
    COPIES.clear()
    custom.load_model.cache_clear()
    encoder = Torch(arg=f"{__name__}:meeting", size=8)
    report = embed(pictures(), encoder, tmp_path / "pool", device="cpu,cpu:0", batch_size=8, threads=1)
    assert report.quarantined == 0
    assert len(COPIES) == 2
    assert min(copy.calls for copy in COPIES) >= 1
    assert sum(copy.calls for copy in COPIES) == 20


def test_results_come_in_the_order_of_the_batches_whoever_is_done_first() -> None:
    done = threading.Event()

    def work(encoding: Any, batch: int) -> int:
        if batch == 0:
            assert done.wait(SECONDS)  # until the one after it is done
        if batch == 1:
            done.set()
        return -batch

    replicas = Replicas(Torch(arg="tiny_models:weighted"), ["cpu", "cpu"])
    assert list(replicas.in_order(work, range(9))) == [(n, -n) for n in range(9)]


def test_no_more_is_taken_ahead_than_is_said() -> None:
    """Else all prepared images of a unit would be in memory at once."""
    taken = 0

    def batches() -> Iterator[int]:
        nonlocal taken
        for n in range(100):
            taken += 1
            yield n

    replicas = Replicas(Torch(arg="tiny_models:weighted"), ["cpu"] * 3)
    for given, (batch, _) in enumerate(replicas.in_order(lambda encoding, batch: batch, batches())):
        assert taken <= given + AHEAD * 3
        assert batch == given


def test_an_error_on_one_device_ends_the_job(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="fails on every item: RuntimeError: wires crossed"):
        embedded(tmp_path / "pool", "cpu,cpu", "broken")
    with pytest.raises(EncoderError, match="cuda:99"):
        embedded(tmp_path / "other", "cuda:99,cpu")


def test_cuda_is_every_gpu_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine of the tests has several."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert devices_of("cuda") == ("cuda:0", "cuda:1", "cuda:2")
    assert devices_of("cuda:1") == ("cuda:1",)
    assert devices_of("cuda:0, cuda:2") == ("cuda:0", "cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices_of("cuda") == ("cuda",)
    assert devices_of("cpu") == ("cpu",)


def test_a_model_is_loaded_once_for_each_device_and_let_go_for_another_one() -> None:
    loads: list[tuple[str, str]] = []

    def load(name: str, device: str) -> list[str]:
        loads.append((name, device))
        return [name, device]

    kept = PerDevice(load)
    places = ("a", "b", "c", "a")
    assert [kept("one", place) for place in places] == [["one", place] for place in places]
    assert kept("one", "a") is kept(name="one", device="a")
    assert loads == [("one", "a"), ("one", "b"), ("one", "c")]
    kept("two", "a")
    kept("one", "a")
    assert loads[3:] == [("two", "a"), ("one", "a")]
