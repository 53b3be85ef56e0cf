"""Spectrograms: sounds as pictures.

The page of a run shows a file of any length: no more of it is read than its windows, some at a time (`spectrogram`). An
encoder looks at all of a sound (`log_mel`).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysal.sounds import BLOCK_BYTES, open_sound, read_sound

WINDOW, BANDS, COLUMNS = 1024, 256, 900
"""Samples of a window, rows of the picture, and its columns at most."""
RANGE_DB = 80.0
"""Below the loudest by this much is black."""
SPECTROGRAM_BYTES = 48 << 20
"""What a spectrogram takes at most: the windows, their transforms, and a block of the file."""
MEL_SECONDS = 0.046
"""About how long a window of `log_mel` is: the nearest power of two of samples."""
HIGHEST = 8000
"""Hz that the picture of `log_mel` goes up to, if nothing else is asked for: most of speech and of everyday sounds."""
MEL_BANDS, MEL_COLUMNS = 128, 1024
"""Rows of the picture of `log_mel`, and its columns at most."""


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
    return _shades(energy)


def spectrogram_png(key: str, path: str | Path) -> bytes:
    """The spectrogram of a sound as a PNG; raises what `open_sound` raises."""
    with open_sound(key, path) as sound:
        shades = spectrogram(sound.samples, sound.frames)
    packed = io.BytesIO()
    Image.fromarray(shades).save(packed, "PNG")
    return packed.getvalue()


def log_mel(
    samples: NDArray[np.float32], rate: int, highest: int, bands: int = MEL_BANDS, columns: int = MEL_COLUMNS
) -> NDArray[np.uint8]:
    """How loud each band of the mel scale is over time, of a whole sound.

    The axis of frequencies goes from 0 to `highest` Hz for any rate, so nothing is resampled: bands above half the rate
    are black. Windows last `MEL_SECONDS` under Hann's curve, and begin every quarter of that; where there are more than
    `columns`, the mean power of consecutive ones makes a column. The loudest place is white, and what is `RANGE_DB`
    below it black. Time O(n log window), memory for a block of windows.

    Args:
        samples: of one channel [n], at least one.
        rate: samples in a second.
        highest: frequency of the first row, in Hz.
        bands: rows of the picture.
        columns: of the picture, at most.

    Returns:
        uint8 [bands, columns], the highest frequencies first.
    """
    window = 2 ** max(4, round(float(np.log2(rate * MEL_SECONDS))))
    hop = window // 4
    padded = np.pad(samples, (0, max(0, window - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    filters, curve = mel_filters(window, rate, highest, bands), np.hanning(window).astype(np.float32)
    places = min(columns, len(frames))
    energy = np.zeros((places, bands))
    edges = np.arange(places + 1) * len(frames) // places
    step = max(1, BLOCK_BYTES // (4 * window))
    for place in range(places):
        for start in range(edges[place], edges[place + 1], step):
            block = frames[start : min(start + step, edges[place + 1])] * curve
            energy[place] += (np.abs(np.fft.rfft(block, axis=1)) ** 2).sum(axis=0) @ filters
        energy[place] /= edges[place + 1] - edges[place]
    return _shades(energy)


def picture_of(key: str, payload: object, highest: int = 0) -> Image.Image:
    """The picture of `log_mel` of a sound, its channels together.

    Args:
        key: the item's name, for the error.
        payload: as for `read_sound`.
        highest: the frequency it goes up to, in Hz; 0 is `HIGHEST`.

    Returns:
        The picture, grey.

    Raises:
        BadItem: as `read_sound`.
        MissingExtra: as `read_sound`.
    """
    waveform, rate = read_sound(key, payload)
    return Image.fromarray(log_mel(waveform.mean(axis=0), rate, highest or HIGHEST))


@lru_cache(maxsize=16)
def mel_filters(window: int, rate: int, highest: int, bands: int) -> NDArray[np.float64]:
    """What each frequency of a transform adds to each band: triangles of one area, even on O'Shaughnessy's mel scale.

    Args:
        window: samples of a transform.
        rate: samples in a second.
        highest: end of the last band, in Hz.
        bands: how many.

    Returns:
        float64 [window / 2 + 1, bands], the lowest band first. A band that is narrower than the distance of two
        frequencies takes what lies between them in proportion, so none is empty below half the rate.
    """
    top = 2595 * np.log10(1 + highest / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    own = np.fft.rfftfreq(window, 1 / rate)
    spacing = rate / window
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    low, high = np.minimum(low, middle - spacing), np.maximum(high, middle + spacing)
    rising = (own[:, None] - low) / (middle - low)
    falling = (high - own[:, None]) / (high - middle)
    weights: NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None) * (2 / (high - low))
    return weights


def _shades(energy: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Powers [places, bands] as shades: decibels below the loudest one, uint8 [bands, places], last band first."""
    loudest = energy.max()
    if loudest <= 0:
        return np.zeros(energy.shape[::-1], np.uint8)
    decibels = 10 * np.log10(np.maximum(energy / loudest, 10 ** (-RANGE_DB / 10)))
    shades = np.rint(255 * (1 + decibels / RANGE_DB)).astype(np.uint8)
    return np.ascontiguousarray(shades.T[::-1])
