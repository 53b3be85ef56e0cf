"""Sounds: files to samples. The page of a run reads parts of a file (`open_sound`), an encoder all (`read_sound`)."""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from raysal.errors import BadItem, MissingExtra

BLOCK_BYTES = 1 << 20
"""About so much of a file is read at a time, however many channels it has."""
FIX = "convert it to PCM of 16 bits"
NO_SOUNDFILE, INSTALL = "this sound needs the module 'soundfile'", "pip install 'raysal[audio]'"
MOST_NUMBERS = 1 << 28
"""Samples in all channels of a sound that is read as a whole: 1 GiB, 50 minutes of stereo at 44.1 kHz."""
_ORDER: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"RIFX": "big", b"FORM": "big"}
"""How files begin that then say their size, and in which order of bytes."""
_UNKNOWN_SIZE = (0, 0xFFFFFFFF)
"""What they say if they were written into a pipe."""
_WIDTHS = {1: "u1", 2: "<i2", 4: "<i4"}


class Sound(Protocol):
    """An open sound."""

    @property
    def frames(self) -> int:
        """How many there are."""
        ...

    @property
    def rate(self) -> int:
        """Frames in a second."""
        ...

    def samples(self, start: int, count: int) -> NDArray[np.float32]:
        """The mean of the channels of some frames, [count] in [-1, 1]; silence beyond the end."""
        ...


class Wave(NamedTuple):
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


class Decoded(NamedTuple):
    """An open file of another format, as soundfile decodes it."""

    file: Any
    frames: int
    rate: int

    def samples(self, start: int, count: int) -> NDArray[np.float32]:
        """The mean of the channels of some frames; a block at a time."""
        self.file.seek(start)
        step, parts = max(1, BLOCK_BYTES // (4 * self.file.channels)), [np.empty(0, np.float32)]
        for done in range(0, count, step):
            parts.append(self.file.read(min(step, count - done), "float32", always_2d=True).mean(axis=1))
        found = np.concatenate(parts)
        return np.pad(found, (0, count - len(found)))


@contextmanager
def open_sound(key: str, path: str | Path) -> Iterator[Sound]:
    """Open a sound. A .wav file of whole numbers needs no extra; other files need soundfile.

    Args:
        key: the item's name, for the error.
        path: the file.

    Yields:
        The sound.

    Raises:
        BadItem: it is no such file, there is no sound in it, or what would read it is not installed.
    """
    try:
        with open(path, "rb") as raw:
            head = raw.read(22)
    except OSError as error:
        raise BadItem(key, f"the file cannot be read ({error.strerror})") from None
    whole_numbers = head[:4] == b"RIFF" and head[20:22] in (b"\x01\x00", b"\xfe\xff", b"")
    if whole_numbers or format_of(head) is None:
        with _open_wave(key, path) as sound:
            yield sound
        return
    soundfile = _soundfile()
    if soundfile is None:
        raise BadItem(key, NO_SOUNDFILE, INSTALL)
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames < 1:
                raise BadItem(key, "no sound in this file")
            yield Decoded(file, file.frames, file.samplerate)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise BadItem(key, f"cannot be decoded ({_said(error)})") from None


@contextmanager
def _open_wave(key: str, path: str | Path) -> Iterator[Wave]:
    try:
        with open(path, "rb") as raw, wave.open(raw) as file:
            frame = file.getnchannels() * file.getsampwidth()
            there = max(0, os.fstat(raw.fileno()).st_size - raw.tell()) // frame
            if file.getsampwidth() not in (*_WIDTHS, 3):
                raise BadItem(key, f"numbers of {8 * file.getsampwidth()} bits", FIX)
            sound = Wave(file, min(file.getnframes(), there), file.getframerate())
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


def format_of(head: bytes) -> str | None:
    """The format of a sound by the first 12 bytes of its file, as the subtype of its media type; None if it is none."""
    if head[:4] in (b"RIFF", b"RIFX") and (len(head) < 12 or head[8:12] == b"WAVE"):
        return "wav"
    if head[:4] == b"FORM" and head[8:11] == b"AIF":
        return "aiff"
    if head[:4] in (b"fLaC", b"OggS"):
        return "flac" if head[:1] == b"f" else "ogg"
    frame = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2  # of layer 3
    return "mpeg" if head[:3] == b"ID3" or frame else None


def read_sound(key: str, payload: object) -> tuple[NDArray[np.float32], int]:
    """Decode a whole sound.

    Args:
        key: the item's name, for the error.
        payload: the bytes of a file.

    Returns:
        The waveform, float32 [channels, n], whole numbers as parts of their range, and the frames in a second.

    Raises:
        BadItem: it is no sound of a known format, is cut short, has no samples, too many, or some that are not finite.
        MissingExtra: soundfile is not installed.
    """
    soundfile = _soundfile()
    if soundfile is None:
        raise MissingExtra("sounds", "soundfile", "audio")
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise BadItem(key, f"a sound is the bytes of a file, not {type(payload).__name__}")
    data = bytes(payload)
    if not data:
        raise BadItem(key, "empty file")
    if format_of(data[:12]) is None:
        raise BadItem(key, "not a sound of a known format", "convert it to .wav, .flac, .ogg or .mp3")
    order = _ORDER.get(data[:4])
    said = 0 if order is None else int.from_bytes(data[4:8], order)
    if said not in _UNKNOWN_SIZE and said + 7 > len(data):  # the last byte only fills up to an even number
        raise BadItem(key, f"cut short: {len(data):,} bytes of {said + 8:,}")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames * file.channels > MOST_NUMBERS:
                problem = f"{file.frames:,} frames of {file.channels} channel(s), more than {MOST_NUMBERS:,} numbers"
                raise BadItem(key, problem, "cut it into pieces")
            frames, rate = file.frames, int(file.samplerate)
            waveform: NDArray[np.float32] = file.read(dtype="float32", always_2d=True).T
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise BadItem(key, f"cannot be decoded ({_said(error)})") from None
    if waveform.shape[1] < frames:
        raise BadItem(key, f"cut short: {waveform.shape[1]:,} of {frames:,} frames")
    if not waveform.size:
        raise BadItem(key, "no sound in this file")
    if not np.isfinite(waveform).all():
        raise BadItem(key, "some samples are not finite numbers", "write it anew")
    return waveform, rate


def _soundfile() -> Any:
    """The module, or None where it, or the library that it wraps, is not installed."""
    try:
        import soundfile
    except (ImportError, OSError):
        return None
    return soundfile


def _said(error: Exception) -> str:
    """What libsndfile said, without the Python object that it could not open."""
    return str(error).rpartition(": ")[2].rstrip(".")
