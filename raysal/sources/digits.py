"""The handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels. They need no download."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.sources.listing import digest, units_of, wanted_positions
from raysal.types import Item, Stamp, Unit


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The digits. Payloads are uint8 [8, 8], scaled to 0..255; keys are `digits/0000`; `label` carries the digit."""

    @property
    def modality(self) -> Literal["image"]:
        """Image."""
        return "image"

    def fingerprint(self) -> str:
        """Hex sha256 over all pixels and labels."""
        images, labels = _load()
        return digest(["digits", images.tobytes(), labels])

    def stamp(self) -> Stamp:
        """The fingerprint, which covers the contents."""
        return Stamp(digest=self.fingerprint(), by_content=True)

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units`."""
        return units_of((f"digits/{row:04d}" for row in range(len(_load()[1]))), chunk_rows)

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`."""
        images, labels = _load()
        for position in wanted_positions(unit, only):
            row = unit.first_id + position
            yield Item(key=unit.keys[position], payload=images[row], carried={"label": labels[row]})


@lru_cache(maxsize=1)
def _load() -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The images uint8 [n, 8, 8] and their labels [n]."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    return images, tuple(str(digit) for digit in data.target)
