"""Sounds in .wav files: a spectrogram as a picture. Of a file no more is read than its windows, some at a time."""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysal.errors import BadItem

WINDOW, BANDS, COLUMNS = 1024, 256, 900
"""Samples of a window, rows of the picture, and its columns at most."""
RANGE_DB = 80.0
"""Below the loudest by this much is black."""
BLOCK_BYTES = 1 << 20
"""About so much of a file is read at a time, however many channels it has."""
SPECTROGRAM_BYTES = 48 << 20
"""What a spectrogram takes at most: the windows, their transforms, and a block of the file."""
FIX = "convert it to PCM of 16 bits"
_WIDTHS = {1: "u1", 2: "<i2", 4: "<i4"}


class Sound(NamedTuple):
    """An open .wav file of whole numbers (PCM)."""

    file: wave.Wave_read
    frames: int
    """that are there, whatever its head says"""
    rate: int
    """frames in a second"""

    def samples(self, start: int, count: int) -> NDArray[np.float32]:
        """The mean of the channels of some frames, [count] in [-1, 1]; a block of the file at a time."""
        channels, width = self.file.getnchannels(), self.file.getsampwidth()
        self.file.setpos(start)
        step, parts = max(1, BLOCK_BYTES // (channels * width)), []
        for done in range(0, count, step):
            data = self.file.readframes(min(step, count - done))
            values = numbers_of(data[: len(data) // (channels * width) * channels * width], width)
            parts.append(values.reshape(-1, channels).mean(axis=1))
        found = np.concatenate(parts)
        return np.pad(found, (0, count - len(found)))  # where the file was cut meanwhile


@contextmanager
def open_sound(key: str, path: str | Path) -> Iterator[Sound]:
    """Open a .wav file of whole numbers.

    Args:
        key: the item's name, for the error.
        path: the file.

    Yields:
        The sound.

    Raises:
        BadItem: it is no such file, or there is no sound in it.
    """
    try:
        with open(path, "rb") as raw, wave.open(raw) as file:
            frame = file.getnchannels() * file.getsampwidth()
            there = max(0, os.fstat(raw.fileno()).st_size - raw.tell()) // frame
            if file.getsampwidth() not in (*_WIDTHS, 3):
                raise BadItem(key, f"numbers of {8 * file.getsampwidth()} bits", FIX)
            sound = Sound(file, min(file.getnframes(), there), file.getframerate())
            if sound.rate < 1 or sound.frames < 1:
                raise BadItem(key, "no sound in this file")
            yield sound
    except OSError as error:
        raise BadItem(key, f"the file cannot be read ({error.strerror})") from None
    except (wave.Error, EOFError, ValueError) as error:
        problem = f"not a .wav file of whole numbers ({error or type(error).__name__})"
        raise BadItem(key, problem, FIX) from None


def numbers_of(data: bytes, width: int) -> NDArray[np.float32]:
    """Whole numbers of so many bytes as float32 in [-1, 1], [n]."""
    if width == 3:
        raw = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(raw), 4), np.uint8)
        wide[:, 1:] = raw
        return wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2.0**31)
    values = np.frombuffer(data, _WIDTHS[width]).astype(np.float32)
    zero, one = (128, 128) if width == 1 else (0, 2 ** (8 * width - 1))
    return (values - np.float32(zero)) / np.float32(one)


def spectrogram(
    samples: Callable[[int, int], NDArray[np.float32]], count: int, columns: int = COLUMNS, bands: int = BANDS
) -> NDArray[np.uint8]:
    """How loud each band of frequencies is over time: squared magnitudes of windowed Fourier transforms, in decibels.

    Windows of `WINDOW` samples under Hann's curve, at evenly spaced places; the mean over `WINDOW / 2 / bands`
    frequencies makes a band. The loudest place is white, and what is `RANGE_DB` below it black. Time and memory
    O(columns · window log window), whatever the length.

    Args:
        samples: gives so many samples from a place on.
        count: samples that there are, at least 1. A sound that is shorter than a window is followed by silence.
        columns: of the picture, at most; a short sound has fewer.
        bands: rows of the picture.

    Returns:
        uint8 [bands, columns], the highest frequencies first.
    """
    length = max(count, WINDOW)
    places = max(1, min(columns, (length - WINDOW) // (WINDOW // 4) + 1))
    windows = np.zeros((places, WINDOW), np.float32)
    for window, start in zip(windows, np.linspace(0, length - WINDOW, places).astype(np.int64).tolist(), strict=True):
        some = min(WINDOW, count - start)
        window[:some] = samples(start, some)
    windows *= np.hanning(WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(windows, axis=1)[:, 1:]) ** 2
    energy = power.reshape(places, bands, -1).mean(axis=2)
    loudest = energy.max()
    if loudest <= 0:
        return np.zeros((bands, places), np.uint8)
    decibels = 10 * np.log10(np.maximum(energy / loudest, 10 ** (-RANGE_DB / 10)))
    shades = np.rint(255 * (1 + decibels / RANGE_DB)).astype(np.uint8)
    return np.ascontiguousarray(shades.T[::-1])


def spectrogram_png(key: str, path: str | Path) -> bytes:
    """The spectrogram of a .wav file as a PNG; raises what `open_sound` raises."""
    with open_sound(key, path) as sound:
        shades = spectrogram(sound.samples, sound.frames)
    packed = io.BytesIO()
    Image.fromarray(shades).save(packed, "PNG")
    return packed.getvalue()
