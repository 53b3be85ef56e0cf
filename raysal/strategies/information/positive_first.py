"""Items with information before items without any: the former by a value, the latter in a uniform order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.scoring.top_k import BestItems, best_of, best_of_parts, lowest_hashes

Floats = NDArray[np.float64]


class PositiveFirst(NamedTuple):
    """The first items of a partition, or of all."""

    positive: BestItems
    """those whose score is above zero, by their value"""
    zero: BestItems
    """the others, by their hash"""


def positive_first(
    ids: NDArray[np.int64],
    scores: Floats,
    key: int,
    k: int,
    value: Callable[[NDArray[np.int64], Floats], Floats] | None = None,
) -> PositiveFirst:
    """The best k items of a score above zero, and k of the others in a uniform order.

    Args:
        ids: int64 [n].
        scores: float64 [n], at least 0.
        key: key of `raysal.rng` for the uniform order, and of equal values.
        k: how many of each; all where there are fewer.
        value: from ids and scores above zero to what the former are ordered by; None for the scores.

    Returns:
        Both, best first.
    """
    some = scores > 0
    values = scores[some] if value is None else value(ids[some], scores[some])
    return PositiveFirst(best_of(ids[some], values, k, ties=key), lowest_hashes(ids[~some], key, k))


def merge_positive_first(parts: Sequence[PositiveFirst], key: int, k: int) -> PositiveFirst:
    """Those of the pool, from those of its partitions."""
    positive, zero = zip(*parts, strict=True)
    return PositiveFirst(best_of_parts(positive, k, ties=key), best_of_parts(zero, k, ties=key))
