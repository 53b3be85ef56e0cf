"""How a batch of a search is shared out among ways of finding, and how the shares follow what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from raysal.context import Yield

ROUNDS = 3
"""The last rounds whose labels count."""
POWER = 2
"""Shares go by this power of what a way finds over what all find together. With 1, a way that finds a third of what
another does keeps too much of a batch, and on Fashion-MNIST a search found up to a tenth less; with 3, hardly less than
with 2."""


def weights_of(shares: Mapping[str, float], yields: Sequence[Mapping[str, Yield]]) -> dict[str, float]:
    """What each way of finding weighs in the next batch.

    That is share · ((found + 1) / (expected + 1))² over the last rounds, all divided by their sum. What is expected is
    what the way would have found if its answers were finds as often as all answers of these rounds. So a way that finds
    more often than the others gets more; and while nothing is found, which says nothing of one way more than of
    another, they keep their shares. A rule that went by (found + 1) / (answered + 10) gave half of a batch to uncertain
    and novel items as soon as a rare class was hard, and found fewer (RESULTS.md, "Search").

    Args:
        shares: those at the start, by way; some may be 0.
        yields: what earlier rounds found by each way, the newest last.

    Returns:
        Weights by way, which add up to 1.
    """
    past = yields[-ROUNDS:]
    answered = sum(one.answered for each in past for one in each.values())
    rate = sum(one.found for each in past for one in each.values()) / max(answered, 1)
    weights = {}
    for way, share in shares.items():
        own = [each[way] for each in past if way in each]
        expected = rate * sum(one.answered for one in own)
        weights[way] = share * ((sum(one.found for one in own) + 1) / (expected + 1)) ** POWER
    total = sum(weights.values())
    return {way: weight / total for way, weight in weights.items()}


def without(way: str, weights: Mapping[str, float]) -> dict[str, float]:
    """The weights of the other ways, once this one has come to its end: in the same proportions, and they add up to 1.

    Args:
        way: that found all it can.
        weights: by way, above 0.

    Returns:
        Weights by way; empty where there is no other.
    """
    rest = {name: weight for name, weight in weights.items() if name != way}
    total = sum(rest.values())
    return {name: weight / total for name, weight in rest.items()}


def turns(weights: Mapping[str, float]) -> Iterator[str]:
    """Whose turn it is, without an end: each time that of the way which lags most behind its weight.

    Args:
        weights: by way, which add up to 1; ties go to the first.

    Yields:
        Ways. After k turns, each has had its weight times k, to within one or two.
    """
    taken = dict.fromkeys(weights, 0)
    count = 0
    while True:
        count += 1
        way = max(weights, key=lambda name: weights[name] * count - taken[name])
        taken[way] += 1
        yield way


def streak_of(way: str, yields: Sequence[Mapping[str, Yield]], most: int) -> int:
    """In how many rounds in a row, to the last, every answer to this way was a find; at most `most`."""
    streak = 0
    for each in reversed(yields):
        own = each.get(way)
        if streak == most or own is None or not own.answered or own.found < own.answered:
            break
        streak += 1
    return streak
