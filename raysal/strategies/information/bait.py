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
from raysal.strategies.information.fisher import Downdate, Posterior, greedy_trace

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
    picks(k + 1) without `backward`. Where no information is left, a uniform draw. Not for heads that are sure of
    everything, nor for d beyond some thousands: project the vectors first.
    """

    ridge: Annotated[float, Field(gt=0)] = 1.0
    backward: bool = False

    @property
    def needs_head(self) -> bool:
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        head = context.linear()
        assert context.head is not None
        fisher = pool_fisher(fleet, head)
        posterior = Posterior.of(self.ridge, fisher, information_rows(context.head, context.labelled.vectors))
        wanted = min(2 * k, sum(fleet.each(count_candidates))) if self.backward else k
        offers = fleet.each(begin, posterior.covariance.numpy(), fisher, derive(context.key, "spare"))
        ids, rows = np.empty(wanted, np.int64), []
        scores = np.empty(wanted)
        for place in range(wanted):
            best = best_proposal(offers)
            ids[place], scores[place] = best.id, max(best.value, 0.0)
            row = best.vector * best.extra
            if self.backward:
                rows.append(row)
            if place + 1 < wanted:
                offers = fleet.each(fold, best.id, posterior.add(row))
            elif wanted > k:
                posterior.add(row)
        if wanted > k:
            kept = posterior.without_least(np.array(rows), k)
            ids, scores = ids[kept], scores[kept]
        reasons = (
            f"lowers the trace by {score:.3g}" if score > 0 else "no information left, uniform" for score in scores
        )
        return Picks(ids=ids, scores=scores, reasons=tuple(reasons))


def bait_binary(
    x: NDArray[np.floating], precision: NDArray[np.float64], fisher: NDArray[np.float64], k: int, *, backward: int = 0
) -> NDArray[np.int64]:
    """Rows of x [n, d] that greedily minimise tr(M fisher), M the inverse of (precision + sum of x x' over picks).

    x holds the roots of rank-one Fisher matrices, sqrt(p (1 - p)) h; precision and fisher are [d, d]. k + `backward`
    rows are picked and `backward` of them dropped. In pick order; ties to the lower row. O(n d) a pick after O(n d^2).

    Raises:
        UserError: k + backward rows are more than there are, a row is not finite, or the precision is not positive
            definite.
    """
    if not 1 <= k <= k + backward <= len(x):
        raise UserError("k", f"{k} of {len(x)} rows, and {backward} to drop", f"ask for at most {len(x)} in all")
    wide: NDArray[np.float64] = np.ascontiguousarray(x, dtype=np.float64)
    refuse_broken(np.arange(len(wide)), torch.isfinite(torch.from_numpy(wide)).all(1).numpy())
    posterior = Posterior(precision, fisher)
    picks = greedy_trace(wide, posterior, k + backward)
    return picks[posterior.without_least(wide[picks], k)] if backward else picks


def information_rows(head: Head, features: NDArray[np.floating]) -> NDArray[np.float64]:
    """sqrt(p (1 - p)) h float64 [n, d] for the vectors h of a few items in the driver."""
    p = labelled_probabilities(head, features)
    top = p.argmax(1)
    others = np.where(np.arange(p.shape[1]) == top[:, None], 0.0, p).sum(1)
    return np.asarray(np.sqrt(p.max(1) * others)[:, None] * features)


def pool_fisher(fleet: Fleet, head: Linear) -> NDArray[np.float64]:
    """Mean of p (1 - p) h h' over every row of the pool, float64 [d, d]. Two passes."""
    largest, rows = zip(*fleet.each(weigh, head), strict=True)
    scale = power_of_two_scale(max(largest), FISHER_BITS)
    total = sum(fleet.each(add_up, scale), np.zeros(1, np.int64))
    return np.asarray(total.astype(np.float64) / scale / scale / sum(rows))


@dataclass
class _Trace:
    rows: CandidateRows
    root: torch.Tensor
    """sqrt(p (1 - p))"""
    spare: torch.Tensor
    """minus a hash in (0, 1): the order once no information is left"""
    variance: torch.Tensor
    """x' M x; x = root h"""
    fall: torch.Tensor
    """x' M F M x"""
    picked: torch.Tensor

    def offer(self) -> Proposal:
        value = self.fall / (1 + self.variance)
        value = torch.where(value > 0, value, self.spare).masked_fill(self.picked, -torch.inf)
        return self.rows.offer(value, self.root)


def weigh(partition: Partition, head: Linear) -> tuple[float, int]:
    """Find sqrt(p (1 - p)) of every row; returns the largest entry of any sqrt(p (1 - p)) h, and the number of
    rows.

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
            top = p.argmax(0, keepdim=True)
            # The sum of the others' rather than 1 - p, which loses its digits where the head is sure.
            root = (p.amax(0) * p.scatter(0, top, 0.0).sum(0)).sqrt()
        entries = (root * features.abs().amax(1))[: block.n]
        refuse_broken(partition.ids[block.rows], torch.isfinite(entries).cpu().numpy())
        largest = max(largest, float(entries.max()))
        roots[block.rows[0] : block.rows[-1] + 1] = root[: block.n]
    partition.state["roots"] = roots
    return largest, len(partition)


def add_up(partition: Partition, scale: float) -> NDArray[np.int64]:
    """Sum of the Fisher matrices of the rows [d, d], in units of 1 / scale^2."""
    roots: torch.Tensor = partition.state["roots"]
    total = torch.zeros(partition.width, partition.width, dtype=torch.int64, device=partition.device)
    for block in partition.blocks():
        x = block.features[: block.n].double() * roots[block.rows[0] : block.rows[-1] + 1, None]
        x = (x * scale).round()
        total += (x.T @ x).long()
    return total[: partition.dim, : partition.dim].cpu().numpy()


def begin(partition: Partition, covariance: NDArray[np.float64], fisher: NDArray[np.float64], key: int) -> Proposal:
    """Take every candidate's x' M x and x' M F M x, from M and F [d, d], and name the best."""
    rows = CandidateRows(partition)
    root = partition.state.pop("roots")[torch.from_numpy(rows.rows).to(partition.device)]
    spare = torch.from_numpy(-item_uniform(key, rows.ids)).to(partition.device)
    state = _Trace(rows, root, spare, rows.numbers(), rows.numbers(), torch.zeros_like(root, dtype=torch.bool))
    m, f = (square(matrix, partition) for matrix in (covariance, fisher))
    for own, features in rows.blocks():
        turned = features @ m
        state.variance[own] = (turned * features).sum(1)[: own.stop - own.start]
        state.fall[own] = ((turned @ f) * turned).sum(1)[: own.stop - own.start]
    state.variance *= root * root
    state.fall *= root * root
    partition.state["trace"] = state
    return state.offer()


def square(matrix: NDArray[np.float64], partition: Partition) -> torch.Tensor:
    """A [d, d] matrix as a tensor [width, width], zero beyond."""
    return padded(matrix, partition.width, torch.float64, partition.device, rows=partition.width)


def fold(partition: Partition, item: int, step: Downdate) -> Proposal:
    """Fold a pick in and name the next."""
    state: _Trace = partition.state["trace"]
    vectors = padded(np.stack([step.u, step.w]), partition.width, torch.float64, partition.device)
    along_u, along_w = state.rows.products(vectors[0], vectors[1])
    step.apply(along_u * state.root, along_w * state.root, state.variance, state.fall)
    own = state.rows.place(item)
    if own is not None:
        state.picked[own] = True
    return state.offer()
