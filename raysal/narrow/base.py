"""A narrower turns millions of items into the thousands a selector looks at, out of one sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raysal.sweep import Sweep, SweepRequest


@dataclass(frozen=True, kw_only=True)
class LabelledVectors:
    """The labelled items, in id order: ids [n], vectors float32 [n, d], classes [n]."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    classes: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Narrowed:
    """Candidates: `ids` in any order, or None for the whole pool; `rule` says how they were found."""

    ids: NDArray[np.int64] | None
    rule: str


class Narrower(Protocol):
    """Constructor fields are its config. Both methods are pure."""

    def request(self, labelled: LabelledVectors, available: int, key: int) -> SweepRequest:
        """What the round's sweep must find. `available` items may be picked; `key` is a key of `raysal.rng`.

        A `sample` may come back larger than asked for (the round tops batches up from it); its order is
        fixed, so its first items are the sample asked for.
        """
        ...

    def narrow(self, found: Sweep) -> Narrowed:
        """Candidates from what was found; only available items are ever found."""
        ...
