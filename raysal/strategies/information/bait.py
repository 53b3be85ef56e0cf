"""BAIT: the items whose labels tell most about the weights that the whole pool asks about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.errors import UserError
from raysal.fleet import Fleet, Partition
from raysal.models.head import Head
from raysal.models.likelihood.classes import class_residuals
from raysal.numerics import one_thread, padded
from raysal.rng import derive, item_uniform
from raysal.scoring.linear import Linear
from raysal.scoring.row_values import refuse_broken
from raysal.strategies.base import Picks, Selector, count_candidates
from raysal.strategies.engine.dense import (
    CandidateRows,
    Proposal,
    best_proposal,
    labelled_probabilities,
    power_of_two_scale,
)
from raysal.strategies.information.fisher import Covariance, RankOneUpdate, greedy_trace

FISHER_BITS = 16
"""Bits of a row's entries in the pool's Fisher matrix. Products of a block of 4096 rows then add up exactly in
float64, and those of 2**31 rows in int64."""


@dataclass(frozen=True, kw_only=True)
class Bait(Selector):
    """BAIT with the binary Fisher information (Ash et al., NeurIPS 2021; Huseljic et al., ECML-PKDD 2024).

    The Fisher information of an item is p(1 - p) h h' with p the probability of its predicted class, a matrix of
    rank one. Greedily minimises tr(M F): F the mean of it over every row of the pool, excluded and labelled ones
    too, and M the inverse of (lambda I + its sum over labelled and picked items). The score of a pick is by how
    much it lowers the trace. With `backward`, 2k items are picked and the k dropped whose loss raises it least;
    forward alone does as well on published tables (Holzmueller et al., JMLR 2023).

    lambda = `ridge` tr(F) / d is the information of `ridge` average items, spread evenly over the d directions:
    rescaled features give the same picks, where a fixed lambda falls below random on some. Every item counts
    once, labelled or picked; the published code weighs picks by the size of the batch.

    Needs a head. Exact rank-one form: O(n d) a pick after O(n d (C + d)) once, one round trip a pick. Memory 49
    bytes a row beside the features, O(d^2) in the driver and O(k d) with `backward`. picks(k) is a prefix of
    picks(k + 1) without `backward`. Where no information is left, a uniform sample. Not for heads that are sure of
    everything, nor for d beyond some thousands: project the vectors first.
    """

    ridge: Annotated[float, Field(gt=0)] = 1.0
    backward: bool = False

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Pick greedily, and drop again where that is asked for."""
        head = context.linear()
        fisher = pool_fisher(fleet, head)
        labelled = information_rows(context.needed_head(), context.labelled.vectors)
        covariance = Covariance.of_labelled(self.ridge, fisher, labelled)
        wanted = min(2 * k, sum(fleet.each(count_candidates))) if self.backward else k
        proposals = fleet.each(start, covariance.matrix(), fisher, derive(context.key, "spare"))
        ids, rows = np.empty(wanted, np.int64), []
        scores = np.empty(wanted)
        for place in range(wanted):
            best = best_proposal(proposals)
            ids[place], scores[place] = best.id, max(best.value, 0.0)
            row = best.vector * best.extra
            if self.backward:
                rows.append(row)
            if place + 1 < wanted:
                proposals = fleet.each(add_pick, best.id, covariance.add(row))
            elif wanted > k:
                covariance.add(row)
        if wanted > k:
            kept = covariance.without_least(np.array(rows), k)
            ids, scores = ids[kept], scores[kept]
        reasons = (
            f"lowers the trace by {score:.3g}" if score > 0 else "no information left, uniform" for score in scores
        )
        return Picks(ids=ids, scores=scores, reasons=tuple(reasons))


def bait_binary(
    x: NDArray[np.floating], precision: NDArray[np.float64], fisher: NDArray[np.float64], k: int, *, backward: int = 0
) -> NDArray[np.int64]:
    """Rows that greedily minimise tr(M F), M the inverse of (precision + sum of x x' over picks).

    O(n d) a pick after O(n d^2). Ties go to the lower row.

    Args:
        x: float [n, d], the roots of rank-one Fisher matrices: sqrt(p (1 - p)) h.
        precision: float64 [d, d].
        fisher: F, float64 [d, d].
        k: how many rows.
        backward: how many more are picked, and dropped again.

    Returns:
        Rows int64 [k], in pick order.

    Raises:
        UserError: k + backward rows are more than there are, or the precision is not positive definite.
        PoolError: a row is not finite; it names the row.
    """
    if not 1 <= k <= k + backward <= len(x):
        raise UserError("k", f"{k} of {len(x)} rows, and {backward} to drop", f"ask for at most {len(x)} in all")
    wide: NDArray[np.float64] = np.ascontiguousarray(x, dtype=np.float64)
    refuse_broken(np.arange(len(wide)), torch.isfinite(torch.from_numpy(wide)).all(1).numpy())
    covariance = Covariance(precision, fisher)
    picks = greedy_trace(wide, covariance, k + backward)
    return picks[covariance.without_least(wide[picks], k)] if backward else picks


def information_rows(head: Head, features: NDArray[np.floating]) -> NDArray[np.float64]:
    """sqrt(p (1 - p)) h float64 [n, d] of the vectors h [n, d] of a few items in the driver."""
    p = labelled_probabilities(head, features)
    top = p.argmax(1)
    others = np.where(np.arange(p.shape[1]) == top[:, None], 0.0, p).sum(1)
    return np.asarray(np.sqrt(p.max(1) * others)[:, None] * features)


def pool_fisher(fleet: Fleet, head: Linear) -> NDArray[np.float64]:
    """Mean of p (1 - p) h h' over every row of the pool. Two passes over it.

    Args:
        fleet: the pool's partitions; they keep sqrt(p (1 - p)) of their rows.
        head: what predicts p.

    Returns:
        float64 [d, d].

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    largest, rows = zip(*fleet.each(compute_roots, head), strict=True)
    scale = power_of_two_scale(max(largest), FISHER_BITS)
    total = sum(fleet.each(sum_fisher, scale), np.zeros(1, np.int64))
    return np.asarray(total.astype(np.float64) / scale / scale / sum(rows))


@dataclass
class _Candidates:
    """What is known of the n candidates of a partition; x = root h."""

    rows: CandidateRows
    root: torch.Tensor
    """sqrt(p (1 - p))"""
    uniform_order: torch.Tensor
    """minus a hash in (0, 1): the order once no information is left"""
    variance: torch.Tensor
    """x' M x"""
    fall: torch.Tensor
    """x' M F M x"""
    picked: torch.Tensor


# Functions of a partition.


def compute_roots(partition: Partition, head: Linear) -> tuple[float, int]:
    """Compute sqrt(p (1 - p)) of every row, into `state["roots"]`.

    Args:
        partition: whose rows.
        head: what predicts p.

    Returns:
        (the largest entry of any sqrt(p (1 - p)) h, the number of rows).

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    roots = torch.empty(len(partition), dtype=torch.float64, device=partition.device)
    weight = partition.aligned(head.weight, torch.float64)
    bias = torch.tensor(head.bias, device=partition.device)[:, None]
    largest = 0.0
    for block in partition.blocks():
        features = block.features.double()
        logits = weight.products(features).T + bias
        with one_thread():
            p = torch.softmax(logits, 0)
            # The predicted class's residual is 1 - p, with its digits also where the head is sure.
            root = (p.amax(0) * class_residuals(p).amax(0)).sqrt()
        entries = (root * features.abs().amax(1))[: block.n]
        refuse_broken(partition.ids[block.rows], torch.isfinite(entries).cpu().numpy())
        largest = max(largest, float(entries.max()))
        roots[block.rows[0] : block.rows[-1] + 1] = root[: block.n]
    partition.state["roots"] = roots
    return largest, len(partition)


def sum_fisher(partition: Partition, scale: float) -> NDArray[np.int64]:
    """Sum of the Fisher matrices of the rows [d, d], in units of 1 / scale^2."""
    roots: torch.Tensor = partition.state["roots"]
    total = torch.zeros(partition.width, partition.width, dtype=torch.int64, device=partition.device)
    for block in partition.blocks():
        x = block.features[: block.n].double() * roots[block.rows[0] : block.rows[-1] + 1, None]
        x = (x * scale).round()
        total += (x.T @ x).long()
    return total[: partition.dim, : partition.dim].cpu().numpy()


def start(partition: Partition, covariance: NDArray[np.float64], fisher: NDArray[np.float64], key: int) -> Proposal:
    """Compute every candidate's x' M x and x' M F M x, and propose the best.

    Args:
        partition: where they live; it has their roots (`compute_roots`).
        covariance: M, float64 [d, d].
        fisher: F, float64 [d, d].
        key: key of `raysal.rng` for the order once no information is left, and of equal candidates.

    Returns:
        As `propose`.
    """
    rows = CandidateRows(partition, ties=key)
    root = partition.state.pop("roots")[torch.from_numpy(rows.rows).to(partition.device)]
    uniform_order = torch.from_numpy(-item_uniform(key, rows.ids)).to(partition.device)
    picked = torch.zeros_like(root, dtype=torch.bool)
    state = _Candidates(rows, root, uniform_order, rows.numbers(), rows.numbers(), picked)
    m, f = (padded_square(matrix, partition) for matrix in (covariance, fisher))
    for own, features in rows.blocks():
        turned = features @ m
        state.variance[own] = (turned * features).sum(1)[: own.stop - own.start]
        state.fall[own] = ((turned @ f) * turned).sum(1)[: own.stop - own.start]
    state.variance *= root * root
    state.fall *= root * root
    partition.state["bait"] = state
    return propose(partition)


def propose(partition: Partition) -> Proposal:
    """The candidate here that lowers the trace most; its value is by how much, and `extra` its root.

    Args:
        partition: where the candidates live.

    Returns:
        The best; once none lowers the trace, that of lowest hash, with a value below zero.
    """
    state: _Candidates = partition.state["bait"]
    value = state.fall / (1 + state.variance)
    value = torch.where(value > 0, value, state.uniform_order).masked_fill(state.picked, -torch.inf)
    return state.rows.proposal_of(value, state.root)


def add_pick(partition: Partition, item: int, update: RankOneUpdate) -> Proposal:
    """Take a pick into the candidates' numbers, and propose the next.

    Args:
        partition: where the candidates live.
        item: id of the pick, which may live elsewhere.
        update: what its label changes.

    Returns:
        As `propose`.
    """
    state: _Candidates = partition.state["bait"]
    vectors = padded(np.stack([update.u, update.w]), partition.width, torch.float64, partition.device)
    along_u, along_w = state.rows.products(vectors[0], vectors[1])
    update.apply(along_u * state.root, along_w * state.root, state.variance, state.fall)
    own = state.rows.place(item)
    if own is not None:
        state.picked[own] = True
    return propose(partition)


def padded_square(matrix: NDArray[np.float64], partition: Partition) -> torch.Tensor:
    """A [d, d] matrix as a float64 tensor [width, width], zero beyond d."""
    return padded(matrix, partition.width, torch.float64, partition.device, rows=partition.width)
