"""Images in `.npy` files, as one dataset of an array file: the file is mapped, and only what is asked for is read."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from raysal.errors import SourceError
from raysal.sources.datasets import ROOT, Dataset
from raysal.sources.npy import load_array


class NpyFile:
    """The array of a `.npy` file. Its first axis is that of the items, or it is one image; see `Array.axes`."""

    def __init__(self, path: Path, axes: str | None) -> None:
        """Map a file.

        Args:
            path: the file.
            axes: those of an image. Where the array has no other, it is one image.

        Raises:
            SourceError: it is no `.npy` file, or holds Python objects; or of three axes nobody says what they are.
        """
        self.path = path
        values = load_array(path, "images [n, h, w, channels], or one image")
        if values.ndim == 3 and values.shape[1] != 1 and axes is None:
            problem = f"an array of shape {values.shape} may be grey images, or one of several channels"
            raise SourceError(path, problem, "set `axes` of the source: hw for images [n, h, w], hwc or chw for one")
        self._values = values[None] if axes is not None and len(axes) == values.ndim else values

    def __enter__(self) -> NpyFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._values

    def datasets(self) -> dict[str, Dataset]:
        """The one array; see `ArrayFile`."""
        return {ROOT: Dataset(name=ROOT, shape=self._values.shape, dtype=self._values.dtype)}

    def lacking(self, dataset: Dataset, start: int, stop: int) -> dict[int, str]:
        """Nothing: all of an array was written."""
        del dataset, start, stop
        return {}

    def slice(self, dataset: Dataset, start: int, stop: int) -> Any:
        """Some rows; see `ArrayFile`."""
        del dataset
        return np.array(self._values[start:stop])


def holds_images(path: Path) -> bool:
    """Whether an array has too many axes to be vectors [n, d] or [n, 1, d]. Reads the head of the file.

    Args:
        path: a `.npy` file.

    Returns:
        False also where it cannot be read: whoever reads it says why.
    """
    try:
        values = load_array(path, "")
    except SourceError:
        return False
    return values.ndim > 3 or (values.ndim == 3 and values.shape[1] != 1)
