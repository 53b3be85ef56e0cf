"""A narrower around another one: rows are dropped before it sees the pool."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.config import Inner, Named
from raysal.context import RoundContext
from raysal.errors import ConfigError, PoolExhausted
from raysal.fleet import Fleet, Partition, exclude
from raysal.narrowing.anchors import Count
from raysal.narrowing.base import Narrowed, Narrower
from raysal.narrowing.duplicates import drop_repeats, first_of_each, least_similarity
from raysal.narrowing.outliers import drop_above, fit_gaussians, measure_knn, measure_mahalanobis
from raysal.narrowing.predicates import check, drop_where
from raysal.narrowing.simple import Everything
from raysal.rng import derive
from raysal.scoring.quantile import order_statistics
from raysal.scoring.sweep import Sweep, SweepRequest, sample_partition
from raysal.scoring.top_k import best_of
from raysal.strategies.base import Selector

NOTHING: Named[Narrower] = Named("none", Everything())
LIMIT = 20_000
"""Candidates that are compared with one another: their vectors come together here."""
DISTANCE = "distance to what is labelled"


@dataclass(frozen=True, kw_only=True)
class Filter(Narrower):
    """The narrower `inner` over what is left when rows were dropped: `filter:anchoral`. What is dropped is neither
    found, nor picked, nor used to top a batch up; what is labelled stays. In this order:

    `where`: rows must pass a test on each of these carried columns: `{label = "a"}`, `{source = ["web", "scan"]}`,
    `{year = {min = 2020, max = 2024}}` (both included), `{split = {not = "test"}}`. A null, or a NaN, never passes.
    `outliers`: of the rows left, the floor(`outlier_share` * n) farthest from what is labelled go, by the distance to
    the `outlier_k`-th nearest labelled item (`knn`; Sun et al., ICML 2022), or to the nearest class mean in a shrunk
    covariance that classes share (`mahalanobis`; Lee et al., NeurIPS 2018). Rows that tie with the last one to stay,
    stay. Without labels none goes, and the rule says so. Not while classes are still to be found: they look like this.
    `duplicates`: rows whose cosine with a labelled item is at least this (0.99), or, in a pool of the metric l2, whose
    distance is at most this. And of what `inner` gives, no two are that near: the first stays, in its order or by id.
    Candidates are compared with one another up to 20,000 of them; in a larger pool that `inner` does not narrow they
    are not looked at.

    Cost: `where` reads the columns once for each process; `outliers` and `duplicates` take a product with what is
    labelled each, O(n a d), or O(n d (d + C)) for `mahalanobis`; candidates O(m^2 d). A few round trips each.

    Raises:
        PoolExhausted: fewer than k rows are left.
        ConfigError: `where` names no column of the pool, or asks for values of another type than the column's.
    """

    inner: Inner[Narrower] = NOTHING
    where: Mapping[str, Any] = field(default_factory=dict)
    outliers: Literal["knn", "mahalanobis"] | None = None
    outlier_share: Annotated[float, Field(gt=0, lt=1)] = 0.01
    outlier_k: Count = 5
    duplicates: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    def __post_init__(self) -> None:
        check(self.where, "narrow.where")

    def request(self, context: RoundContext) -> SweepRequest:
        return self.inner.part.request(context)

    def wants_index(self) -> bool:
        return self.inner.part.wants_index()

    def strategies(self) -> Sequence[Selector]:
        return self.inner.part.strategies()

    def narrow(self, fleet: Fleet, context: RoundContext) -> tuple[Sweep, Narrowed]:
        least = None
        if self.duplicates is not None:
            least = least_similarity(self.duplicates, context.pool.metric, "narrow.duplicates")
        dropped, notes = self._drop(fleet, context, least)
        left = context.available - dropped
        if left < context.k:
            raise PoolExhausted(wanted=context.k, available=left)
        found, narrowed = self.inner.part.narrow(fleet, replace(context, available=left))
        if least is not None:
            narrowed, repeats = without_repeats(fleet, context, narrowed, left, least)
            notes.append(repeats)
        return found, replace(narrowed, rule=f"{narrowed.rule}, dropped {', '.join(notes) or 'nothing'}")

    def _drop(self, fleet: Fleet, context: RoundContext, least: float | None) -> tuple[int, list[str]]:
        """Drop rows before anything is searched; returns how many, and a note for each kind."""
        counts, notes, labelled = [0], [], context.labelled
        if self.where:
            self._check_columns(context)
            counts.append(sum(fleet.each(drop_where, dict(self.where), "narrow.where")))
            notes.append(f"{counts[-1]} by where")
        if self.outliers is not None:
            counts.append(self._drop_outliers(fleet, context) if len(labelled) else 0)
            notes.append(f"{counts[-1]} outliers" + ("" if len(labelled) else " (no labels yet)"))
        if least is not None:
            counts.append(sum(fleet.each(drop_repeats, labelled.vectors, least)) if len(labelled) else 0)
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
        """Drop the rows farthest from what is labelled; returns how many."""
        if self.outliers == "knn":
            n = sum(fleet.each(measure_knn, DISTANCE, context.labelled.vectors, self.outlier_k))
        else:
            n = sum(fleet.each(measure_mahalanobis, DISTANCE, fit_gaussians(context.labelled, context.pool.metric)))
        if n == 0:
            return 0
        rank = n - 1 - math.floor(Fraction(str(self.outlier_share)) * n)  # a share is the decimal it is written as
        return sum(fleet.each(drop_above, DISTANCE, float(order_statistics(fleet, DISTANCE, [rank])[0])))


def without_repeats(
    fleet: Fleet, context: RoundContext, narrowed: Narrowed, left: int, least: float
) -> tuple[Narrowed, str]:
    """The candidates without those that nearly repeat a better one, which are dropped; and a note. Where fewer than k
    remain they are filled up from a uniform sample, of which none repeats another either.

    Raises:
        PoolExhausted: fewer than k items are left that repeat no other.
    """
    offered = left if narrowed.ids is None else len(narrowed.ids)
    if max(offered, context.k) > LIMIT:
        return narrowed, f"none among {offered} candidates (more than {LIMIT} are not compared)"
    ids, vectors = gather(fleet, narrowed.ids)
    kept = first_of_each(vectors, least, context.pool.metric)
    fleet.each(exclude, ids[~kept])
    note = f"{int((~kept).sum())} among the candidates"
    ids, vectors = ids[kept], vectors[kept]
    if narrowed.ids is None:
        if len(ids) < context.k:
            raise PoolExhausted(wanted=context.k, available=len(ids))
        return narrowed, note
    if short := max(context.k - len(ids), 0):
        ids = filled_up(fleet, context, ids, vectors, least)
        note += f", topped up with {short} uniform"
    return replace(narrowed, ids=ids), note


def filled_up(
    fleet: Fleet, context: RoundContext, ids: NDArray[np.int64], vectors: NDArray[np.float32], least: float
) -> NDArray[np.int64]:
    """`ids` and as many more of a uniform sample as make k, none of which nearly repeats another. A few round trips:
    the sample doubles while it is not enough.

    Raises:
        PoolExhausted: there are not as many.
    """
    size = context.k - len(ids)
    while len(ids) < context.k:
        wanted = len(ids) + size
        parts = fleet.each(sample_partition, derive(context.key, "sample"), wanted)
        drawn, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        sample, _ = best_of(drawn, values, wanted)
        sample = sample[~np.isin(sample, ids)]
        if len(sample) == 0:
            raise PoolExhausted(wanted=context.k, available=len(ids))
        more, their = gather(fleet, sample)
        kept = first_of_each(np.concatenate([vectors, their]), least, context.pool.metric)[len(ids) :]
        fleet.each(exclude, more[~kept])
        ids, vectors = np.concatenate([ids, more[kept]]), np.concatenate([vectors, their[kept]])
        size = min(2 * size, LIMIT)
    return ids[: context.k]


def gather(fleet: Fleet, ids: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(ids, vectors) of those of `ids` that are available, in the order of `ids`; of all that are, by id, for None."""
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
    return partition.ids[rows], partition.gather(rows).astype(np.float32)
