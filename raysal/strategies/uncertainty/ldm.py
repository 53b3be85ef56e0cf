"""LDM-S: the items whose predicted class the smallest disturbance of the head changes, and unlike one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition
from raysal.numerics import one_thread, padded
from raysal.rng import derive, item_gumbel, item_uniform
from raysal.scoring.top_k import BestItems, best_of, best_of_parts
from raysal.strategies.base import Picks, Selector, position_of
from raysal.strategies.engine.dense import NOTHING, CandidateRows, Proposal, best_proposal
from raysal.strategies.engine.ranking import first_of_largest
from raysal.strategies.uncertainty.disagreement import STATE as METRICS
from raysal.strategies.uncertainty.disagreement import Metrics, measure

UNITS_OF_ONE = 2**30
"""Weights are whole multiples of 1 / UNITS_OF_ONE: their sum is exact in any order, and less is none."""
LEAST_LENGTH = 1e-300
"""What no product of lengths is below, where it is divided by."""
COINCIDENT_DISTANCE = 1e-12
"""Cosine distances up to this are of equal directions, and rounding."""
BELOW_EVERY_RACE = -1e3
"""What is added to the hash of an item that is not in the race, so that its value is below those of all that are."""


@dataclass(frozen=True, kw_only=True)
class Ldm(Selector):
    """LDM-S (Cho et al., "Querying Easily Flip-flopped Samples for Deep Active Learning", ICLR 2024).

    An item's least disagree metric is the smallest share of all candidates whose predicted class changes, over the
    disturbed heads that change its own; with several labels at once, whose set of labels changes. A head is disturbed
    along a random direction, by each of 81 sizes. Directions are tried until `patience` of them in a row have lowered
    no candidate's metric, `directions` at most: with many candidates there is always one more to lower.

    Two things are not as published. There each of 51 sizes, 10^-5 to 1, has draws of its own, until ten in a row lower
    nothing: 510 at least, and 3,700 to 8,800 on digits and on 4,000 made-up rows. Here one direction serves all sizes,
    as its product with the pool tells what happens at each. It is harmless: metrics rank these items as the published
    ones do (rank correlation 0.97 and 0.98) about as closely as two runs of the published ones rank them alike (0.98
    and 0.99), in a fiftieth of the time (`benchmarks.information --parts ldm`). And sizes are in units of the root mean
    square of the weights, and go up to 10^3 (see disagreement.py).

    The first pick has the smallest metric L. Then samples in proportion to (g · least cosine distance to a pick)²: g =
    1 for the k smallest, and exp(-(L - L_k) / L_k) for the others, scaled so that they add up to k, at most 1 each.
    Each pick is the winner of a race by a hash of (key, pick, item). The score of a pick is its metric. Copies of
    picks, and items of no weight, come last, a uniform sample; the reason says so.

    Needs a head that predicts labels; no posterior. Two round trips and one reading of the vectors, O(n d C), for each
    tile of directions (4 with 10 classes), then O(m d) and a round trip a pick, m items of weight. Memory a row 16
    bytes, and a byte for each direction of a tile; 8 d a row of weight. Directions come of the key alone, and counts
    are added up over partitions, so metrics do not depend on them. k decides the weights: no prefix property. Ignores
    labels.
    """

    directions: Annotated[int, Field(ge=1)] = 128
    patience: Annotated[int, Field(ge=1)] = 10

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Measure the candidates, weigh them, and sample k, one after the other."""
        candidates = measure(
            fleet,
            context.linear(several=True),
            derive(context.key, "directions"),
            directions=self.directions,
            patience=self.patience,
        )
        ties = context.ties
        smallest, negated = best_of_parts(fleet.each(smallest_metrics, k, ties), k, ties=ties)
        others = sum(fleet.each(weigh, smallest, round(-negated[-1])))
        scale = k * UNITS_OF_ONE / max(others, 1)
        picks = [best_proposal(fleet.each(start, scale, derive(context.key, "spare"), ties))]
        while len(picks) < k:
            last, key = picks[-1], derive(context.key, "race", len(picks))
            picks.append(best_proposal(fleet.each(add_pick, last.id, last.vector, key)))
        metrics = np.array([pick.extra[0] for pick in picks]) / candidates
        raced = [True, *(pick.value > BELOW_EVERY_RACE + 1 for pick in picks[1:])]
        return Picks(
            ids=np.array([pick.id for pick in picks]),
            scores=metrics,
            reasons=tuple(
                f"flips with {metric:.2%} of the candidates" if won else "like a pick, or of no weight; uniform"
                for metric, won in zip(metrics, raced, strict=True)
            ),
        )


@dataclass
class _Candidates:
    rows: CandidateRows
    """the m candidates of weight"""
    metric: torch.Tensor
    """[m, 1]"""
    weight: torch.Tensor
    """[m] g; 0 once picked"""
    norms: torch.Tensor
    """[m]"""
    nearest: torch.Tensor
    """[m] cosine distance to the nearest pick"""
    leftover: NDArray[np.float64]
    """[n] of every candidate, its value where no row of weight is left; -inf once picked"""


# Functions of a partition, after `disagreement.measure`.


def smallest_metrics(partition: Partition, k: int, ties: int) -> BestItems:
    """The k candidates of smallest metric here; the value is minus the metric."""
    state: Metrics = partition.state[METRICS]
    return best_of(state.ids, -state.metric.astype(np.float64), k, ties=ties)


def weigh(partition: Partition, smallest: NDArray[np.int64], edge: int) -> int:
    """Weigh the candidates by how far their metrics are beyond that of the k-th smallest.

    Args:
        partition: where they live.
        smallest: ids of the k candidates of smallest metric in the pool.
        edge: the metric of the k-th.

    Returns:
        The sum of the weights of all others here, in units (`UNITS_OF_ONE`).
    """
    state: Metrics = partition.state[METRICS]
    units = np.rint(UNITS_OF_ONE * np.exp(-np.maximum(state.metric - edge, 0) / edge)).astype(np.int64)
    among = np.isin(state.ids, smallest)
    partition.state["weights"] = units, among
    return int(units[~among].sum())


def start(partition: Partition, scale: float, key: int, ties: int) -> Proposal:
    """Keep the rows of weight, and propose that of smallest metric.

    Args:
        partition: where the candidates live.
        scale: of the weights of those that are not among the k smallest.
        key: key of `raysal.rng` for the order of what comes last.
        ties: key of the hash that orders items of equal metric.

    Returns:
        The best here; `extra` is its metric.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    state: Metrics = partition.state[METRICS]
    units, among = partition.state.pop("weights")
    weight = np.where(among, 1.0, np.minimum(units / UNITS_OF_ONE * scale, 1.0))
    some = np.flatnonzero(weight > 0)
    rows = CandidateRows(partition, state.rows[some], ties=ties)
    norms = rows.sq_norms().sqrt()
    metric = torch.from_numpy(state.metric[some]).to(partition.device).double()[:, None]
    partition.state["ldm"] = _Candidates(
        rows=rows,
        metric=metric,
        weight=torch.from_numpy(weight[some]).to(partition.device),
        norms=norms,
        nearest=torch.full_like(norms, torch.inf),
        leftover=BELOW_EVERY_RACE + item_uniform(key, state.ids),
    )
    return rows.proposal_of(-metric[:, 0], metric)


def propose(partition: Partition, key: int) -> Proposal:
    """The winner of a race in which each row runs at the rate (g · nearest)²; without any, the first that is left.

    Args:
        partition: where the candidates live.
        key: key of `raysal.rng` for this pick.

    Returns:
        The winner here; `extra` is its metric, and `vector` is empty where it was not in the race.
    """
    metrics: Metrics = partition.state[METRICS]
    state: _Candidates = partition.state["ldm"]
    noise = torch.from_numpy(item_gumbel(key, state.rows.ids))
    with one_thread():
        rate = state.weight * state.nearest
        race = torch.where(rate > 0, 2 * rate.log() + noise.to(rate.device), -torch.inf)
    winner = state.rows.proposal_of(race, state.metric)
    if winner.id >= 0 or len(metrics.ids) == 0:
        return winner
    first, tie = first_of_largest(torch.from_numpy(state.leftover), metrics.ids, state.rows.ties)
    if state.leftover[first] == -np.inf:
        return NOTHING
    extra = np.array([float(metrics.metric[first])])
    return Proposal(float(state.leftover[first]), int(metrics.ids[first]), np.empty(0), extra, tie)


def add_pick(partition: Partition, item: int, vector: NDArray[np.float64], key: int) -> Proposal:
    """Take a pick into the distances of the rows of weight, and propose the next.

    Args:
        partition: where the candidates live.
        item: id of the pick, which may live elsewhere.
        vector: its float64 [d]; empty where it was not in the race.
        key: key of `raysal.rng` for the next pick.

    Returns:
        As `propose`.
    """
    state: _Candidates = partition.state["ldm"]
    if len(vector):
        pick = padded(vector[None], partition.width, torch.float64, partition.device)[0]
        (inner,) = state.rows.products(pick)
        with one_thread():
            length = pick.norm()
            cosine = inner / (state.norms * length).clamp_min(LEAST_LENGTH)
            distance = ((state.norms > 0).double() + float(length > 0)) / 2 - cosine
            distance[distance <= COINCIDENT_DISTANCE] = 0.0
            torch.minimum(state.nearest, distance, out=state.nearest)
    metrics: Metrics = partition.state[METRICS]
    place = position_of(metrics.ids, item)
    if place is not None:
        state.leftover[place] = -np.inf
    own = state.rows.place(item)
    if own is not None:
        state.weight[own] = 0.0
    return propose(partition, key)
