"""Active testing: what a few items, drawn with known probabilities, say of the whole population that they come from.

The items of a population become known one after another. A *drawn* item was drawn with a known probability from those
that were unknown; every one of these could have been drawn. A *told* item became known in another way, nobody knows
with which probability: it counts as itself, and stands for no other. Before draw m let S be the known items, R the
number of unknown ones, N the population and q the probability of the item that was drawn. Then

    a_m = (Σ of the values in S + value of the drawn / q) / N

has the population's mean as its expectation, whatever was told before, and however q came about, as long as it depends
on nothing but what was known. The estimate is Σ c_m a_m with c_m in proportion to 1 / (R (R - 1)). Without told items
it is R_LURE of Farquhar, Gal and Rainforth (ICLR 2021), which Kossen, Farquhar, Gal and Rainforth (ICML 2021) test
models by; if draws are uniform, too, it is the plain mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Items of a population in the order in which they became known."""

    population: int
    """items in all"""
    remaining: NDArray[np.int64]
    """[n] items that were unknown before this one"""
    probability: Floats
    """[n] with which it was drawn; NaN for an item that was told"""
    least: Floats
    """[n] no unknown item had a lower probability then; NaN for an item that was told"""
    drawn: Booleans = field(init=False)
    """[n]"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "drawn", ~np.isnan(self.probability))

    def __len__(self) -> int:
        return len(self.remaining)

    @classmethod
    def uniform(cls, n: int, population: int) -> Sample:
        """Items that were drawn uniformly, without replacement.

        Args:
            n: how many were drawn.
            population: from how many.

        Returns:
            The sample.
        """
        left = population - np.arange(n, dtype=np.int64)
        return cls(population=population, remaining=left, probability=1 / left, least=1 / left)

    def weights(self) -> Floats:
        """What each item counts for: Σ weight · value estimates the population's mean without bias.

        Returns:
            [n], of mean 1 / n or so; where nothing was drawn, 1 / n, as of a uniform sample.
        """
        drawn, left = self.drawn, self.remaining.astype(np.float64)
        if not drawn.any():
            return np.full(len(self), 1 / max(len(self), 1))
        share = np.zeros(len(self))
        if (last := drawn & (self.remaining == 1)).any():  # nothing is unknown after it
            share[last] = 1.0
        else:
            share[drawn] = 1 / (left[drawn] * (left[drawn] - 1))
        share /= share.sum()
        later = share[::-1].cumsum()[::-1] - share
        own = np.zeros(len(self))
        own[drawn] = share[drawn] / self.probability[drawn]
        return np.asarray((own + later) / self.population)

    def answered_share(self, answered: Booleans) -> float:
        """The share of the population that people can answer, judged by the items [n] that have an answer."""
        weights = self.weights()
        share = 1 - float(weights[~answered].sum())
        return share if share > 0 else float(weights[answered].sum())

    def mean(self, value: Floats, answered: Booleans) -> float:
        """The mean of the items that can be answered: Σ weight · value / their share.

        Unbiased if every item has an answer. An item without one is left out, as if the population had it not.

        Args:
            value: [n], 0 where there is no answer.
            answered: [n].

        Returns:
            The mean, which may lie outside the values' range; NaN without an answer.
        """
        share = self.answered_share(answered)
        return float(self.weights() @ value) / share if share > 0 else float("nan")

    def ratio(self, value: Floats, base: Floats) -> float:
        """Σ weight · value / Σ weight · base; NaN where the base is nothing.

        Args:
            value: [n], 0 where there is no answer.
            base: [n], 0 where there is no answer.

        Returns:
            The ratio. Its numerator and its denominator are unbiased; itself, it is so for many draws.
        """
        weights = self.weights()
        below = float(weights @ base)
        return float(weights @ value) / below if below > 0 else float("nan")
