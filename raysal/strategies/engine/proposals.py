"""What a partition proposes to the driver of the lazy engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysal.strategies.engine.feature_maps import Arrays
from raysal.strategies.engine.ranking import Place


@dataclass(frozen=True, kw_only=True)
class BestRows:
    """Rows of a partition that are up to date, and stand before all its other rows."""

    ids: NDArray[np.int64]
    """[m], ascending."""
    state: NDArray[np.float64]
    """The rule's state, [fields, m]."""
    factors: Arrays
    """[m, width] each."""
    bound: Place
    """The best place that any other row of the partition could have."""
    pairs: int
    """Pairs of a row and a centre whose distance was bounded in single precision so far; each pair once."""
    pairs_again: int
    """Pairs that were bounded once more, to make the states of rows exact."""
    pairs_guessed: int
    """Pairs of which it was guessed, in integers, which centre is nearest to the row; each pair once."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A partition's proposal for the first pick, if there is no centre yet."""

    place: Place
    factors: Arrays
    """[1, width] each."""
