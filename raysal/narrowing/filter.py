"""A narrower around another one: it drops items before the other one sees the pool."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.config import Count, Inner, Named
from raysal.context import RoundContext
from raysal.errors import ConfigError, PoolExhausted
from raysal.fleet import Fleet, Partition, exclude
from raysal.narrowing.base import Candidates, Narrower
from raysal.narrowing.duplicates import drop_duplicates, duplicate_similarity, first_of_duplicates
from raysal.narrowing.outliers import drop_above, fit_gaussians, store_knn_distances, store_mahalanobis_distances
from raysal.narrowing.predicates import check_tests, drop_where
from raysal.narrowing.simple import Everything
from raysal.rng import derive
from raysal.scoring.quantile import order_statistics
from raysal.scoring.sweep import Sweep, SweepRequest, sample_available
from raysal.strategies.base import Selector

WHOLE_POOL: Named[Narrower] = Named("none", Everything())
MOST_COMPARED = 20_000
"""Candidates up to which each is compared with all others. Their vectors are gathered in the driver for that."""
DISTANCE = "distance to what is labelled"
"""In a partition's state, while outliers are found: ids [n] of the available rows, and their distances float32 [n]."""


@dataclass(frozen=True, kw_only=True)
class Filter(Narrower):
    """Drops items, then leaves what remains to the narrower `inner`: `filter:anchoral`.

    What is dropped is not found, not picked, and not added to a batch that is too small. Labelled items stay anchors.
    Items are dropped in this order:

    `where`: an item must pass a test on each of these carried columns: `{label = "a"}`, `{source = ["web", "scan"]}`,
    `{year = {min = 2020, max = 2024}}` (both included), `{split = {not = "test"}}`. A null, or a NaN, never passes.

    `outliers`: of the n items that remain, the floor(`outlier_share` * n) farthest from what is labelled are dropped.
    `knn` takes the distance to the `outlier_k`-th nearest labelled item (Sun et al., ICML 2022); `mahalanobis` that to
    the nearest class mean, in a shrunk covariance that classes share (Lee et al., NeurIPS 2018). Items that tie with
    the last one to stay, stay. Without labels none is dropped, and the rule says so. Do not use it while classes are
    still to be found: their items are outliers, too.

    `duplicates`: an item is dropped where its cosine with a labelled item is at least this (0.99), or, in a pool of the
    metric l2, where its distance is at most this, in the units that vectors were given in. The candidates that `inner`
    names are compared with one another as well: of two that are so near the first stays, in the order of `inner`, or by
    id. This is done for up to 20,000 candidates, so not in a larger pool that `inner` does not narrow.

    Cost: `where` reads the columns once for each process. `outliers` and `duplicates` take a product with what is
    labelled each, O(n a d), or O(n d (d + C)) for `mahalanobis`; comparing m candidates takes O(m^2 d). A few round
    trips each.

    Raises (when narrowing):
        PoolExhausted: fewer than k items remain.
        ConfigError: `where` names no column of the pool, or asks for values of another type than the column's.
    """

    inner: Inner[Narrower] = WHOLE_POOL
    where: Mapping[str, Any] = field(default_factory=dict)
    outliers: Literal["knn", "mahalanobis"] | None = None
    outlier_share: Annotated[float, Field(gt=0, lt=1)] = 0.01
    outlier_k: Count = 5
    duplicates: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    def __post_init__(self) -> None:
        check_tests(self.where, "narrow.where")

    def request(self, context: RoundContext) -> SweepRequest:
        """That of the narrower inside."""
        return self.inner.part.request(context)

    def wants_index(self) -> bool:
        """Whether the narrower inside does."""
        return self.inner.part.wants_index()

    def needs_target(self) -> bool:
        """Whether the narrower inside does."""
        return self.inner.part.needs_target()

    def strategies(self) -> Sequence[Selector]:
        """Those of the narrower inside."""
        return self.inner.part.strategies()

    def narrow(self, fleet: Fleet, context: RoundContext) -> tuple[Sweep, Candidates]:
        """What the narrower inside finds and names where the dropped items do not exist."""
        threshold = None
        if self.duplicates is not None:
            metric, scale = context.pool.metric, context.scale
            threshold = duplicate_similarity(self.duplicates, metric, "narrow.duplicates", scale)
        dropped, notes = self._drop(fleet, context, threshold)
        left = context.available - dropped
        if left < context.k:
            raise PoolExhausted(wanted=context.k, available=left)
        found, candidates = self.inner.part.narrow(fleet, replace(context, available=left))
        if threshold is not None:
            candidates, note = without_duplicates(fleet, context, candidates, left, threshold)
            notes.append(note)
        return found, replace(candidates, rule=f"{candidates.rule}, dropped {', '.join(notes) or 'nothing'}")

    def _drop(self, fleet: Fleet, context: RoundContext, threshold: float | None) -> tuple[int, list[str]]:
        """Drop items before anything is searched; returns how many, and a note for each reason."""
        counts, notes, labelled = [0], [], context.labelled
        if self.where:
            self._check_columns(context)
            counts.append(sum(fleet.each(drop_where, dict(self.where), "narrow.where")))
            notes.append(f"{counts[-1]} by where")
        if self.outliers is not None:
            counts.append(self._drop_outliers(fleet, context) if len(labelled) else 0)
            notes.append(f"{counts[-1]} outliers" + ("" if len(labelled) else " (no labels yet)"))
        if threshold is not None:
            counts.append(sum(fleet.each(drop_duplicates, labelled.vectors, threshold)) if len(labelled) else 0)
            notes.append(f"{counts[-1]} near-duplicates of labelled")
        return sum(counts), notes

    def _check_columns(self, context: RoundContext) -> None:
        there = context.pool.columns
        for name in self.where:
            if name not in there:
                raise ConfigError(
                    f"narrow.where.{name}", "the pool has no such column", f"its columns: {', '.join(there)}"
                )

    def _drop_outliers(self, fleet: Fleet, context: RoundContext) -> int:
        """Drop the items farthest from what is labelled; returns how many."""
        if self.outliers == "knn":
            n = sum(fleet.each(store_knn_distances, DISTANCE, context.labelled.vectors, self.outlier_k))
        else:
            gaussians = fit_gaussians(context.labelled, context.pool.metric)
            n = sum(fleet.each(store_mahalanobis_distances, DISTANCE, gaussians))
        if n == 0:
            return 0
        rank = n - 1 - math.floor(Fraction(str(self.outlier_share)) * n)  # a share is the decimal it is written as
        return sum(fleet.each(drop_above, DISTANCE, float(order_statistics(fleet, DISTANCE, [rank])[0])))


def without_duplicates(
    fleet: Fleet, context: RoundContext, candidates: Candidates, left: int, threshold: float
) -> tuple[Candidates, str]:
    """Drop the candidates that are near-duplicates of a better one.

    Where fewer than k remain, items of a uniform sample are added, of which none is a near-duplicate either.

    Args:
        fleet: the pool's partitions.
        context: what the round knows.
        candidates: what the narrower inside named.
        left: how many items are available.
        threshold: the similarity from which on two items are near-duplicates.

    Returns:
        The candidates that remain, in their order, and a note on how many were dropped.

    Raises:
        PoolExhausted: fewer than k items are left of which none is a near-duplicate of another.
    """
    offered = left if candidates.ids is None else len(candidates.ids)
    if max(offered, context.k) > MOST_COMPARED:
        return candidates, f"none among {offered} candidates (more than {MOST_COMPARED} are not compared)"
    ids, vectors = gather(fleet, candidates.ids)
    distinct = first_of_duplicates(vectors, threshold, context.pool.metric)
    fleet.each(exclude, ids[~distinct])
    note = f"{int((~distinct).sum())} among the candidates"
    ids, vectors = ids[distinct], vectors[distinct]
    if candidates.ids is None:
        if len(ids) < context.k:
            raise PoolExhausted(wanted=context.k, available=len(ids))
        return candidates, note
    if short := max(context.k - len(ids), 0):
        ids = top_up(fleet, context, ids, vectors, threshold)
        note += f", topped up with {short} uniform"
    return replace(candidates, ids=ids), note


def top_up(
    fleet: Fleet, context: RoundContext, ids: NDArray[np.int64], vectors: NDArray[np.float32], threshold: float
) -> NDArray[np.int64]:
    """Add items of a uniform sample to the candidates until there are k. The near-duplicates among them are dropped.

    Takes a few round trips: the sample doubles while it is not enough.

    Args:
        fleet: the pool's partitions.
        context: what the round knows.
        ids: the candidates [n], fewer than k.
        vectors: theirs, float32 [n, d].
        threshold: the similarity from which on two items are near-duplicates.

    Returns:
        k ids that begin with the candidates.

    Raises:
        PoolExhausted: there are not as many.
    """
    size = context.k - len(ids)
    while len(ids) < context.k:
        wanted = len(ids) + size
        sample = sample_available(fleet, derive(context.key, "sample"), wanted)
        sample = sample[~np.isin(sample, ids)]
        if len(sample) == 0:
            raise PoolExhausted(wanted=context.k, available=len(ids))
        more, their = gather(fleet, sample)
        distinct = first_of_duplicates(np.concatenate([vectors, their]), threshold, context.pool.metric)[len(ids) :]
        fleet.each(exclude, more[~distinct])
        ids, vectors = np.concatenate([ids, more[distinct]]), np.concatenate([vectors, their[distinct]])
        size = min(2 * size, MOST_COMPARED)
    return ids[: context.k]


def gather(fleet: Fleet, ids: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Bring vectors into the driver.

    Args:
        fleet: the pool's partitions.
        ids: of which items, [n]; None for all.

    Returns:
        Ids and vectors float32 [m, d] of those that are available, in the order of `ids`, or by id.
    """
    parts = fleet.each(available_vectors, ids)
    found, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
    if ids is None:
        return found, vectors
    by_id = np.argsort(ids)
    order = np.argsort(by_id[np.searchsorted(ids[by_id], found)])
    return found[order], vectors[order]


# Functions of a partition.


def available_vectors(
    partition: Partition, ids: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(ids, vectors) of those of `ids` that live here and are available; of all that are for None."""
    rows = np.arange(len(partition)) if ids is None else partition.rows_of(ids)
    rows = rows[partition.available[rows]]
    return partition.ids[rows], partition.gather(rows, np.float32)
