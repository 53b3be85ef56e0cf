"""LCMD: cover the pool as CoreSet does, but go where many items are far from what is covered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition
from raysal.models.head import Head
from raysal.models.likelihood.classes import class_residuals
from raysal.numerics import one_thread, padded, round_up, slices
from raysal.rng import derive, item_uniform
from raysal.scoring.linear import Linear
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.dense import (
    CANDIDATE_ROWS,
    CandidateRows,
    Proposal,
    best_proposal,
    labelled_probabilities,
    power_of_two_scale,
)
from raysal.strategies.engine.distances import COINCIDENT

CENTRES_PER_PRODUCT = 64
"""Centres of one product, when many are added at once."""
SUM_BITS = 62
"""Sums of squared distances over the pool are whole numbers below 2^62, which are added exactly in int64."""


@dataclass(frozen=True, kw_only=True)
class Lcmd(Selector):
    """Largest cluster, maximum distance, with labelled items as centres.

    LCMD-TP; Holzmueller et al., JMLR 2023. Every candidate belongs to its nearest centre, labelled or picked. The next
    pick is the farthest item of the cluster with the largest sum of squared distances. Without labelled items the first
    pick has the largest norm. Where only copies are left, the picks are a uniform sample. The score is the squared
    distance to the nearest centre before the pick.

    `space`: the vectors, or the gradients of the last layer r (x) h with r = e_argmax - p, which are never formed
    (labelled items too take the class that the head predicts). Distances in float64; sums of them are whole multiples
    of a power of two, 2^-62 of their bound over the pool.

    Needs a head with "gradients". O((labelled + k) n d), or n (C + d) in place of n d; two round trips a pick: add it
    as a centre, then ask for the farthest. Memory 41 bytes a row beside the features, and 4 C with "gradients".
    picks(k) is a prefix of picks(k + 1). Made for regression. Like all coverage it spends labels on what the head is
    sure of, less so with "gradients": with vectors it ended 0.8 +- 0.5 points below random on Fashion-MNIST features
    (five seeds).
    """

    space: Literal["vectors", "gradients"] = "vectors"

    @property
    def needs_head(self) -> bool:
        """With `gradients`."""
        return self.space == "gradients"

    @property
    def can_start_cold(self) -> bool:
        """No: it would begin with outliers."""
        return False

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The farthest item of the heaviest cluster, again and again."""
        head = context.linear() if self.needs_head else None
        parts = fleet.each(start, head, context.ties)
        # Without centres the origin is one, and only until the first pick.
        known = (
            context.labelled.vectors.astype(np.float64)
            if len(context.labelled.vectors)
            else np.zeros((1, context.labelled.vectors.shape[1]))
        )
        factors = (
            labelled_residuals(context.head, known)
            if self.needs_head and context.head is not None
            else np.empty((len(known), 0))
        )
        bound = 4 * max(*(norm for norm, _ in parts), float(sq_norms(known, factors).max()))
        scale = power_of_two_scale(bound, SUM_BITS - sum(rows for _, rows in parts).bit_length())
        weights = np.zeros(len(known) + k, np.int64)
        weights[: len(known)] = np.sum(fleet.each(add_labelled, known, factors, scale), 0)
        ids, scores, reasons = np.empty(k, np.int64), np.empty(k), []
        units = context.scale**2  # distances are told of vectors as they were given
        for place in range(k):
            heaviest = int(weights.argmax())
            if weights[heaviest] > 0:
                best = best_proposal(fleet.each(propose, heaviest))
                scores[place] = best.value / units
                reasons.append(f"{scores[place] ** 0.5:.4g} from the centre of the heaviest cluster")
            else:
                best = best_proposal(fleet.each(propose_uniformly, derive(context.key, "copies")))
                scores[place] = 0.0
                reasons.append("only copies left, uniform")
            ids[place] = best.id
            first = place == 0 and len(context.labelled.vectors) == 0
            if first:
                weights[:] = 0
                reasons[0] = f"first, of largest norm {scores[0] ** 0.5:.4g}"
            if place + 1 < k:
                cluster = len(known) + place
                for clusters, changes in fleet.each(add_pick, best.id, best.vector, best.extra, cluster, first):
                    weights[clusters] += changes
        return Picks(ids=ids, scores=scores, reasons=tuple(reasons))


def labelled_residuals(head: Head, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """e_argmax - p [n, C] of vectors in the driver, rounded to float32 as in the partitions."""
    return class_residuals(torch.from_numpy(labelled_probabilities(head, features)).T).T.float().double().numpy()


def sq_norms(vectors: NDArray[np.float64], factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared norms [m] of vectors [m, d], or of factor (x) vector where the factors [m, C] are not empty."""
    norms = (vectors**2).sum(-1)
    return np.asarray(norms * (factors**2).sum(-1) if factors.shape[-1] else norms)


@dataclass
class _Clusters:
    rows: CandidateRows
    sq_norms: torch.Tensor
    """[n]"""
    residuals: torch.Tensor | None
    """float32 [n, C], both rounded up for products of one shape"""
    gap: torch.Tensor
    """squared distance to the nearest centre, [n]"""
    centre: torch.Tensor
    """which centre that is, [n]; -1 for none"""
    left: torch.Tensor
    """whether the row may still be picked, [n]"""
    scale: float = 1.0

    def sq_distances(
        self, vectors: NDArray[np.float64], factors: NDArray[np.float64]
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Compute squared distances to centres, block by block.

        |x|^2 + |c|^2 - 2 x.c; of gradients |r|^2|h|^2 + |r_c|^2|h_c|^2 - 2 (r.r_c)(h.h_c).

        Args:
            vectors: Of the centres [m, d], or of one [d].
            factors: Their residuals, [m, C] or [C]; not used for vectors.

        Yields:
            (places of the rows among the candidates [n], squared distances float64 [n, m]).
        """
        device = self.rows.partition.device
        one = vectors.ndim == 1
        columns = as_columns(np.atleast_2d(vectors), self.rows.partition.width, device)
        others = None if self.residuals is None else as_columns(np.atleast_2d(factors), self.residuals.shape[1], device)
        norms = torch.from_numpy(np.atleast_1d(sq_norms(vectors, factors))).to(device)
        for own, features in self.rows.blocks():
            inner = features @ (columns[:, 0] if one else columns)
            if self.residuals is not None and others is not None:
                inner *= self.residuals[own.start : own.start + CANDIDATE_ROWS].double() @ (
                    others[:, 0] if one else others
                )
            inner = inner[: own.stop - own.start].reshape(own.stop - own.start, -1)[:, : len(norms)]
            sums = self.sq_norms[own, None] + norms
            gap = sums - 2 * inner
            yield own, torch.where(gap > COINCIDENT * sums, gap, 0.0)

    def proposal_of(self, values: torch.Tensor) -> Proposal:
        return self.rows.proposal_of(values, self.residuals)

    def whole(self, gap: torch.Tensor) -> torch.Tensor:
        """Squared distances as whole multiples of 1 / scale."""
        return (gap * self.scale).round().long()


def as_columns(vectors: NDArray[np.float64], width: int, device: torch.device) -> torch.Tensor:
    """Vectors [m, d] as columns [width, CENTRES_PER_PRODUCT], or [width, 1] of one: products of one shape."""
    rows = CENTRES_PER_PRODUCT if len(vectors) > 1 else 1
    return padded(vectors, width, torch.float64, device, rows=rows).T.contiguous()


# What the driver calls on every partition, in this order.


def start(partition: Partition, head: Linear | None, ties: int) -> tuple[float, int]:
    """Set up the candidates.

    Args:
        partition: The partition.
        head: The head, to compare gradients; None to compare vectors.
        ties: Key of the hash that orders rows of equal distance.

    Returns:
        (largest squared norm of the candidates, their number).

    Raises:
        PoolError: A vector is not finite; it names the item.
    """
    rows = CandidateRows(partition, ties=ties)
    norms, kept = rows.sq_norms(), None
    if head is not None:
        classes, device = len(head.bias), partition.device
        kept = torch.zeros(round_up(len(rows), CANDIDATE_ROWS), round_up(classes), device=device)
        weight = partition.aligned(head.weight, torch.float64)
        bias = torch.tensor(head.bias, device=device)
        for own, features in rows.blocks():
            logits = weight.products(features) + bias
            with one_thread():
                residual = class_residuals(torch.softmax(logits, 1).T).T.float()
                kept[own.start : own.start + CANDIDATE_ROWS, :classes] = residual
                norms[own] *= (residual.double() ** 2).sum(1)[: own.stop - own.start]
    none = torch.full((len(rows),), -1, dtype=torch.int64, device=partition.device)
    partition.state["clusters"] = _Clusters(rows, norms, kept, rows.numbers(torch.inf), none, none < 0)
    return (float(norms.max()) if len(rows) else 0.0), len(rows)


def add_labelled(
    partition: Partition, vectors: NDArray[np.float64], factors: NDArray[np.float64], scale: float
) -> NDArray[np.int64]:
    """Make labelled items the centres of clusters; candidates join the nearest, ties to the first.

    Args:
        partition: The partition.
        vectors: Of the labelled items, [m, d].
        factors: Their residuals [m, C]; not used for vectors.
        scale: A power of two: sums of squared distances are whole multiples of its inverse.

    Returns:
        The clusters' sums of squared distances [m], in units of 1 / scale.
    """
    state: _Clusters = partition.state["clusters"]
    state.scale = scale
    for some in slices(len(vectors), CENTRES_PER_PRODUCT):
        for own, gaps in state.sq_distances(vectors[some], factors[some]):
            nearest = gaps.argmin(1)  # the first of equals, by its documentation
            gap = gaps.gather(1, nearest[:, None])[:, 0]
            nearer = gap < state.gap[own]
            state.gap[own] = torch.where(nearer, gap, state.gap[own])
            state.centre[own] = torch.where(nearer, nearest + some.start, state.centre[own])
    weights = torch.zeros(len(vectors), dtype=torch.int64, device=partition.device)
    return weights.index_add_(0, state.centre, state.whole(state.gap)).cpu().numpy()


def propose(partition: Partition, cluster: int) -> Proposal:
    """Propose the row of a cluster that is farthest from its centre."""
    state: _Clusters = partition.state["clusters"]
    return state.proposal_of(torch.where((state.centre == cluster) & state.left, state.gap, -torch.inf))


def propose_uniformly(partition: Partition, key: int) -> Proposal:
    """Propose the row of lowest hash among those not picked, where only copies are left."""
    state: _Clusters = partition.state["clusters"]
    hashes = torch.from_numpy(-item_uniform(key, state.rows.ids)).to(partition.device)
    return state.proposal_of(torch.where(state.left, hashes, -torch.inf))


def add_pick(
    partition: Partition,
    item: int,
    vector: NDArray[np.float64],
    factor: NDArray[np.float64],
    cluster: int,
    restart: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Make a pick the centre of a new cluster.

    Args:
        partition: The partition.
        item: Id of the pick.
        vector: Its vector, [d].
        factor: Its residual [C]; not used for vectors.
        cluster: Number of the new cluster.
        restart: Whether to forget all other clusters.

    Returns:
        (clusters whose sums of squared distances changed, by how much, in units of 1 / scale).
    """
    state: _Clusters = partition.state["clusters"]
    if restart:
        state.gap.fill_(torch.inf)
        state.centre.fill_(-1)
    gap = torch.empty_like(state.gap)
    for own, gaps in state.sq_distances(vector, factor):
        gap[own] = gaps[:, 0]
    nearer = gap < state.gap
    moved = nearer & (state.centre >= 0)
    changes = torch.zeros(cluster + 1, dtype=torch.int64, device=partition.device)
    changes.index_add_(0, state.centre[moved], -state.whole(state.gap[moved]))
    changes[cluster] = state.whole(gap[nearer]).sum()
    state.gap[nearer] = gap[nearer]
    state.centre[nearer] = cluster
    own_place = state.rows.place(item)
    if own_place is not None:
        state.left[own_place] = False
    clusters = changes.nonzero()[:, 0]
    return clusters.cpu().numpy(), changes[clusters].cpu().numpy()
