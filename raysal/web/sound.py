"""Sounds in .wav files: their numbers, and a spectrogram as a picture."""

from __future__ import annotations

import io
import wave

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysal.errors import BadItem

MAX_SAMPLES = 48_000 * 600
"""Samples of one channel that are looked at: ten minutes at 48 kHz. What comes after is not in the spectrogram."""
WINDOW, BANDS, COLUMNS = 1024, 256, 900
"""Samples of a window, rows of the picture, and its columns at most."""
RANGE_DB = 80.0
"""Below the loudest by this much is black."""
_WIDTHS = {1: "u1", 2: "<i2", 4: "<i4"}


def read_wav(key: str, payload: bytes) -> tuple[NDArray[np.float32], int]:
    """The mean of the channels of a .wav file of whole numbers (PCM).

    Args:
        key: the item's name, for the error.
        payload: the file.

    Returns:
        float32 [n] in [-1, 1], at most `MAX_SAMPLES` of them, and how many there are in a second.

    Raises:
        BadItem: it is no such file.
    """
    try:
        with wave.open(io.BytesIO(payload)) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            data = file.readframes(min(file.getnframes(), MAX_SAMPLES))
    except (wave.Error, EOFError, ValueError) as error:
        problem = f"not a .wav file of whole numbers ({error or type(error).__name__})"
        raise BadItem(key, problem, "convert it to PCM of 16 bits") from None
    if width == 3:
        raw = np.frombuffer(data[: len(data) // 3 * 3], np.uint8).reshape(-1, 3)
        wide = np.zeros((len(raw), 4), np.uint8)
        wide[:, 1:] = raw
        values = wide.view("<i4")[:, 0].astype(np.float32) / 2.0**31
    else:
        kind = _WIDTHS[width]
        values = np.frombuffer(data[: len(data) // width * width], kind).astype(np.float32)
        values = (values - 128) / 128 if width == 1 else values / 2.0 ** (8 * width - 1)
    if rate < 1 or len(values) < channels:
        raise BadItem(key, "no sound in this file")
    return values[: len(values) // channels * channels].reshape(-1, channels).mean(axis=1), rate


def spectrogram(samples: NDArray[np.float32], columns: int = COLUMNS, bands: int = BANDS) -> NDArray[np.uint8]:
    """How loud each band of frequencies is over time: squared magnitudes of windowed Fourier transforms, in decibels.

    Windows of `WINDOW` samples under Hann's curve, at evenly spaced places; the mean over `WINDOW / 2 / bands`
    frequencies makes a band. The loudest place is white, and what is `RANGE_DB` below it black. O(columns · window log
    window), whatever the length.

    Args:
        samples: float32 [n], n >= 1.
        columns: of the picture, at most; a short sound has fewer.
        bands: rows of the picture.

    Returns:
        uint8 [bands, columns], the highest frequencies first.
    """
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    count = max(1, min(columns, (len(padded) - WINDOW) // (WINDOW // 4) + 1))
    starts = np.linspace(0, len(padded) - WINDOW, count).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[starts] * np.hanning(WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(windows, axis=1)[:, 1:]) ** 2
    energy = power.reshape(count, bands, -1).mean(axis=2)
    loudest = energy.max()
    if loudest <= 0:
        return np.zeros((bands, count), np.uint8)
    decibels = 10 * np.log10(np.maximum(energy / loudest, 10 ** (-RANGE_DB / 10)))
    shades = np.rint(255 * (1 + decibels / RANGE_DB)).astype(np.uint8)
    return np.ascontiguousarray(shades.T[::-1])


def spectrogram_png(key: str, payload: bytes) -> bytes:
    """The spectrogram of a .wav file as a PNG; raises what `read_wav` raises."""
    samples, _ = read_wav(key, payload)
    packed = io.BytesIO()
    Image.fromarray(spectrogram(samples)).save(packed, "PNG")
    return packed.getvalue()
