"""Slow versions of the strategies around other ones; `inner(ids, k)` gives the picks of the one inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

Inner = Callable[[list[int], int], list[int]]


def turns(counts: Sequence[int], k: int) -> list[int]:
    """Whose turn it is, k times: each class in order gives one while it has one."""
    left, out = list(counts), []
    while len(out) < k:
        for c in range(len(left)):
            if left[c] and len(out) < k:
                left[c] -= 1
                out.append(c)
    return out


def class_balanced(
    predicted: Sequence[int], labels: Sequence[int], ids: Sequence[int], k: int, inner: Inner
) -> list[int]:
    """Of items `ids` predicted to be of these classes; `labels` is how many labels each class has."""
    order = sorted(range(len(labels)), key=lambda c: (labels[c], c))
    members = {c: [id for id, p in zip(ids, predicted, strict=True) if p == c] for c in order}
    sequence = [order[turn] for turn in turns([len(members[c]) for c in order], k)]
    picks = {c: inner(members[c], sequence.count(c)) for c in set(sequence)}
    return [picks[c].pop(0) for c in sequence]


def skip_extremes(
    scores: dict[int, float], candidates: Sequence[int], low: str, high: str, k: int, inner: Inner
) -> tuple[list[int], list[int]]:
    """(picks, those let in again) of `candidates`; `scores` of all that is available."""
    n = len(scores)
    ordered = sorted(scores.values())
    lower = ordered[math.floor(Decimal(low) * n)]
    upper = ordered[n - 1 - math.floor((1 - Decimal(high)) * n)]
    within = [id for id in candidates if lower <= scores[id] <= upper]
    beyond = sorted((max(lower - scores[id], scores[id] - upper), id) for id in candidates if id not in within)
    again = [id for _, id in beyond[: max(k - len(within), 0)]]
    return inner(sorted(within + again), k), again
