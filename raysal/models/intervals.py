"""Intervals for shares: of a uniform sample, and of draws with known probabilities, valid however often one looks."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from raysal.models.active_testing import Sample

Interval = tuple[float, float]
"""Its lower and its upper end."""
LEVEL = 0.95
"""How often an interval holds the truth, at least."""
_BETS = 2.0 ** -np.arange(13)
"""What is staked on each draw, as a share of the most that can be: [b]."""
_PRIOR = 1 / ((np.arange(13) + 1.0) * (np.arange(13) + 2.0))
"""The share of the capital that each stake begins with: 1/2, 1/6, 1/12 ... So the price of another halving is small."""
_PRIOR /= _PRIOR.sum()
_GRID = 1 / (1 + np.exp(-np.linspace(-14, 14, 57)))
"""Shares that are tried first: from 1e-6 to 1 - 1e-6, even in log odds."""
_HALVINGS = 30
_TINY = 1e-12


def wilson(
    share: float, n: float, level: float = LEVEL, *, few: float | None = None, counted: bool = False
) -> Interval:
    """The score interval of a share of n independent answers (Wilson, JASA 1927).

    Args:
        share: the share that was seen.
        n: answers; the effective number where they weigh differently. 0 says nothing.
        level: how often it is to hold the truth, about.
        few: how many answers the spread itself was estimated from, where it was. The interval is then wider, by
            Student's t in place of the normal distribution.
        counted: whether the share is of whole answers that count alike. Then half an answer is allowed for (Newcombe
            1998, method 4): with few of a kind the truth would be missed in one case of ten, without.

    Returns:
        The interval, within [0, 1]. With a share of 0 its end is about 3.8 / n.
    """
    if not n > 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    if few is not None:  # the first terms of its expansion (Hill 1970); from 1.5 degrees of freedom it is near enough
        degrees = max(few - 1, 1.5)
        z += (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    z2 = z * z
    if counted:
        spread, tilt = z2 - 1 / n + 4 * n * share * (1 - share), 4 * share - 2
        ends = [side * (z * max(0.0, spread - side * tilt) ** 0.5 + 1) for side in (-1, 1)]
        low, high = ((2 * n * share + z2 + end) / (2 * (n + z2)) for end in ends)
        return (max(0.0, low) if share > 0 else 0.0), (min(1.0, high) if share < 1 else 1.0)
    middle, room = share + z2 / (2 * n), (z2 * (share * (1 - share) / n + z2 / (4 * n * n))) ** 0.5
    return max(0.0, (middle - room) / (1 + z2 / n)), min(1.0, (middle + room) / (1 + z2 / n))


def ratio_interval(
    sample: Sample, value: NDArray[np.float64], base: NDArray[np.float64], *, whole: bool, level: float = LEVEL
) -> Interval:
    """An interval for Σ value / Σ base over a population, of which items were drawn with known probabilities.

    Without any assumption about what was not drawn, and for all numbers of draws at once: one may look after each, and
    stop when one likes what one sees (a confidence sequence). Someone who bets on a value θ that is true cannot expect
    to win: the capital Π (1 + λ Z_t(θ)) is a martingale, where Z_t estimates Σ (value - θ base) without bias. So it
    reaches 1 / (1 - level) with a probability of 1 - level at most, and each θ for which it has can be left out
    (Waudby-Smith and Ramdas, JRSS B 2024; for unequal probabilities without replacement Shekhar, Xu, Lipton, Liang and
    Ramdas, UAI 2023). The stake λ is a mixture of fixed parts of the largest that cannot ruin, half of it on either
    side. Compared with an interval for one look it is about 1.5 times as wide.

    Args:
        sample: the draws.
        value: [n] in [0, base], 0 where there is no answer.
        base: [n] in [0, 1], 0 where there is no answer.
        whole: whether the base is every item that can be answered. Then an item without an answer counts like the
            mean, and no more noise comes from the draws' own shares.
        level: with which probability it holds the truth, at least.

    Returns:
        The interval, within [0, 1]; all of it without a draw. O(n) for each of a hundred values of θ.
    """
    drawn = sample.drawn
    if not drawn.any():
        return 0.0, 1.0
    count = sample.population
    known_value, known_base = (np.cumsum(column)[drawn] - column[drawn] for column in (value, base))
    known = np.flatnonzero(drawn).astype(np.float64)
    weight, most = 1 / sample.probability[drawn], 1 / sample.least[drawn]
    own_value, own_base = value[drawn], base[drawn]

    def is_left(theta: float) -> bool:
        """Whether nobody could have won much by betting on this value."""
        if whole:
            own, rest = own_value + theta * (1 - own_base), known_value + theta * (known - known_base)
            low, high = rest / count - theta, (most + rest) / count - theta
            gain = (own * weight + rest) / count - theta
        else:
            rest = known_value - theta * known_base
            low, high = (rest - theta * most) / count, (rest + (1 - theta) * most) / count
            gain = ((own_value - theta * own_base) * weight + rest) / count
        with np.errstate(divide="ignore"):
            logs = [
                np.log(np.maximum(1 + _BETS[:, None] * (sign * gain / np.maximum(bound, _TINY)), 0)).sum(axis=1)
                for sign, bound in ((1, -low), (-1, high))
            ]
        wealth = np.concatenate(logs) + np.log(np.tile(_PRIOR, 2) / 2)
        top = wealth.max()
        return bool(top + np.log(np.exp(wealth - top).sum()) < -np.log(1 - level))

    left = [theta for theta in _GRID.tolist() if is_left(theta)]
    if not left:
        guess = sample.mean(value, base > 0) if whole else sample.ratio(value, base)
        guess = min(1.0, max(0.0, guess)) if np.isfinite(guess) else 0.5
        left = [guess] if is_left(guess) else []
    if not left:
        return 0.0, 1.0  # only if the draws are not what is recorded of them
    ends = []
    for inside, outside in ((left[0], 0.0), (left[-1], 1.0)):
        beyond = [theta for theta in _GRID.tolist() if (theta < inside) == (outside == 0.0) and theta != inside]
        edge = (max(beyond) if outside == 0.0 else min(beyond)) if beyond else outside
        ends.append(edge if edge == outside and is_left(edge) else _between(inside, edge, is_left))
    return ends[0], ends[1]


def _between(inside: float, outside: float, is_left: Callable[[float], bool]) -> float:
    """The end of what is left between a value that is left and one that is not, rounded outwards."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if is_left(middle) else (inside, middle)
    return outside
