"""Slow versions of the strategies around other ones; `inner(ids, k)` gives the picks of the one inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

from reference import tie_of

Inner = Callable[[list[int], int], list[int]]


def pcb_turns(
    labels: Sequence[int], candidates: Sequence[int], first: Sequence[int], k: int, *, exhausted: str
) -> list[int | None]:
    """The class of each of k picks by the published loop; None is a uniform draw.

    Again and again the class is taken that has the fewest labels and picks; of equally rare ones that of the lowest
    number in `first`. If it has no candidate left, published is a draw from all that is left, which changes no count;
    `next` leaves such classes out.
    """
    count, left, out = list(labels), list(candidates), []
    while len(out) < k:
        classes = [c for c in range(len(count)) if left[c] or exhausted == "uniform"]
        rarest = min(classes, key=lambda c: (count[c], first[c]))
        if left[rarest]:
            count[rarest] += 1
            left[rarest] -= 1
            out.append(rarest)
        else:
            out.append(None)
    return out


def class_balanced(
    predicted: Sequence[int],
    labels: Sequence[int],
    first: Sequence[int],
    ids: Sequence[int],
    k: int,
    inner: Inner,
    uniform: Sequence[int] = (),
    *,
    exhausted: str = "next",
) -> list[int]:
    """Of items `ids` predicted to be of these classes; `labels` is how many labels each class has.

    `uniform` is the order in which items are drawn from all.
    """
    members = {c: [id for id, p in zip(ids, predicted, strict=True) if p == c] for c in range(len(labels))}
    counts = [len(members[c]) for c in range(len(labels))]
    sequence = pcb_turns(labels, counts, first, k, exhausted=exhausted)
    picks = {c: inner(members[c], sequence.count(c)) for c in set(sequence) if c is not None}
    out = [picks[c].pop(0) for c in sequence if c is not None]
    return out + [id for id in uniform if id not in out][: k - len(out)]


def skip_extremes(
    scores: dict[int, float], candidates: Sequence[int], low: str, high: str, k: int, inner: Inner, ties: int
) -> tuple[list[int], list[int]]:
    """(picks, those let in again) of `candidates`; `scores` of all that is available."""
    n = len(scores)
    ordered = sorted(scores.values())
    lower = ordered[math.floor(Decimal(low) * n)]
    upper = ordered[n - 1 - math.floor((1 - Decimal(high)) * n)]
    within = [id for id in candidates if lower <= scores[id] <= upper]
    outside = {id: max(lower - scores[id], scores[id] - upper) for id in candidates if id not in within}
    beyond = sorted((gap, tie_of(ties, id), id) for id, gap in outside.items())
    again = [id for _, _, id in beyond[: max(k - len(within), 0)]]
    return inner(sorted(within + again), k), again
