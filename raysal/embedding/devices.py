"""One encoder on several devices: a copy of the model on each, all fed from one queue of batches."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from inspect import signature
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from raysal.embedding.encoding import Encoding, halving_warner
from raysal.errors import EncoderError
from raysal.messages import brief

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raysal.embedding.base import Encoder

T = TypeVar("T")
Given = TypeVar("Given")
Made = TypeVar("Made")
P = ParamSpec("P")
AHEAD = 2
"""Batches for each device that are on a device or wait for one."""


def devices_of(device: str) -> tuple[str, ...]:
    """The devices that a job of one process runs on.

    Args:
        device: as `cpu`, `cuda:1`, or several after commas. `cuda` alone stands for all GPUs of this machine.

    Returns:
        Their names, in torch's words; at least one.
    """
    if device.strip() == "cuda":
        import torch

        if (count := torch.cuda.device_count()) > 1:
            return tuple(f"cuda:{number}" for number in range(count))
    return tuple(name.strip() for name in device.split(","))


def check_device(device: str) -> None:
    """Refuse a device that this machine has not, before anything is loaded or written. Of the CPU torch is not asked.

    Args:
        device: in torch's words.

    Raises:
        EncoderError: the device cannot be used.
    """
    if device == "cpu":
        return
    import torch

    try:
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises an AssertionError
        raise EncoderError("device", f"{device!r} cannot be used ({brief(error)})", "pass --device cpu") from None


def on_device(encoder: Encoder, device: str) -> Encoder:
    """A copy of an encoder that runs on another device, if it has a field for it."""
    if not any(field.name == "device" for field in dataclasses.fields(encoder)):  # type: ignore[arg-type]
        return encoder
    changed: Encoder = dataclasses.replace(encoder, device=device)  # type: ignore[type-var]
    return changed


class Replicas:
    """An encoder on each of some devices. What one of them learns of sizes that do not fit, all know."""

    def __init__(self, encoder: Encoder, devices: Sequence[str], halved: Callable[[int], None] | None = None) -> None:
        """Begin; models are loaded where they are first used.

        Args:
            encoder: the model.
            devices: where it runs, at least one. Of one name twice, the copies are one.
            halved: as for `Encoding`.
        """
        self._count, self._idle = len(devices), SimpleQueue[Encoding]()
        too_large: list[tuple[int, int]] = []
        halved = halved or halving_warner()
        for device in devices:
            self._idle.put(Encoding(on_device(encoder, device), halved, too_large))

    def in_order(
        self, function: Callable[[Encoding, Given], Made], batches: Iterable[Given]
    ) -> Generator[tuple[Given, Made]]:
        """Work on batches on all devices. Which device gets a batch decides time, and with equal devices nothing else.

        Args:
            function: what to do with a batch, with one of the encodings.
            batches: one after the other; with several devices, up to `AHEAD` of each are taken ahead.

        Yields:
            (a batch, what the function made of it), in the order of the batches.
        """
        if self._count == 1:
            with self._one() as encoding:
                for batch in batches:
                    yield batch, function(encoding, batch)
            return

        def work(batch: Given) -> Made:
            with self._one() as encoding:
                return function(encoding, batch)

        with ThreadPoolExecutor(self._count) as threads:
            waiting: deque[tuple[Given, Future[Made]]] = deque()
            rest = iter(batches)
            try:
                while True:
                    room = AHEAD * self._count - len(waiting)
                    waiting.extend((batch, threads.submit(work, batch)) for batch in islice(rest, room))
                    if not waiting:
                        return
                    batch, made = waiting.popleft()
                    yield batch, made.result()
            finally:
                for _, left in waiting:
                    left.cancel()

    @contextmanager
    def _one(self) -> Iterator[Encoding]:
        encoding = self._idle.get()
        try:
            yield encoding
        finally:
            self._idle.put(encoding)


class PerDevice(Generic[P, T]):
    """A function that loads something onto its argument `device`: it keeps the last thing, on each of its devices."""

    def __init__(self, load: Callable[P, T]) -> None:
        """Wrap a function.

        Args:
            load: takes `device`, and else what can be compared. It is called once for each device, one at a time.
        """
        self._load, self._signature = load, signature(load)
        self._lock = threading.RLock()
        self._of: dict[str, Any] | None = None
        self._kept: dict[str, T] = {}
        self.__doc__ = load.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns, or returned the last time for equal arguments on this device."""
        given = dict(self._signature.bind(*args, **kwargs).arguments)
        device = given.pop("device")
        with self._lock:
            if given != self._of:
                self._kept.clear()  # before another one is loaded: there may not be room for two
                self._of = given
            if device not in self._kept:
                self._kept[device] = self._load(*args, **kwargs)
            return self._kept[device]

    def cache_clear(self) -> None:
        """Let go of what is kept."""
        with self._lock:
            self._kept.clear()
