"""What was decoded last in a thread, for who measures it. Where nobody watches, nothing is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = Image.Image | NDArray[np.uint8]
"""Mode L or RGB, or uint8 [h, w, 1] or [h, w, 3]."""


@dataclass(eq=False)
class Seen:
    """The last picture that was decoded whole, or cut out of another one."""

    picture: Picture | None = None
    """of a JPEG maybe at 1/2, 1/4 or 1/8 of its size"""
    size: tuple[int, int] = (0, 0)
    """width and height of the upright picture at its full size"""
    full_size: tuple[int, int] | None = None
    """that of the picture that is being decoded, where it will be smaller"""


_THREAD = threading.local()


@contextmanager
def watching() -> Iterator[Seen]:
    """Watch what this thread decodes inside the block."""
    seen = _THREAD.seen = Seen()
    try:
        yield seen
    finally:
        _THREAD.seen = None


def see_reduced(size: tuple[int, int]) -> None:
    """Say that the picture that is being decoded has another size, upright, than will be seen."""
    if (seen := getattr(_THREAD, "seen", None)) is not None:
        seen.full_size = size


def see(picture: Picture) -> None:
    """Say that a picture was decoded. It is not changed from now on."""
    seen: Seen | None = getattr(_THREAD, "seen", None)
    if seen is None:
        return
    size = (picture.shape[1], picture.shape[0]) if isinstance(picture, np.ndarray) else picture.size
    seen.picture, seen.size, seen.full_size = picture, seen.full_size or size, None
