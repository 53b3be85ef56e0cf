"""BAIT: the items whose labels tell most about the weights that the whole pool asks about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition, vectors_of
from raysal.numerics import slices
from raysal.rng import derive, item_order, item_uniform
from raysal.scoring.linear import Linear
from raysal.scoring.row_values import refuse_broken
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.dense import CandidateRows, Proposal, best_proposal, power_of_two_scale
from raysal.strategies.information.fisher import (
    Covariance,
    Information,
    LowRankUpdate,
    contracted,
    output_pairs,
    trace_changes,
)
from raysal.strategies.information.fisher_forms import Form, Name

FISHER_BITS = 16
"""Bits of a row's entries in the pool's Fisher matrix. Products of a block of 4096 rows then add up exactly in
float64, and those of 2**31 rows in int64."""

PANEL_COLUMNS = 256
"""Columns of the pool's Fisher matrix that are added to in one product."""

DRIVER_NUMBERS = 2**23
"""Numbers of the candidates' features up to which those of rank one are picked in the driver: 64 MiB."""

LEAST_RIDGE = 1e-9
"""Of the information of an average item. With a smaller prior, rounding would decide."""


def of_backward(value: Any) -> Any:
    """What `oversample` is where a config says `backward = true`, or false, as its former name was."""
    return (2.0 if value else 1.0) if isinstance(value, bool) else value


@dataclass(frozen=True, kw_only=True)
class Bait(Selector):
    """BAIT (Ash et al., NeurIPS 2021), by default with the binary Fisher information (Huseljic et al., 2024).

    Minimises tr(M F): F is the mean Fisher matrix of the items that are available, and M the inverse of (lambda I + the
    sum of it over labelled and picked items). `oversample` k items are picked greedily, each the one that lowers the
    trace most. Then all but k are dropped, each the one whose loss raises it least. 2 is as published; 1 only picks.
    The score of a pick is by how much it lowered the trace.

    `fisher`: the Fisher matrix of an item.

    - "binary", of rank one: p(1 - p) h h', p the probability of the predicted class. The published approximation for
      many classes; with two classes it is exact.
    - "top_c": E[g g'], g the gradient of the last layer, over the `top_classes` most probable classes with their
      probabilities made to add up to 1 (Huseljic et al.).
    - "exact": over all C classes, as in BAIT's paper: (diag p - p p') (x) h h'.

    h are the features less the centre of the head's frame, and over its sizes where it is standardised. The paper takes
    them as they are; picks then depend on the origin of the vectors. Numbers have h h', whatever `fisher` is: the noise
    cancels. With a hidden layer h is what it makes of a vector.

    Where the pool was narrowed, F comes from a uniform sample of what is available: about as many items as there are
    candidates, and at least `represented`. Items held out have no part in it. (The paper takes all unlabelled items;
    the authors' code labelled ones as well.)

    `weights`: "items" counts every item once, labelled or picked, and lambda = `ridge` tr(F) / (d m) is the information
    of `ridge` average items, spread evenly: rescaled features give the same picks. "published" is the authors' code:
    picks count b / (n + b) each for a batch of b, n labelled items n / (n + b) together, and lambda = `ridge`. So one
    pick weighs as much as b labelled items, and lambda has to suit the features. (The paper has no n + b.)

    Measured on digits (docs/selection.md): "top_c" is 0.7 +- 0.6 points above "binary", which is the default because it
    alone can take a large pool; dropping gained nothing that lasted; "published" weights lost 0.6 +- 0.3.

    Needs a head for one class of several, or for numbers. With m = r = 1 for "binary" and numbers, else m = C - 1 and
    r = `top_classes` or C: O(n d^2 m^2 + d^3 m^3) once, O(n d m r + d^2 m^2 r) a pick, one round trip each. Where
    m = r = 1 and candidates have at most 8 million numbers, the driver picks among them, after one round trip for all.
    Memory: 8 r (m + 2 r) + 9 bytes a candidate beside its features, and 5 matrices of d m x d m in the driver. What
    needs more than 8 GiB is refused. picks(k) is a prefix of picks(k + 1) with `oversample` = 1, else not. Where no
    information is left, a uniform sample. Not for heads that are sure of everything, nor for d beyond some thousands.
    """

    FORMER: ClassVar[dict[str, str]] = {"backward": "oversample"}
    fisher: Name = "binary"
    top_classes: Annotated[int, Field(ge=1)] = 2
    oversample: Annotated[float, Field(ge=1, allow_inf_nan=False), BeforeValidator(of_backward)] = 2.0
    represented: Annotated[int, Field(ge=100)] = 5_000
    weights: Literal["items", "published"] = "items"
    ridge: Annotated[float, Field(ge=LEAST_RIDGE, allow_inf_nan=False)] = 1.0

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Pick greedily, and drop again."""
        form = Form.of(self.fisher, linear_of(context), self.top_classes)
        available, candidates = np.sum(fleet.each(count_rows), 0).tolist()
        form.check_size(context.labelled.vectors.shape[1], candidates)
        share = min(1.0, max(self.represented, candidates) / available)
        fisher = pool_fisher(fleet, form, share, derive(context.key, "represented"))
        labelled = form.of_items(context.labelled.vectors)
        precision, weight = self.precision_and_weight(fisher, labelled, k)
        covariance = Covariance(precision, fisher)
        wanted = max(k, min(int(self.oversample * k), candidates))
        key = derive(context.key, "spare")
        if form.rank_one and candidates * len(fisher) <= DRIVER_NUMBERS:
            ids, scores = pick_in_driver(fleet, form, weight, covariance, key, wanted, k)
        else:
            ids, scores = pick_where_they_are(fleet, form, weight, covariance, key, wanted, k)
        reasons = (
            f"lowers the trace by {score:.3g}" if score > 0 else "no information left, uniform" for score in scores
        )
        return Picks(ids=ids, scores=scores, reasons=tuple(reasons))

    def precision_and_weight(
        self, fisher: NDArray[np.float64], labelled: Information, k: int
    ) -> tuple[NDArray[np.float64], float]:
        """The precision before the first pick, and what the information of a pick is multiplied by.

        Args:
            fisher: F, float64 [m d, m d].
            labelled: of the n labelled items.
            k: items in the batch.

        Returns:
            (float64 [m d, m d], factor).
        """
        known, n, eye = labelled.total(), len(labelled), np.eye(len(fisher))
        average = float(np.trace(fisher)) / len(fisher)
        if self.weights == "published":
            return known / (n + k) + max(self.ridge, LEAST_RIDGE * average) * eye, k / (n + k)
        return known + (self.ridge * average if average > 0 else 1.0) * eye, 1.0


def pick_in_driver(
    fleet: Fleet, form: Form, weight: float, covariance: Covariance, key: int, wanted: int, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pick among candidates of rank one that fit into the driver. One round trip.

    Args:
        fleet: the pool's partitions.
        form: what the information of an item is.
        weight: what the information of a pick is multiplied by.
        covariance: M before the first pick, and F.
        key: as for `start`.
        wanted: items that are picked.
        k: items that are left of them.

    Returns:
        (ids [k] in pick order, by how much each lowered the trace when it was picked).

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    ids, vectors = (np.concatenate(column) for column in zip(*fleet.each(candidate_vectors), strict=True))
    refuse_broken(ids, np.isfinite(vectors).all(1))
    order = np.argsort(item_order(key, ids))  # ties go to the first
    ids, items = ids[order], form.of_items(vectors[order])
    v = items.rows()
    assert v is not None
    every = covariance.of_rank_one(v * weight**0.5)
    found = every.most_telling(wanted, -item_uniform(key, ids))
    kept = every.only(found.places).without_least(k) if wanted > k else np.arange(k)
    return ids[found.places[kept]], np.maximum(found.falls[kept], 0)


def pick_where_they_are(
    fleet: Fleet, form: Form, weight: float, covariance: Covariance, key: int, wanted: int, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """As `pick_in_driver`, with the candidates in the partitions, and a round trip for each pick."""
    ids, scores = np.empty(wanted, np.int64), np.empty(wanted)
    roots, features = [], []
    proposals = fleet.each(start, form, weight, covariance.matrix(), covariance.around_fisher(), key)
    for place in range(wanted):
        best = best_proposal(proposals)
        ids[place], scores[place] = best.id, max(best.value, 0.0)
        roots.append(best.extra.reshape(form.rank, form.outputs))
        features.append(best.vector)
        pick = Information.of_rows(roots[-1][None], best.vector[None])
        if place + 1 < wanted:
            proposals = fleet.each(add_pick, best.id, covariance.add(pick.matrices(slice(1))[0]))
        elif wanted > k:
            covariance.add(pick.matrices(slice(1))[0])
    if wanted > k:
        kept = covariance.without_least(Information.of_rows(np.array(roots), np.array(features)), k)
        ids, scores = ids[kept], scores[kept]
    return ids, scores


def linear_of(context: RoundContext) -> Linear:
    """The head as it travels to partitions.

    Args:
        context: what the round knows.

    Returns:
        Its weights.

    Raises:
        ConfigError: there is no head, or one for several labels at once.
    """
    return Linear.of(context.needed_head()) if context.needed_head().likelihood.quadratic else context.linear()


def pool_fisher(fleet: Fleet, form: Form, share: float, key: int) -> NDArray[np.float64]:
    """Mean Fisher matrix of what is available, or of a uniform sample of it. Two passes over these rows.

    Args:
        fleet: the pool's partitions.
        form: what the information of an item is.
        share: of the available items that are looked at; 1 for all.
        key: key of `raysal.rng` for the sample.

    Returns:
        float64 [m d, m d]; zeros where the sample is empty.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    largest, rows = zip(*fleet.each(largest_entry, form, share, key), strict=True)
    scale = power_of_two_scale(max(largest), FISHER_BITS)
    total = sum(fleet.each(sum_fisher, form, share, key, scale), np.zeros(1, np.int64))
    width = total.shape[0] * total.shape[1]
    return np.asarray(total.astype(np.float64).reshape(width, width) / scale / scale / max(sum(rows), 1))


@dataclass
class _Candidates:
    """What is known of the n candidates of a partition; V = root (x) h."""

    rows: CandidateRows
    roots: torch.Tensor
    """R, [r, m, n]"""
    uniform_order: torch.Tensor
    """minus a hash in (0, 1): the order once no information is left"""
    variance: torch.Tensor
    """V M V', [r, r, n]"""
    fall: torch.Tensor
    """V M F M V', [r, r, n]"""
    picked: torch.Tensor


# Functions of a partition.


def count_rows(partition: Partition) -> tuple[int, int]:
    """How many rows are available here, and how many of them may be picked."""
    return int(partition.available.sum()), len(partition.candidates())


def candidate_vectors(partition: Partition) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids and features of the candidates here."""
    return vectors_of(partition, partition.ids[partition.candidates()])


def represented_rows(partition: Partition, share: float, key: int) -> NDArray[np.int64]:
    """The rows that the Fisher matrix is taken over: the available ones whose hash is below `share`, ascending."""
    rows = np.flatnonzero(partition.available)
    return rows if share >= 1 else rows[item_uniform(key, partition.ids[rows]) < share]


def largest_entry(partition: Partition, form: Form, share: float, key: int) -> tuple[float, int]:
    """Find how large the entries of the rows' information are.

    Args:
        partition: whose rows.
        form: what the information of an item is.
        share: of the available rows that are looked at.
        key: of the sample.

    Returns:
        (the largest root of an entry of any R'R, times the largest feature of that row; the number of rows).

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    rows = represented_rows(partition, share, key)
    roots_of, largest = form.bind(partition), 0.0
    for block in partition.blocks(rows):
        features = form.features(block.features)
        roots = roots_of(features)
        entries = ((roots * roots).sum(0).amax(0).sqrt() * features.abs().amax(1))[: block.n]
        refuse_broken(partition.ids[block.rows], torch.isfinite(entries).cpu().numpy())
        largest = max(largest, float(entries.max()))
    return largest, len(rows)


def sum_fisher(partition: Partition, form: Form, share: float, key: int, scale: float) -> NDArray[np.int64]:
    """Sum of the Fisher matrices of the rows [m, d, m, d], in units of 1 / scale^2."""
    m, width = form.outputs, partition.width
    total = torch.zeros(m, width, m, width, dtype=torch.int64, device=partition.device)
    roots_of = form.bind(partition)
    for block in partition.blocks(represented_rows(partition, share, key)):
        features = form.features(block.features)
        for a, b, shares in output_pairs(roots_of(features)):
            # Whole numbers, whose sum is the same in any order.
            x = (features * (shares.abs().sqrt() * scale)[:, None]).round()[: block.n]
            signed = x if a == b else x * shares.sign()[: block.n, None]
            for own in slices(width, PANEL_COLUMNS):  # symmetric: above the diagonal only, by panels
                total[a, own, b, own.start :] += (signed[:, own].T @ x[:, own.start :]).long()
    for a in range(m):
        for b in range(a, m):
            upper = total[a, :, b].triu()
            total[a, :, b] = total[b, :, a] = upper + upper.triu(1).T
    return total[:, : partition.dim, :, : partition.dim].cpu().numpy()


def start(
    partition: Partition,
    form: Form,
    weight: float,
    covariance: NDArray[np.float64],
    around_fisher: NDArray[np.float64],
    key: int,
) -> Proposal:
    """Compute every candidate's V M V' and V M F M V', and propose the best.

    Args:
        partition: where they live.
        form: what the information of an item is.
        weight: what the information of a pick is multiplied by.
        covariance: M, float64 [m d, m d].
        around_fisher: M F M, float64 [m d, m d].
        key: key of `raysal.rng` for the order once no information is left, and of equal candidates.

    Returns:
        As `propose`.
    """
    rows, m, r = CandidateRows(partition, ties=key, features=form.features), form.outputs, form.rank
    roots_of = form.bind(partition)
    roots = torch.empty(r, m, len(rows), dtype=torch.float64, device=partition.device)
    for own, features in rows.blocks():
        roots[:, :, own] = roots_of(features)[:, :, : own.stop - own.start]
    roots *= weight**0.5
    quadratics = torch.zeros(2, r, r, len(rows), dtype=torch.float64, device=partition.device)
    for out, matrix in zip(quadratics, (covariance, around_fisher), strict=True):
        blocks = matrix.reshape(m, partition.dim, m, partition.dim)
        for a in range(m):
            for b in range(a, m):
                columns = partition.aligned(blocks[a, :, b], torch.float64)
                along = rows.numbers()
                for own, features in rows.blocks():
                    along[own] = (columns.padded_products(features) * features).sum(1)[: own.stop - own.start]
                share = roots[:, None, a] * roots[None, :, b]
                out += along * (share if a == b else share + share.transpose(0, 1))
    refuse_broken(rows.ids, torch.isfinite(quadratics).flatten(0, 2).all(0).cpu().numpy())
    uniform_order = torch.from_numpy(-item_uniform(key, rows.ids)).to(partition.device)
    picked = torch.zeros(len(rows), dtype=torch.bool, device=partition.device)
    partition.state["bait"] = _Candidates(rows, roots, uniform_order, quadratics[0], quadratics[1], picked)
    return propose(partition)


def propose(partition: Partition) -> Proposal:
    """The candidate here that lowers the trace most; its value is by how much, and `extra` its R.

    Args:
        partition: where the candidates live.

    Returns:
        The best; once none lowers the trace, that of lowest hash, with a value below zero.
    """
    state: _Candidates = partition.state["bait"]
    value = trace_changes(state.variance, state.fall)
    value = torch.where(value > 0, value, state.uniform_order).masked_fill(state.picked, -torch.inf)
    return state.rows.proposal_of(value, state.roots.permute(2, 0, 1).flatten(1))


def add_pick(partition: Partition, item: int, update: LowRankUpdate) -> Proposal:
    """Take a pick into the candidates' numbers, and propose the next.

    Args:
        partition: where the candidates live.
        item: id of the pick, which may live elsewhere.
        update: what its label changes.

    Returns:
        As `propose`.
    """
    state: _Candidates = partition.state["bait"]
    r, m = state.roots.shape[:2]
    vectors = np.stack([matrix.reshape(m, partition.dim, r) for matrix in (update.u, update.w)]).transpose(0, 1, 3, 2)
    for own, products in state.rows.along(vectors.reshape(-1, partition.dim)):
        turned = products.reshape(2, m, r, -1)
        along_u, along_w = (contracted(state.roots[:, :, own], one) for one in turned)
        update.apply(along_u, along_w, state.variance[:, :, own], state.fall[:, :, own])
    own_place = state.rows.place(item)
    if own_place is not None:
        state.picked[own_place] = True
    return propose(partition)
