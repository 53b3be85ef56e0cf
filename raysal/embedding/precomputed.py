"""The encoder `precomputed`: vectors that were made elsewhere are checked and copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.errors import BadItem
from raysal.real_numbers import as_numbers, finite_rows
from raysal.store import digest_of
from raysal.types import Columns


@dataclass(frozen=True, kw_only=True)
class Precomputed:
    """Take vectors as they are."""

    origin: str = ""
    """Your own name for the model that made them. Pools of one name are one vector space: heads of one hold for the
    others. Without a name, only pools of the same vectors are (`raysal.pool.Pool.vector_space`)."""
    dim: int = 0
    """Length of a vector; 0 asks the source."""

    @property
    def modality(self) -> Literal["vector"]:
        """Always `vector`."""
        return "vector"

    def preprocessing(self) -> Mapping[str, Any]:
        """Nothing: the mapping is empty."""
        return {}

    def fingerprint(self) -> str:
        """Hex sha256 over `origin` and `dim`; raysal knows nothing else of these vectors."""
        return digest_of({"encoder": "precomputed", "origin": self.origin, "dim": self.dim})

    def prepare(self, key: str, payload: Any) -> NDArray[np.floating[Any]]:
        """Check one vector.

        Args:
            key: the item's name, for the error.
            payload: the vector, as anything that NumPy reads.

        Returns:
            The vector [dim], in float64 where float32 would lose digits.

        Raises:
            BadItem: it has another length, holds something that is not a number, or is not finite.
        """
        try:
            vector = as_numbers(payload)
        except ValueError as error:
            raise BadItem(key, f"not a vector of numbers: {error}") from None
        if vector.shape != (self.dim,):
            raise BadItem(key, f"a vector of shape {vector.shape}, expected ({self.dim},)")
        if not np.isfinite(vector).all():
            raise BadItem(key, "the vector is not finite")
        return vector

    def check(self, columns: Columns) -> dict[int, BadItem]:
        """Check many vectors: `prepare`, without Python for each of them.

        Args:
            columns: n items.

        Returns:
            {row: what is wrong with it}.
        """
        bad = {row: self._refused(columns.keys[row], payload) for row, payload in columns.odd.items()}
        finite = finite_rows(columns.vectors)
        for row in np.flatnonzero(~finite).tolist():
            bad.setdefault(row, BadItem(columns.keys[row], "the vector is not finite"))
        return bad

    def _refused(self, key: str, payload: Any) -> BadItem:
        """What is wrong with an odd payload."""
        if isinstance(payload, BadItem):
            return payload
        try:
            self.prepare(key, payload)
        except BadItem as error:
            return error
        return BadItem(key, "a vector that the source calls odd")

    def encode(self, prepared: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.floating[Any]]:
        """The n vectors as one array [n, dim]."""
        return np.stack(prepared)
