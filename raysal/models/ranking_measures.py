"""How well a score ranks the items that are looked for above the rest: for all items, or by weights for a sample.

The measures of a ranking are those of all ways to order equal scores, on average. A weight says how many items one
stands for; only the weights' proportions matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.models.active_testing import Sample
from raysal.models.intervals import LEVEL, Interval, ratio_interval, wilson

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]
TOP_SHARE = 0.01
"""What the top of a ranking is: the first hundredth of all items."""


class Ranked(NamedTuple):
    """A measure of a ranking, and how much each item moves it."""

    value: float
    """NaN where it is not defined: nothing is looked for, or everything is"""
    slope: Floats
    """[n] derivative in each weight; Σ weight · slope is 0"""


def auroc(scores: NDArray[np.floating], positive: Booleans, weights: Floats | None = None) -> float:
    """The area under the ROC curve: how often a positive item has a higher score than another one; equal is half.

    Args:
        scores: [n], higher is more wanted.
        positive: [n] whether an item is one of those looked for.
        weights: [n]; 1 unless given.

    Returns:
        The share; NaN without a positive item, or without another. O(n log n).
    """
    return ranked_auroc(scores, positive, weights).value


def average_precision(scores: NDArray[np.floating], positive: Booleans, weights: Floats | None = None) -> float:
    """The area under the curve of precision over recall, as a sum of steps: the mean precision at the positive items.

    The precision at an item is that of all items with at least its score. Takes what `auroc` takes.

    Returns:
        The area; NaN without a positive item. O(n log n). A random order gives about the share of positive items.
    """
    return ranked_average_precision(scores, positive, weights).value


def ranked_auroc(scores: NDArray[np.floating], positive: Booleans, weights: Floats | None = None) -> Ranked:
    """`auroc`, and its slope in each weight."""
    level, wanted, other = _by_level(scores, positive, weights)
    total, rest = wanted.sum(), other.sum()
    if not (total > 0 and rest > 0):
        return Ranked(float("nan"), np.zeros(len(scores)))
    below = (other.cumsum() - other / 2) / rest
    above = (wanted[::-1].cumsum()[::-1] - wanted / 2) / total
    value = float(wanted @ below / total)
    slope = np.where(positive, (below[level] - value) / total, (above[level] - value) / rest)
    return Ranked(value, slope)


def ranked_average_precision(scores: NDArray[np.floating], positive: Booleans, weights: Floats | None = None) -> Ranked:
    """`average_precision`, and its slope in each weight."""
    level, wanted, other = _by_level(scores, positive, weights)
    total = wanted.sum()
    if not total > 0:
        return Ranked(float("nan"), np.zeros(len(scores)))
    there = (wanted + other)[::-1].cumsum()[::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(there > 0, wanted[::-1].cumsum()[::-1] / there, 0.0)
        step = np.where(there > 0, wanted / there, 0.0)
    value = float(wanted @ precision / total)
    # More weight on an item changes the precision at every positive item at or below it.
    gain, loss = step.cumsum()[level], (step * precision).cumsum()[level]
    slope = (positive * (precision[level] - value + gain) - loss) / total
    return Ranked(value, np.asarray(slope))


def _by_level(
    scores: NDArray[np.floating], positive: Booleans, weights: Floats | None
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """The place of each item's score among the distinct ones, ascending, and the weight of both kinds at each."""
    distinct, level = np.unique(np.asarray(scores), return_inverse=True)
    each = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    level = level.reshape(-1)
    wanted = np.bincount(level, each * positive, len(distinct)).astype(np.float64)
    other = np.bincount(level, each * ~np.asarray(positive, bool), len(distinct)).astype(np.float64)
    return level.astype(np.int64), wanted, other


def membership(scores: NDArray[np.floating], ranking: NDArray[np.floating], k: int) -> Floats:
    """How far items are among the first k of a ranking. Where only some of several equal scores fit in, all do in part.

    Args:
        scores: [n] of the items.
        ranking: scores of all items that are ranked, in any order.
        k: how many come first.

    Returns:
        [n] in [0, 1].
    """
    if not 0 < k < len(ranking):
        return np.full(len(scores), float(k > 0))
    edge = np.partition(ranking, len(ranking) - k)[len(ranking) - k]
    above, level = int((ranking > edge).sum()), int((ranking == edge).sum())
    return np.where(scores > edge, 1.0, np.where(scores == edge, (k - above) / level, 0.0))


class Top(NamedTuple):
    """How the first items of a ranking do."""

    precision: float
    """share of them that is looked for"""
    recall: float
    """share of what is looked for that is among them"""
    attained: float
    """what they hold, as a share of the most that they could: of all that is looked for, or of their number. So it is
    the precision over the highest possible precision, and likewise the recall over the highest possible recall"""


def top_of_ranking(scores: NDArray[np.floating], positive: Booleans, k: int) -> Top:
    """Precision, recall, and what is attained of the possible, among the first k items. All items are known.

    Where found items leave the pool, give what is left: then fewer can be found, and `attained` is not lowered by it.

    Args:
        scores: [n].
        positive: [n].
        k: at least 1; all items where there are fewer.

    Returns:
        The three shares; NaN for recall and `attained` where nothing is looked for, and for all without an item.
    """
    count, k = int(np.sum(positive)), min(k, len(scores))
    hits = float(membership(scores, scores, k) @ np.asarray(positive, np.float64))
    nan = float("nan")
    return Top(hits / k if k else nan, hits / count if count else nan, hits / min(k, count) if k and count else nan)


def ranking_measures(
    scores: NDArray[np.floating],
    positive: Booleans,
    ranking: NDArray[np.floating],
    k: int,
    *,
    answered: Booleans | None = None,
    sample: Sample | None = None,
    level: float = LEVEL,
) -> tuple[dict[str, float], dict[str, Interval]]:
    """The measures of a ranking, judged by the items that people answered.

    The intervals are about the pool that the population is a uniform sample of. That of the prevalence is of
    `Sample.mean_interval`. The others are Wilson's with an effective number of answers (`effective_number`) and
    Student's t; in simulations with 2 to 400 positive answers they held the truth in 95 % of the cases, or more.

    Args:
        scores: [n] of the items that are known.
        positive: [n] whether an answer is one that is looked for; false where there is none.
        ranking: scores of the population, or of a uniform sample of it.
        k: how many items come first, of those in `ranking`.
        answered: [n]; all unless given.
        sample: how the items became known, in their order; a uniform sample unless given.
        level: of the intervals.

    Returns:
        By name: `auroc`, `auprc`, `prevalence`, and `precision`, `recall` and `attained` each `_at_k` and `_in_top`.
        A measure that is not defined is left out.
    """
    positive = np.asarray(positive, bool)
    answered = np.ones(len(scores), bool) if answered is None else answered
    weights = np.where(answered, 1.0 if sample is None else sample.weights(), 0.0)
    measures: dict[str, float] = {}
    intervals: dict[str, Interval] = {}

    def keep(name: str, found: Ranked, among: Sequence[Floats], factor: float = 1.0) -> None:
        """Keep a measure that is defined, with its interval. `among`: weights of the items that it is a share of."""
        if np.isfinite(found.value):
            measures[name] = value = min(1.0, max(0.0, found.value))
            few = min(_kish(one) for one in among)
            n = effective_number(found, weights, factor * few)
            intervals[name] = wilson(value, n, level, few=few)

    wanted = positive.astype(np.float64)
    if answered.any():
        measures["prevalence"], intervals["prevalence"] = mean_and_interval(wanted, answered, sample, level)
    keep("auroc", ranked_auroc(scores, positive, weights), (weights * positive, weights * ~positive), factor=2)
    keep("auprc", ranked_average_precision(scores, positive, weights), (weights * positive,))
    for name, first in (("at_k", k), ("in_top", max(1, round(TOP_SHARE * len(ranking))))):
        inside = membership(scores, ranking, first)
        keep(f"precision_{name}", _ratio(wanted * inside, inside, weights), (weights * inside,))
        keep(f"recall_{name}", _ratio(wanted * inside, wanted, weights), (weights * wanted,))
        # Where fewer are looked for than come first, all of them can be there, and else all that come first.
        limit = "recall" if measures.get("prevalence", 0.0) * len(ranking) < first else "precision"
        if (there := f"{limit}_{name}") in measures:
            measures[f"attained_{name}"], intervals[f"attained_{name}"] = measures[there], intervals[there]
    return measures, intervals


def mean_and_interval(
    value: Floats, answered: Booleans, sample: Sample | None, level: float = LEVEL
) -> tuple[float, Interval]:
    """The mean of a population over the items that people can answer, and an interval of the pool behind it.

    Of a uniform sample Wilson's interval. Of drawn items that of the population (`ratio_interval`), and beyond each of
    its ends the way from the population to the pool that it is a uniform sample of. What may go wrong is shared between
    the two steps, four fifths to the first.

    Args:
        value: [n] in [0, 1], 0 where there is no answer.
        answered: [n], at least one of them.
        sample: how the items became known, in their order; a uniform sample unless given.
        level: of the interval.

    Returns:
        The mean, within [0, 1], and the interval.
    """
    if sample is None or not sample.drawn.any():
        n = int(answered.sum())
        share = float(value.sum() / n)
        return share, wilson(share, n, level, counted=True)
    share = min(1.0, max(0.0, sample.mean(value, answered)))
    first, second = 1 - 0.8 * (1 - level), 1 - 0.2 * (1 - level)
    low, high = ratio_interval(sample, value, answered.astype(np.float64), whole=True, level=first)
    return share, (wilson(low, sample.population, second)[0], wilson(high, sample.population, second)[1])


def effective_number(found: Ranked, weights: Floats, most: float) -> float:
    """How many equal answers to yes-or-no questions say as much of a measure.

    By the infinitesimal jackknife the variance is Σ (weight · slope)², and n is what makes that of a share as large.

    Args:
        found: the measure.
        weights: [n], 0 where there is no answer.
        most: what it is at most. A measure may vary less by its slopes than it does, where few items decide it.

    Returns:
        The number.
    """
    terms, count = weights * found.slope, int((weights != 0).sum())
    variance = float(terms @ terms) * count / max(count - 1, 1)
    return min(most, found.value * (1 - found.value) / variance) if variance > 0 else most


def _ratio(value: Floats, base: Floats, weights: Floats) -> Ranked:
    """Σ weight · value / Σ weight · base, and its slope in each weight."""
    below = float(weights @ base)
    if not below > 0:
        return Ranked(float("nan"), np.zeros(len(weights)))
    share = float(weights @ value) / below
    return Ranked(share, (value - share * base) / below)


def _kish(weights: Floats) -> float:
    """How many items of one weight have as much (Kish 1965): (Σ w)² / Σ w²."""
    square = float(weights @ weights)
    return float(weights.sum()) ** 2 / square if square > 0 else 0.0
