"""The aggregators that are one operation: mean, sum, largest, mean of the largest, quantile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from raysal.config import AFTER_COLON
from raysal.errors import ConfigError
from raysal.scoring.aggregators.base import Aggregator, ordered


@dataclass(frozen=True, kw_only=True)
class Mean(Aggregator):
    """The mean over the parts: owners of many parts count as those of few."""

    def __call__(self, scores: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Aggregator`."""
        return Sum()(scores, begins) / np.diff(begins)


@dataclass(frozen=True, kw_only=True)
class Sum(Aggregator):
    """The sum over the parts: what an owner is worth if each of its parts gets a label. It favours many parts."""

    def __call__(self, scores: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Aggregator`."""
        return np.add.reduceat(scores, begins[:-1]) if len(begins) > 1 else scores[:0]


@dataclass(frozen=True, kw_only=True)
class Max(Aggregator):
    """The largest score of a part: for owners of which one part matters."""

    def __call__(self, scores: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Aggregator`."""
        return np.maximum.reduceat(scores, begins[:-1]) if len(begins) > 1 else scores[:0]


@dataclass(frozen=True, kw_only=True)
class TopMean(Aggregator):
    """The mean of the `m` largest scores; of all, where an owner has fewer parts. It forgives one odd part."""

    m: Annotated[int, AFTER_COLON] = 3

    def __post_init__(self) -> None:
        if self.m < 1:
            raise ConfigError("aggregate_scores.m", f"{self.m} parts", "use at least 1")

    def __call__(self, scores: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Aggregator`."""
        counts = np.minimum(np.diff(begins), self.m)
        last, total = begins[1:] - 1, np.zeros(len(counts))
        sorted_scores = ordered(scores, begins)
        for place in range(int(counts.max(initial=0))):
            able = np.flatnonzero(counts > place)
            total[able] += sorted_scores[last[able] - place]
        return total / counts


@dataclass(frozen=True, kw_only=True)
class Quantile(Aggregator):
    """A quantile of the scores of the parts, `q` from 0 to 1; between two of them it is interpolated."""

    q: Annotated[float, AFTER_COLON] = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.q <= 1:
            raise ConfigError("aggregate_scores.q", f"{self.q}", "use a number from 0 to 1")

    def __call__(self, scores: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Aggregator`."""
        if len(begins) == 1:
            return scores[:0]
        sorted_scores = ordered(scores, begins)
        place = self.q * (np.diff(begins) - 1)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, np.diff(begins) - 1)
        below, above = sorted_scores[begins[:-1] + low], sorted_scores[begins[:-1] + high]
        values: NDArray[np.float64] = np.where(below == above, below, below + (above - below) * (place - low))
        return values
