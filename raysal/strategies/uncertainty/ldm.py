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
from raysal.models.likelihood import Likelihood
from raysal.numerics import one_thread, padded
from raysal.rng import derive, generator, item_uniform
from raysal.scoring.linear import Linear
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.top_k import BestItems, best_of, best_of_parts
from raysal.strategies.base import Picks, Selector, count_candidates
from raysal.strategies.engine.dense import NOTHING, CandidateRows, Proposal, best_proposal

DECADES, STEPS = (-5, 3), 10
"""Sizes of a disturbance: 10^-5 ... 10^3 in ten steps a decade, 81 in all, in units of the root mean square of the
head's weights. Published are 10^-5 to 1, of weights as they are; but in many dimensions a random direction must be far
longer than the weights to turn a sure prediction, and features may have any scale."""
SIZES = (DECADES[1] - DECADES[0]) * STEPS + 1
COLUMNS = 320
"""Columns of a product with directions, about: as many whole directions as fit, from 2 to 32."""
UNIT = 2**30
"""Weights of the seeding are whole multiples of 1 / UNIT: their sum is exact in any order, and less is none."""
TINY = 1e-300
"""What no length is below, where it is divided by."""
COINCIDENT = 1e-12
"""Cosine distances up to this are of equal directions, and rounding."""
SPARE = -1e3
"""Below every race: where rows without weight stand, by their hash."""


@dataclass(frozen=True, kw_only=True)
class Ldm(Selector):
    """LDM-S (Cho et al., "Querying Easily Flip-flopped Samples for Deep Active Learning", ICLR 2024).

    An item's least disagree metric is the smallest share of all candidates whose predicted class changes, over the
    disturbed heads that change its own; with several labels at once, whose set of labels changes. A head is disturbed
    along a random direction, by each of 81 sizes. A prediction that has been left along a ray never returns, so one
    product tells what happens at every size, and a direction counts for all of them; published are draws of their own
    for each size. Directions are tried until `patience` of them in a row have lowered no candidate's metric,
    `directions` at most: with many candidates there is always one more to lower.

    The first pick has the smallest metric L. Then draws in proportion to (g · least cosine distance to a pick)²: g = 1
    for the k smallest, and exp(-(L - L_k) / L_k) for the others, scaled so that they add up to k, at most 1 each. Draws
    are races by a hash of (key, pick, item). The score of a pick is its metric. Copies of picks, and items of no
    weight, come last, a uniform draw; the reason says so.

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
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        total = self._measure(fleet, context.linear(several=True), derive(context.key, "directions"))
        ids, least = best_of_parts(fleet.each(least_disagreeing, k), k)
        others = sum(fleet.each(weigh, ids, round(-least[-1])))
        picks = [best_proposal(fleet.each(seed, k * UNIT / max(others, 1), derive(context.key, "spare")))]
        while len(picks) < k:
            last = picks[-1]
            picks.append(
                best_proposal(fleet.each(follow, last.id, last.vector, derive(context.key, "race", len(picks))))
            )
        metrics = np.array([pick.extra[0] for pick in picks]) / total
        spare = [pick.value <= SPARE + 1 for pick in picks]
        spare[0] = False
        return Picks(
            ids=np.array([pick.id for pick in picks]),
            scores=metrics,
            reasons=tuple(
                "like a pick, or of no weight; uniform" if left else f"flips with {metric:.2%} of the candidates"
                for metric, left in zip(metrics, spare, strict=True)
            ),
        )

    def _measure(self, fleet: Fleet, head: Linear, key: int) -> int:
        """Have every candidate's metric taken, in items; returns how many candidates there are."""
        total = sum(fleet.each(count_candidates))
        fleet.each(begin, total)
        tile = min(max(COLUMNS // len(head.bias), 2), 32)
        done = quiet = 0
        while done < self.directions and quiet < self.patience:
            count = min(tile, self.directions - done)
            disagree = np.sum(fleet.each(disturb, head, key, done, count), axis=0).cumsum(1)
            lowered = np.any(fleet.each(lower, disagree), axis=0)
            for place in range(count):
                quiet = 0 if lowered[place] else quiet + 1
                if quiet == self.patience:
                    fleet.each(lower, disagree[: place + 1])  # what came after counts for nothing
                    break
            done += count
        return total


# Functions of a partition.


@dataclass
class _Metrics:
    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    before: NDArray[np.int64]
    """the metric of each candidate before the last tile of directions, in items"""
    metric: NDArray[np.int64]
    """and with it"""
    sizes: NDArray[np.uint8]
    """[directions of the last tile, n], the first size that changes the class; SIZES if none does"""


def begin(partition: Partition, total: int) -> None:
    """Every candidate disagrees with all there are until a direction is found."""
    rows = partition.candidates()
    metric = np.full(len(rows), total)
    partition.state["metrics"] = _Metrics(rows, partition.ids[rows], metric, metric, np.empty((0, len(rows)), np.uint8))


def directions_of(head: Linear, key: int, first: int, count: int) -> NDArray[np.float64]:
    """[count, C, d + 1], each a function of the key and its number; a step of 1 is as long as the head's weights."""
    weights = np.column_stack([head.weight, head.bias])
    length = np.sqrt((weights**2).mean()) or 1.0
    numbers = range(first, first + count)
    return length * np.stack([generator(derive(key, number)).standard_normal(weights.shape) for number in numbers])


def disturb(partition: Partition, head: Linear, key: int, first: int, count: int) -> NDArray[np.int64]:
    """Find the size at which each direction of a tile changes each candidate's class; returns how many change at each
    [count, sizes + 1], the last for never.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    state: _Metrics = partition.state["metrics"]
    state.before = state.metric
    device, classes = partition.device, len(head.bias)
    sides = np.concatenate([np.column_stack([head.weight, head.bias])[None], directions_of(head, key, first, count)])
    flat = sides.reshape(-1, partition.dim + 1)
    weights = partition.aligned(flat[:, :-1])
    bias = torch.from_numpy(flat[:, -1].astype(np.float32)).to(device)[:, None]
    state.sizes = np.empty((count, len(state.rows)), np.uint8)
    done = 0
    for block in partition.blocks(state.rows):
        product = weights.products(block.features)
        with one_thread():
            outputs = product.T.contiguous().add_(bias).view(1 + count, classes, -1)
            sizes = size_of_change(outputs[0], outputs[1:], head.likelihood)
            finite = torch.isfinite(outputs[0]).all(0)[: block.n]
        own = slice(done, done + block.n)
        refuse_broken(state.ids[own], finite.cpu().numpy())
        state.sizes[:, own] = sizes[:, : block.n].cpu().numpy()
        done += block.n
    return np.stack([np.bincount(sizes, minlength=SIZES + 1) for sizes in state.sizes])


def size_of_change(outputs: torch.Tensor, speeds: torch.Tensor, likelihood: Likelihood) -> torch.Tensor:
    """The first size at which another is predicted from outputs [C, n], uint8 [J, n]: the largest is overtaken, or one
    of several labels changes sides; SIZES if that never is. They grow by `speeds` [J, C, n], which are overwritten,
    times the size. For one thread.
    """
    inverse = likelihood.change_rates(outputs, speeds).clamp_min_(0.0)  # 0 where it never happens
    steps = (inverse.log10_() + DECADES[0]).mul_(-STEPS).ceil_()
    return steps.clamp_(0, SIZES).byte()


def lower(partition: Partition, disagree: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Lower the metrics by the first directions of the tile, with as many changed classes in the pool as `disagree`
    [directions, sizes + 1] says; returns which of them lowered any here.
    """
    state: _Metrics = partition.state["metrics"]
    state.metric = state.before
    lowered = np.zeros(len(disagree), bool)
    for place, (sizes, counts) in enumerate(zip(state.sizes, disagree, strict=False)):
        metric = np.minimum(state.metric, counts[sizes])
        lowered[place] = (metric < state.metric).any()
        state.metric = metric
    return lowered


def least_disagreeing(partition: Partition, k: int) -> BestItems:
    """The k candidates of smallest metric; the value is minus the metric."""
    state: _Metrics = partition.state["metrics"]
    return best_of(state.ids, -state.metric.astype(np.float64), k)


def weigh(partition: Partition, least: NDArray[np.int64], edge: int) -> int:
    """Weigh the candidates by how far they are beyond the metric `edge`; returns the sum over those that are not among
    the `least`, in units.
    """
    state: _Metrics = partition.state["metrics"]
    weights = np.rint(UNIT * np.exp(-np.maximum(state.metric - edge, 0) / edge)).astype(np.int64)
    among = np.isin(state.ids, least)
    partition.state["weights"] = weights, among
    return int(weights[~among].sum())


@dataclass
class _Seeding:
    rows: CandidateRows
    """those of weight"""
    metric: torch.Tensor
    """[m, 1]"""
    weight: torch.Tensor
    norms: torch.Tensor
    nearest: torch.Tensor
    """cosine distance to the nearest pick"""
    spare: NDArray[np.float64]
    """[n] of every candidate, by what it comes in the end; -inf once picked"""


def seed(partition: Partition, scale: float, key: int) -> Proposal:
    """Keep the rows of weight, and name that of smallest metric; `scale` is that of the weights beyond the edge."""
    state: _Metrics = partition.state["metrics"]
    units, among = partition.state.pop("weights")
    weight = np.where(among, 1.0, np.minimum(units / UNIT * scale, 1.0))
    some = np.flatnonzero(weight > 0)
    rows = CandidateRows(partition, state.rows[some])
    norms = rows.sq_norms().sqrt()
    metric = torch.from_numpy(state.metric[some]).to(partition.device).double()[:, None]
    partition.state["seeding"] = _Seeding(
        rows=rows,
        metric=metric,
        weight=torch.from_numpy(weight[some]).to(partition.device),
        norms=norms,
        nearest=torch.full_like(norms, torch.inf),
        spare=SPARE + item_uniform(key, state.ids),
    )
    return rows.offer(-metric[:, 0], metric)


def follow(partition: Partition, item: int, vector: NDArray[np.float64], key: int) -> Proposal:
    """Take a pick in and name the next; `vector` is empty where the pick had no weight."""
    state: _Metrics = partition.state["metrics"]
    seeding: _Seeding = partition.state["seeding"]
    if len(vector):
        pick = padded(vector[None], partition.width, torch.float64, partition.device)[0]
        (inner,) = seeding.rows.products(pick)
        with one_thread():
            length = pick.norm()
            cosine = inner / (seeding.norms * length).clamp_min(TINY)
            gap = ((seeding.norms > 0).double() + float(length > 0)) / 2 - cosine
            gap[gap <= COINCIDENT] = 0.0
            torch.minimum(seeding.nearest, gap, out=seeding.nearest)
    place = int(np.searchsorted(state.ids, item))
    if place < len(state.ids) and state.ids[place] == item:
        seeding.spare[place] = -np.inf
    own = seeding.rows.place(item)
    if own is not None:
        seeding.weight[own] = 0.0
    noise = -np.log(-np.log(item_uniform(key, seeding.rows.ids)))
    with one_thread():
        rate = seeding.weight * seeding.nearest
        race = torch.where(rate > 0, 2 * rate.log() + torch.from_numpy(noise).to(rate.device), -torch.inf)
    first = seeding.rows.offer(race, seeding.metric)
    if first.id >= 0 or len(state.ids) == 0:
        return first
    last = int(seeding.spare.argmax())
    if seeding.spare[last] == -np.inf:
        return NOTHING
    return Proposal(
        float(seeding.spare[last]), int(state.ids[last]), np.empty(0), np.array([float(state.metric[last])])
    )
