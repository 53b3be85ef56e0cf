"""Test draws: a share of each batch comes from the held-out items, drawn with known probabilities (active testing).

What is drawn measures the run and never trains it (`raysal.rounds.training_labels`), and what trains is never held out.
So the picks of a strategy cannot bias what is measured, and the held-out items are a uniform sample of the pool, so
that what is estimated of them is estimated of the pool.

The draws of a round are one after another, without replacement, in proportion to weights g = A + n a, where a is what
may matter of an item, as a whole number, A the sum of a over the n items that nobody knows yet. So the first is drawn
with q = 1/(2n) + a/(2A): half of it uniform. No item is ever less than half as likely as in a uniform draw, whatever
the head believes. The item that comes next is the one of largest log g + Gumbel number among what is left, which has
exactly the probability g / Σ g (Yellott 1977; Efraimidis and Spirakis 2006). All sums are of whole numbers, so that
probabilities are the same to the last bit for any partitions.

What may matter is the expected loss, as in the paper of Kossen et al.: the probability that the item is looked for,
where a run looks for classes, or else that the predicted class is wrong. Its root would make the variance least if the
probabilities were right and there was no uniform half (Sawade, Landwehr, Bickel and Scheffer, ICML 2010). Heads of a
search overstate, and then the root estimates worse (by 1.3 to 2 times on simulated scores, 2026-11) and finds half to a
third as many; for a head that is right at 0.1 % it estimates better. Without a head, and for numbers, draws are
uniform.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysal.errors import PoolExhausted
from raysal.features import HiddenLayer
from raysal.fleet import Fleet, Partition
from raysal.labels import Ledger
from raysal.models.head import Head
from raysal.rng import derive, item_gumbel, item_uniform
from raysal.rounds.draws import DrawnTests
from raysal.rounds.evaluation import lowest_held_out
from raysal.rounds.held_out import Half, HeldOut
from raysal.rounds.opening import OpenRun
from raysal.rounds.tested import read_tests
from raysal.scoring.inputs import ScoreInputs, score_inputs
from raysal.scoring.registry import SCORES
from raysal.scoring.row_values import row_values

STEPS = 2**20
"""What may matter of an item is a whole number up to this."""
STATE = "what may matter"
"""Name in a partition's state: ids int64 and whole numbers int64 of the held-out items that nobody knows."""


def weigh(
    partition: Partition,
    held_out: HeldOut,
    half: Half,
    known: NDArray[np.int64],
    inputs: ScoreInputs | None,
    score: str,
    hidden_layer: HiddenLayer | None,
) -> tuple[int, int, int]:
    """Find what may matter of the held-out items that nobody knows, and keep it here.

    Args:
        partition: where they live.
        held_out: the held-out items.
        half: which of them measure.
        known: int64, ascending ids of held-out items that cannot be drawn.
        inputs: what the score needs of the head; None for uniform draws.
        score: a name of `SCORES`.
        hidden_layer: of the head.

    Returns:
        How many items here are held out, how many of these nobody knows, and the sum of what may matter of them.
    """
    mine = held_out.among(partition.ids, half)
    population = int(mine.sum())
    mine[partition.rows_of(known)] = False
    rows = np.flatnonzero(mine)
    matters = np.zeros(len(rows), np.int64)
    if inputs is not None:
        partition.use_features(hidden_layer)
        values = row_values(partition, inputs, rows, SCORES[score]).astype(np.float64)
        # Scores of owners may be sums over their parts.
        matters = np.rint(values.clip(0, 1) * STEPS).astype(np.int64)
    partition.state[STATE] = partition.ids[rows], matters
    return population, len(rows), int(matters.sum())


def race(
    partition: Partition, key: int, total: int, count: int, most: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The items of a partition that would be drawn first.

    Args:
        partition: where `weigh` was called.
        key: of `raysal.rng`.
        total: the sum over all partitions of what may matter.
        count: the number of items that nobody knows, over all partitions.
        most: how many are drawn at most.

    Returns:
        Their log g + Gumbel numbers, ids and weights g, by the first of these.
    """
    ids, matters = partition.state[STATE]
    weights = total + count * matters if total else np.ones(len(ids), np.int64)
    order = np.log(weights.astype(np.float64)) + item_gumbel(key, ids)
    first = np.lexsort((ids, -order))[:most]
    return order[first], ids[first], weights[first]


def draw_tests(
    opened: OpenRun, ledger: Ledger, fleet: Fleet, head: Head | None, k: int, available: int
) -> DrawnTests | None:
    """Draw the tests of the next batch. Two round trips, or three where held-out items were told.

    Args:
        opened: the run.
        ledger: its labels.
        fleet: the pool's partitions. From here on they show features as the head's hidden layer makes them.
        head: of the round; None before the first label.
        k: items in the batch; 0 to draw none, and only say what is known.
        available: items that a strategy may pick.

    Returns:
        The draws; None where the run draws no tests.

    Raises:
        PoolExhausted: fewer than k items are left to offer, tests included.
    """
    config, held_out = opened.config, HeldOut.of(opened.config, opened.pool)
    if held_out is None or not config.rounds.tests:
        if k > available:
            raise PoolExhausted(wanted=k, available=available)
        return None
    half: Half = "measure" if opened.parts.learns_from_held_out else "all"
    recorded = read_tests(opened.run, ledger).ids
    out = ledger.excluded()
    told = np.setdiff1d(out[held_out.among(out, half)], recorded)
    known = np.union1d(recorded, told)
    score = "probability" if config.target else "least_confidence"
    inputs = None
    if k and head is not None and head.likelihood.discrete:
        inputs = score_inputs(head, (score,), target=config.target)
    layer = None if head is None else head.hidden_layer
    parts = fleet.each(weigh, held_out, half, known, inputs, score, layer)
    population, left, total = (sum(column) for column in zip(*parts, strict=True))
    in_turn = told[~ledger.asked(told)]  # no example: somebody chose it, and nothing that a round of another pool asked
    uniform = first_in_order(fleet, held_out, half, in_turn, known) if len(in_turn) else []
    rest = sorted(set(told.tolist()) - set(uniform))
    key = derive(config.seed, opened.run.rounds, "tests")
    count = number_of_tests(k, config.rounds.tests, key, available, left)
    ids, probability, least = draw(fleet, key, total, left, count)
    return DrawnTests(
        ids=ids,
        probability=probability,
        least=least,
        population=population,
        told=[*uniform, *rest],
        uniform=len(uniform),
        known=population - left,
    )


def draw(
    fleet: Fleet, key: int, total: int, left: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Draw items, where `weigh` was called. One round trip.

    Args:
        fleet: the pool's partitions.
        key: of `raysal.rng`.
        total: the sum of what may matter.
        left: the number of items that nobody knows.
        count: how many are drawn, at most `left`.

    Returns:
        Their ids, in the order of drawing; the probability of each; and the lowest that an item left could have.
    """
    found = fleet.each(race, key, total, left, count)
    order, ids, weights = (np.concatenate(column) for column in zip(*found, strict=True))
    first = np.lexsort((ids, -order))[:count]
    # Whole numbers of Python: the sum of all weights may not fit 64 bits.
    whole, floor = (2 * left * total, total) if total else (left, 1)
    probability, least = np.empty(count), np.empty(count)
    for place, weight in enumerate(weights[first].tolist()):
        probability[place], least[place] = weight / whole, floor / whole
        whole -= weight
    return ids[first], probability, least


def number_of_tests(k: int, share: float, key: int, available: int, left: int) -> int:
    """How many items of a batch are test draws: share · k on average, and never all of them.

    Args:
        k: items in the batch.
        share: of the batch.
        key: of `raysal.rng`; it decides whether share · k is rounded up.
        available: items that a strategy may pick.
        left: held-out items that nobody knows.

    Returns:
        The number.

    Raises:
        PoolExhausted: fewer than k items are left.
    """
    chance = float(item_uniform(key, np.zeros(1, np.int64))[0])

    def tests(size: int) -> int:
        return max(0, min(int(share * size + chance), size - 1, left))

    if k - tests(k) > available:
        sizes = range(min(k - 1, available + left), 0, -1)
        fitting = next((size for size in sizes if size - tests(size) <= available), 0)
        raise PoolExhausted(wanted=k, available=fitting)
    return tests(k)


def first_in_order(
    fleet: Fleet, held_out: HeldOut, half: Half, told: NDArray[np.int64], known: NDArray[np.int64]
) -> list[int]:
    """Those of the told items that are uniform draws: the first in the order in which items are given to people.

    Before the first item in that order that nobody knows, everything was taken in turn, by a hash that nobody chose.

    Args:
        fleet: the pool's partitions.
        held_out: the held-out items.
        half: which of them measure.
        told: int64, ids of items that were told.
        known: int64, those of all items that are known, `told` among them.

    Returns:
        Ids, in that order.
    """
    parts = fleet.each(lowest_held_out, held_out.key, held_out.share, half, len(known) + 1, held_out.owners)
    draws, ids = (np.concatenate(part) for part in zip(*parts, strict=True))
    taken, new, found = set(known.tolist()), set(told.tolist()), []
    for id in ids[np.lexsort((ids, draws))].tolist():
        if id not in taken:
            break
        if id in new:
            found.append(id)
    return found
