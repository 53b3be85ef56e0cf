"""Vectors made elsewhere: checked and copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.errors import BadItem
from raysal.store import digest_of


@dataclass(frozen=True, kw_only=True)
class Precomputed:
    """Takes vectors as they are. `dim` 0 is what the source says.

    `origin` is your own name for what made them. It is part of the fingerprint, so that vectors of two
    models are not taken for one another.
    """

    origin: str = ""
    dim: int = 0

    @property
    def modality(self) -> Literal["vector"]:
        return "vector"

    def preprocessing(self) -> Mapping[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return digest_of({"encoder": "precomputed", "origin": self.origin, "dim": self.dim})

    def prepare(self, key: str, payload: Any) -> NDArray[np.float32]:
        """float32 [dim].

        Raises:
            BadItem: another length, not numbers, or not finite.
        """
        try:
            with np.errstate(over="ignore"):
                vector = np.asarray(payload, np.float32)
        except (TypeError, ValueError):
            raise BadItem(key, "not a vector of numbers") from None
        if vector.shape != (self.dim,):
            raise BadItem(key, f"a vector of shape {vector.shape}, expected ({self.dim},)")
        if not np.isfinite(vector).all():
            raise BadItem(key, "the vector is not finite")
        return vector

    def encode(self, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack(prepared)
