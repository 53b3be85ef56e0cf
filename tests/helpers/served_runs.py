"""Runs to serve: pictures whose class is their colour; and sounds."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import raysal
from raysal.embedding.decode import check_text, decode_image
from raysal.rounds.session import Session
from raysal.sources.folder import Folder
from raysal.store import digest_of

COLOURS = ("red", "green", "blue")


@dataclass(frozen=True, kw_only=True)
class Shades:
    """An encoder of pictures: the mean and the spread of each band, [6]."""

    @property
    def modality(self) -> str:
        return "image"

    @property
    def dim(self) -> int:
        return 6

    def preprocessing(self) -> Mapping[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return digest_of({"encoder": "shades"})

    def prepare(self, key: str, payload: object) -> NDArray[np.float32]:
        pixels = np.asarray(decode_image(key, payload), np.float32) / 255
        return np.concatenate([pixels.mean(axis=(0, 1)), pixels.std(axis=(0, 1))])

    def encode(self, batch: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack(batch)


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """An encoder of texts: one, and their length modulo 7, [2]."""

    @property
    def modality(self) -> str:
        return "text"

    @property
    def dim(self) -> int:
        return 2

    def preprocessing(self) -> Mapping[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return digest_of({"encoder": "lengths"})

    def prepare(self, key: str, payload: object) -> str:
        return check_text(key, payload)

    def encode(self, batch: list[str]) -> NDArray[np.float32]:
        return np.array([[1.0, len(text) % 7] for text in batch], np.float32)


def colour_of(key: str) -> str:
    return COLOURS[int(Path(key).stem) % 3]


def picture_pool(folder: Path, count: int = 90, *, sides: tuple[int, int] = (48, 36)) -> Path:
    """A pool of `count` pictures in `folder / "pool"`, item i named `some/000i.png` or `.jpg`."""
    rng = np.random.default_rng(0)
    (folder / "images" / "some").mkdir(parents=True)
    for i in range(count):
        pixels = rng.integers(0, 60, (sides[1], sides[0], 3), dtype=np.uint8)
        pixels[..., i % 3] += np.uint8(rng.integers(120, 190))
        kind = "jpg" if i % 2 else "png"
        Image.fromarray(pixels).save(folder / "images" / "some" / f"{i:04d}.{kind}")
    raysal.embed(Folder(path=folder / "images"), Shades(), out=folder / "pool")  # type: ignore[arg-type]
    return folder / "pool"


def picture_run(folder: Path, count: int = 90, *, labels: int = 6, **fields: Any) -> Path:
    """A run in `folder / "run"` that looks for red pictures, of which the first `labels` are labelled."""
    pool = picture_pool(folder, count)
    given: dict[str, Any] = {
        "target": ("red",), "select": "margin", "start": "random", "rounds": {"k": 8}, "update": {"mode": "laplace"},
    }  # fmt: skip
    with Session(folder / "run", pool, fleet={"backend": "local"}, **{**given, **fields}) as session:
        keys = [key for table in session.pool.items(["key"]) for key in table["key"].to_pylist()][:labels]
        if keys:
            session.tell({key: "red" if colour_of(key) == "red" else "other" for key in keys})
    return folder / "run"


def wav(seconds: float = 0.25, rate: int = 8000, hertz: float = 1000.0, channels: int = 1, width: int = 2) -> bytes:
    """A tone as a .wav file."""
    time = np.arange(int(seconds * rate)) / rate
    tone = np.repeat(np.sin(2 * np.pi * hertz * time)[:, None], channels, axis=1)
    if width == 1:
        data = (tone * 100 + 128).astype(np.uint8).tobytes()
    elif width == 2:
        data = (tone * 30000).astype("<i2").tobytes()
    elif width == 3:
        data = (tone * 8e6).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    else:
        data = (tone * 2e9).astype("<i4").tobytes()
    packed = io.BytesIO()
    with wave.open(packed, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return packed.getvalue()
