"""An encoder turns items into vectors, and owns their preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from raysal.types import Modality


class Encoder(Protocol):
    """A frozen model. Constructor fields are its config; weights are loaded when and where they are first used."""

    @property
    def modality(self) -> Modality: ...

    @property
    def dim(self) -> int:
        """Length of a vector; may load the model."""
        ...

    def preprocessing(self) -> Mapping[str, Any]:
        """JSON-able description of what happens to an item before the model."""
        ...

    def fingerprint(self) -> str:
        """Hex sha256 over weights, preprocessing and size: equal fingerprints give comparable vectors."""
        ...

    def prepare(self, key: str, payload: Any) -> Any:
        """Decode and preprocess one item. Called from several threads at once.

        Raises:
            BadItem: the item cannot be decoded; it is quarantined with this reason.
        """
        ...

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors float32 [n, dim] of prepared items, in order. Deterministic; the batch around an item changes its
        vector by rounding at most."""
        ...
