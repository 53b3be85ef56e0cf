"""The orders in which items come up: the likeliest, the most uncertain, a random one, the most diverse.

An order is the best few thousand items by a score. One pass over the pool gives all of them, part by part, so that it
can be stopped. The pass also says which items are worth watching: the **candidates**, the best of every order. Their
vectors are kept in memory, as a small fleet. When a label moves the head, the candidates are scored anew in
milliseconds by the same function, and the order follows; the whole pool follows later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raysal.context import LabelledVectors, RoundContext
from raysal.fleet import Fleet, LocalFleet, Partition, exclude, features_of, keep, use_features
from raysal.models.head import Head
from raysal.numerics import ceil_div
from raysal.pool import Pool
from raysal.rng import derive
from raysal.rounds.gathering import gather_vectors
from raysal.scoring.inputs import score_inputs
from raysal.scoring.novelty.base import FittedNovelty, novelty_of
from raysal.scoring.novelty.field import NEAREST
from raysal.scoring.registry import SCORES
from raysal.scoring.row_values import row_values
from raysal.scoring.sweep import BINS, Sweep, SweepRequest, merge_sweeps, sample_available, sweep_partition
from raysal.scoring.top_k import BestItems, best_of, best_of_parts
from raysal.strategies.base import select
from raysal.strategies.coverage.coreset import CoreSet

LENGTH = 4_000
"""Items of an order."""
DIVERSE, DIVERSE_OF = 200, 1_000
"""Items of the diverse order, and how many of the best by each score they are chosen from."""
PART_ROWS = 1 << 20
"""Rows that a pass reads between two looks whether it shall stop: about half a second on two cores."""
NOVEL_ROWS = 1 << 15
"""Rows of a part of the pass for novelty: about a second on two cores, of 1,280 numbers."""
MOST_CENTRES = 2_000
"""Labelled items that the diverse order keeps away from."""
NOTHING: BestItems = (np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What is known of the order of things at one moment. It never changes: a new one takes its place."""

    lists: Mapping[str, BestItems] = field(default_factory=dict)
    """by the name of the order: ids and scores, best first"""
    scores: Mapping[str, str] = field(default_factory=dict)
    """the score that each order is by"""
    probabilities: BestItems = NOTHING
    """ids, ascending, and the probability that each is of a class that is looked for"""
    histograms: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """by score, over the whole pool: counts in bins over [0, 1]"""
    labelled: Mapping[str, BestItems] = field(default_factory=dict)
    """by score: ids of labelled items, and the number of each"""
    head_version: int | None = None
    labels: int = 0
    """items that the head was made of"""
    seq: int = 0
    """the ledger's last event that the head has taken in"""

    def probability_of(self, id: int) -> float | None:
        """The probability of an item; None where it is no candidate."""
        return self.probabilities_of(np.array([id], np.int64))[0]

    def probabilities_of(self, ids: NDArray[np.int64]) -> list[float | None]:
        """The probabilities of items [n]; None for those that are no candidates."""
        known, values = self.probabilities
        if not len(known):
            return [None] * len(ids)
        place = np.searchsorted(known, ids).clip(max=len(known) - 1)
        there = known[place] == ids
        pairs = zip(values[place].tolist(), there.tolist(), strict=True)
        return [value if is_there else None for value, is_there in pairs]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The items whose order follows every label, and their vectors in memory."""

    ids: NDArray[np.int64]
    """ascending"""
    fleet: Fleet
    """of one partition in this process"""


def scores_of(head: Head, target: Sequence[str]) -> dict[str, str]:
    """The score of each order that a head allows: {order: score}."""
    likelihood = head.likelihood
    found = {"likeliest": "log_odds"} if target and likelihood.discrete else {}
    return {**found, "uncertain": likelihood.usual_score}


def asked_of(head: Head, target: Sequence[str], top: int, ties: int) -> SweepRequest:
    """What a pass is asked for."""
    scores = scores_of(head, target)
    also = ("probability",) if "likeliest" in scores else ()
    return SweepRequest(scores=(*scores.values(), *also), top=top, ties=ties)


def sweep_in_parts(
    fleet: Fleet,
    head: Head,
    request: SweepRequest,
    target: Sequence[str],
    rows: int,
    tell: Callable[[int, int], bool],
    begin: Callable[[], object],
) -> Sweep:
    """One pass over the pool, in parts. What it finds is what `raysal.scoring.sweep.sweep` finds.

    Args:
        fleet: the pool's partitions, in a program; what must not be offered is taken out.
        head: what predicts.
        request: what is asked for.
        target: the classes that are looked for.
        rows: of the pool.
        tell: called before each part with (parts done, parts); whether it used the fleet for something else. What it
            raises ends the pass.
        begin: brings the fleet into the program of the pass again, after something else.

    Returns:
        What was found.
    """
    inputs = score_inputs(head, request.scores, target=target, key=derive(request.key, "scores"))
    parts = max(1, ceil_div(rows, PART_ROWS * fleet.size))
    found: list[Sweep] = []
    for part in range(parts):
        if used := tell(part, parts):
            begin()
        if used or part == 0:
            fleet.each(use_features, head.hidden_layer)
        found += fleet.each(sweep_partition, inputs, request, part, parts)
    return merge_sweeps(found, request)


def gather_candidates(fleet: Fleet, pool: Pool, ids: NDArray[np.int64]) -> Candidates:
    """Read the vectors of items [n], in any order, into memory. One round trip."""
    ids = np.unique(ids)
    vectors = gather_vectors(fleet, pool.dim, ids).astype(np.float16)
    return Candidates(ids=ids, fleet=LocalFleet.of(Partition.of_items(ids, vectors, pool.metric)))


def read_vectors(fleet: Fleet, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The vectors of items that the pool has: their ids [n], ascending, and float32 [n, d]. One round trip."""
    found, vectors = (
        np.concatenate(parts) for parts in zip(*fleet.each(features_of, np.unique(ids), None), strict=True)
    )
    order = np.argsort(found)
    return found[order], vectors[order].astype(np.float32)


def order_candidates(
    candidates: Candidates, head: Head, target: Sequence[str], taken: NDArray[np.int64], ties: int
) -> tuple[dict[str, BestItems], BestItems]:
    """The candidates in the order of each score: the same numbers, to the last bit, as a pass over the pool gives.

    Args:
        candidates: the items.
        head: the head of now.
        target: the classes that are looked for.
        taken: ids of items that are not offered any more; they keep a probability, and have no place in an order.
        ties: key of the hash that orders items of equal score.

    Returns:
        The lists by the name of the order; and the probability of every candidate, by ascending id.
    """
    fleet, ids = candidates.fleet, candidates.ids
    fleet.reset()
    fleet.each(use_features, head.hidden_layer)
    names = asked_of(head, target, 0, ties).scores
    inputs = score_inputs(head, names, target=target)
    rows = np.arange(len(ids))
    values = {name: fleet.each(row_values, inputs, rows, SCORES[name])[0] for name in names}
    free = ~np.isin(ids, taken)
    lists = {
        order: best_of(ids[free], values[score][free], min(LENGTH, int(free.sum())), ties=ties)
        for order, score in scores_of(head, target).items()
    }
    return lists, (ids, values["probability"]) if "probability" in values else NOTHING


def choose_diverse(
    candidates: Candidates,
    lists: Mapping[str, BestItems],
    labelled: LabelledVectors,
    taken: NDArray[np.int64],
    pool: Pool,
    key: int,
) -> BestItems:
    """The most diverse of the best: k-center picks from the labelled items on (`CoreSet`).

    Args:
        candidates: the items; those at the head of a list may be picked.
        lists: the orders by score.
        labelled: the centres that are there already.
        taken: ids that may not be picked.
        pool: the pool.
        key: of `raysal.rng`.

    Returns:
        Ids and squared distances to what was covered before, in pick order.
    """
    fleet = candidates.fleet
    best = np.unique(np.concatenate([ids[:DIVERSE_OF] for ids, _ in lists.values()])) if lists else candidates.ids
    fleet.reset()
    fleet.each(exclude, taken)
    left = sum(fleet.each(keep, best))
    if left == 0:
        return NOTHING
    context = RoundContext(
        head=None, labelled=labelled, pool=pool, k=min(DIVERSE, left), available=left, key=key, pool_scale=pool.scale
    )
    picks = select(fleet, CoreSet(), context, context.k)
    return picks.ids, picks.scores


@dataclass(frozen=True, kw_only=True)
class Novel:
    """How unlike the rest of the pool its items are. No label changes it."""

    fitted: FittedNovelty
    best: BestItems
    histogram: NDArray[np.int64]
    """[BINS] over [0, 1], of what could be offered when it was made"""

    def of(self, fleet: Fleet, ids: NDArray[np.int64]) -> BestItems:
        """Ids [n], ascending, and their novelties. One round trip."""
        ids, scores = (np.concatenate(column) for column in zip(*fleet.each(novelty_of, self.fitted, ids), strict=True))
        order = np.argsort(ids)
        return ids[order], scores[order]


class NovelPass:
    """A pass over the pool for the items least like the rest of it, part by part, as the strategy `novelty` has them.

    It is long (a million rows of 1,280 numbers: a minute on two cores), so it yields to everything between two parts.
    """

    def __init__(self, fleet: Fleet, rows: int, key: int) -> None:
        """Learn what the pool looks like. A few round trips.

        Args:
            fleet: the pool's partitions, in a program; what must not be offered is taken out.
            rows: of the pool.
            key: of `raysal.rng`.
        """
        self._fitted, self._ties = NEAREST.part.fit(fleet, derive(key, "novelty")), derive(key, "ties")
        self.done, self.parts = 0, max(1, ceil_div(rows, NOVEL_ROWS * fleet.size))
        self._best: list[BestItems] = []
        self._histogram = np.zeros(BINS, np.int64)

    def step(self, fleet: Fleet) -> Novel | None:
        """Look through the next part, in the program of before; what was found, after the last one."""
        found = fleet.each(novel_here, self._fitted, LENGTH, self._ties, self.done, self.parts)
        self._best = [best_of_parts([*self._best, *(best for best, _ in found)], LENGTH, ties=self._ties)]
        self._histogram += np.sum([counts for _, counts in found], axis=0)
        self.done += 1
        if self.done < self.parts:
            return None
        return Novel(fitted=self._fitted, best=self._best[0], histogram=self._histogram)


def novel_here(
    partition: Partition, fitted: FittedNovelty, m: int, ties: int, part: int, parts: int
) -> tuple[BestItems, NDArray[np.int64]]:
    """The most novel candidates of one part of a partition, and how many have which novelty: [BINS] over [0, 1]."""
    rows, n = partition.candidates(), len(partition)  # cut by place: what is offered changes between two parts
    rows = rows[np.searchsorted(rows, n * part // parts) : np.searchsorted(rows, n * (part + 1) // parts)]
    scores = fitted.scores(partition, rows)
    bins = (scores * BINS).astype(np.int64).clip(0, BINS - 1)
    return best_of(partition.ids[rows], scores, m, ties=ties), np.bincount(bins, minlength=BINS)


def random_order(fleet: Fleet, key: int) -> BestItems:
    """A uniform sample of what may be offered. One round trip."""
    ids = sample_available(fleet, key, LENGTH)
    return ids, np.zeros(len(ids), np.float32)


def without(items: BestItems, taken: NDArray[np.int64]) -> BestItems:
    """The items that are not taken, in their order."""
    free = ~np.isin(items[0], taken)
    return items[0][free], items[1][free]
