"""Small torch models and encoders for the tests of the embed job; importable by Ray workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import BadItem

DIM = 6


class MeanColour(torch.nn.Module):
    """Mean and spread per channel: easy to recompute by hand."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean((2, 3)), x.flatten(2).amax(2)], dim=1)


class Weighted(torch.nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv = torch.nn.Conv2d(3, DIM, 3)
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(self.conv.weight.shape, generator=generator))
            self.conv.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).mean((2, 3))


class Broken(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] == 1 and x.flatten(2).std(2).max() == 0:  # the grey image that finds `dim`
            return torch.zeros(1, DIM)
        raise RuntimeError("wires crossed")


class Picky(torch.nn.Module):
    """Fails on a batch that holds a black image; gives NaN for a white image, and 1e6 for a red one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((2, 3))
        if bool((mean.amax(1) == 0).any()):
            raise RuntimeError("a black image")
        white = (mean.amin(1) == 1).unsqueeze(1)
        red = ((mean[:, 0] == 1) & (mean[:, 1] == 0)).unsqueeze(1)
        out = torch.where(white, torch.full_like(mean, torch.nan), mean)
        return torch.where(red, torch.full_like(mean, 1e6), out)


class WithNorms(torch.nn.Module):
    """What a network for pictures has: convolutions, batch norms, dropout, and a mean over places."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, stride=2)
        self.norm = torch.nn.BatchNorm2d(8)
        self.drop = torch.nn.Dropout(0.2)
        self.last = torch.nn.Conv2d(8, DIM, 3, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in (self.conv.weight, self.last.weight):
                weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
            self.conv.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.last(torch.relu(self.norm(self.conv(x))))).mean((2, 3))


class Cramped(Weighted):
    """Has room for `ROOM` images at once. Its last number is how many there were."""

    ROOM = 5

    def __init__(self, full: Callable[[], object]) -> None:
        super().__init__(0)
        self.full = full

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.ROOM:
            self.full()
        found = super().forward(x)
        return torch.cat([found, torch.full_like(found[:, :1], float(len(x)))], dim=1)


def full_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def full_library() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def full_machine() -> None:
    torch.empty(1 << 55)  # says so itself


def full_numpy() -> None:
    np.empty(1 << 55)


def cramped() -> torch.nn.Module:
    return Cramped(full_gpu)


def cramped_library() -> torch.nn.Module:
    return Cramped(full_library)


def cramped_machine() -> torch.nn.Module:
    return Cramped(full_machine)


def cramped_numpy() -> torch.nn.Module:
    return Cramped(full_numpy)


def no_room() -> torch.nn.Module:
    module = Cramped(full_gpu)
    module.ROOM = 0
    return module


def loudness(waveform: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Of a sound: what its first channel has of each octave, and how long it is."""
    power = np.abs(np.fft.rfft(waveform[0])) ** 2
    octaves = np.log2(np.maximum(np.fft.rfftfreq(waveform.shape[1], 1 / rate), 1)).astype(int)
    found = np.bincount(octaves, weights=power, minlength=16)[:16] / len(power)
    return np.append(np.sqrt(found), waveform.shape[1] / rate).astype(np.float32)


def with_norms() -> torch.nn.Module:
    return WithNorms(0)


def with_other_norms() -> torch.nn.Module:
    return WithNorms(1)


def mean_colour() -> torch.nn.Module:
    return MeanColour()


def weighted() -> torch.nn.Module:
    return Weighted(0)


def other_weights() -> torch.nn.Module:
    return Weighted(1)


def broken() -> torch.nn.Module:
    return Broken()


def picky() -> torch.nn.Module:
    return Picky()


def not_a_module() -> str:
    return "a string"


@dataclass(frozen=True, kw_only=True)
class Deadly:
    """Takes vectors of length 2. Kills its process at a 13 while there is a marker file, and deletes one marker."""

    markers: Path

    @property
    def modality(self) -> Literal["vector"]:
        return "vector"

    @property
    def dim(self) -> int:
        return 2

    def preprocessing(self) -> Mapping[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return "0" * 64

    def prepare(self, key: str, payload: Any) -> NDArray[np.float32]:
        vector = np.asarray(payload, np.float32)
        if not np.isfinite(vector).all():
            raise BadItem(key, "the vector is not finite")
        return vector

    def encode(self, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        if any(vector[0] == 13 for vector in prepared):
            marker = next(self.markers.iterdir(), None)
            if marker is not None:
                marker.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return np.stack(prepared)
