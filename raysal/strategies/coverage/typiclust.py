"""TypiClust: the most typical item of each cluster that has no labels yet; also the first batch of a run."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet
from raysal.numerics import DRIVER_ROWS, one_thread, padded, round_up, slices
from raysal.rng import derive, generator
from raysal.scoring.similarity import unit_rows
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.kmeans import Clusters, k_means, round_robin
from raysal.strategies.engine.shortlist import CANDIDATES_PER_PICK, shortlist

NEIGHBOURS = 20
"""Typicality is judged by at most this many nearest neighbours within the cluster, as published."""
SMALL_CLUSTER = 5
"""Items of a cluster that is used last, at most, as published."""
DISTANCE_OFFSET = 1e-5
"""What is added to a mean distance before it is inverted, as published: copies are not infinitely typical."""


@dataclass(frozen=True, kw_only=True)
class TypiClust(Selector):
    """k-means, and the most typical item of each cluster without labels.

    Hacohen, Dekel & Weinshall, ICML 2022. Unit vectors of candidates and labelled items fall into labelled + k clusters
    (at most one for every 5 items). Clusters come in turn, those with the fewest labelled items first, then the
    largest; those of 5 items or fewer come last. Each gives its candidate of highest typicality: 1 / (mean distance to
    the min(20, n/2) nearest of the cluster's n candidates + 1e-5).

    Needs no head and no labels: meant for the first batches, where uncertainty knows nothing and CoreSet would label
    outliers. Not for later ones: typical items teach a good head little.

    Works on a uniform sample of `max_candidates` candidates (at least 5 k), and of as many labelled items where there
    are more, so that neither time nor memory grows with the pool: O(s K d) an iteration for s items and K clusters, and
    O(m^2 d) in a cluster of m; memory O(s d). No prefix property: k decides the clusters.
    """

    FORMER: ClassVar[dict[str, str]] = {"sample": "max_candidates"}
    max_candidates: Annotated[int, Field(ge=1)] = 10_000

    @property
    def needs_head(self) -> bool:
        """Never."""
        return False

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The most typical items of a shortlist, clustered together with the labelled items."""
        size = max(self.max_candidates, CANDIDATES_PER_PICK * k)
        some = shortlist(fleet, derive(context.key, "sample"), size)
        labelled = context.labelled.vectors
        if len(labelled) > size:
            sampled = generator(derive(context.key, "labelled")).choice(len(labelled), size, replace=False)
            labelled = labelled[np.sort(sampled)]
        chosen = typical_rows(unit_rows(some.vectors), unit_rows(labelled), k, derive(context.key, "clusters"))
        reasons = tuple(
            f"most typical of a cluster of {n}, {covered} labelled{some.origin}"
            for n, covered in zip(chosen.sizes, chosen.labelled, strict=True)
        )
        return Picks(ids=some.ids[chosen.rows], scores=chosen.typicality, reasons=reasons)


class Typical(NamedTuple):
    """Typical rows in pick order, and what their clusters hold."""

    rows: NDArray[np.int64]
    """[k]"""
    typicality: NDArray[np.float64]
    """[k]"""
    sizes: NDArray[np.int64]
    """Items of each row's cluster, [k]."""
    labelled: NDArray[np.int64]
    """Labelled items of each row's cluster, [k]."""


def typical_rows(x: NDArray[np.float32], labelled: NDArray[np.float32], k: int, key: int) -> Typical:
    """Take the most typical rows, where labelled items take part in the clustering.

    Args:
        x: Unit rows of candidates, [n, d], n >= k.
        labelled: Unit rows of labelled items, [m, d].
        k: How many rows to take.
        key: Key of the clustering.

    Returns:
        k distinct rows of x.
    """
    every = np.concatenate([x, labelled.reshape(-1, x.shape[1])])
    count = min(len(labelled) + k, max(len(every) // SMALL_CLUSTER, 1))
    return most_typical(x, k_means(every, count, key), k)


def most_typical(x: NDArray[np.float32], clusters: Clusters, k: int) -> Typical:
    """Take the most typical rows of clusters in turn. Where large clusters run out, small ones follow.

    Args:
        x: Rows of candidates, [n, d], n >= k.
        clusters: Their clusters; the clusters' rows beyond n are labelled items.
        k: How many rows to take.

    Returns:
        k distinct rows of x.
    """
    n, sizes = len(x), clusters.sizes
    covered = np.bincount(clusters.assignment[n:], minlength=len(clusters))
    members = [rows[rows < n] for rows in clusters.members()]
    typicality = np.empty(n)
    for rows in members:
        typicality[rows] = typicality_of(x[rows])
    order = sorted(
        (c for c in range(len(clusters)) if len(members[c])), key=lambda c: (covered[c], -sizes[c], members[c][0])
    )
    queues = {c: members[c][np.argsort(-typicality[members[c]], kind="stable")] for c in order}
    large, small = ([queues[c] for c in order if (sizes[c] > SMALL_CLUSTER) == wanted] for wanted in (True, False))
    rows = np.concatenate([round_robin(some, k) for some in (large, small) if some])[:k]
    cluster = clusters.assignment[rows]
    return Typical(rows, typicality[rows], sizes[cluster], covered[cluster])


def typicality_of(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the typicality of each row among the others.

    Neighbours are found by float32 products about the mean, O(m^2 d) in tiles, and measured by float64 differences.

    Args:
        x: Rows [m, d].

    Returns:
        Float64 [m]; 0 for a row alone.
    """
    m, d = x.shape
    if m < 2:
        return np.zeros(m)
    near = max(min(NEIGHBOURS, m // 2), 1)
    size = min(DRIVER_ROWS, round_up(m))
    centred = (x - x.mean(0, dtype=np.float64)).astype(np.float32)
    points = padded(centred, round_up(d), torch.float32, rows=round_up(m, size))
    sq_norms = (points.numpy() ** 2).sum(1)
    sq_norms[m:] = np.inf  # padding is nobody's neighbour
    mean_distance = np.empty(m)
    # Threads may share small products otherwise than large ones of a fixed shape.
    with nullcontext() if m > DRIVER_ROWS else one_thread():
        for tile in slices(m, size):
            own = np.arange(tile.start, tile.stop)
            rows = points[tile.start : tile.start + size]
            products = torch.cat([rows @ points[other].T for other in slices(len(points), size)], 1)
            gaps = (torch.from_numpy(sq_norms) - 2 * products)[: len(own)]
            gaps[torch.arange(len(own)), torch.from_numpy(own)] = torch.inf  # nor is a row its own
            nearest = gaps.topk(near, 1, largest=False).indices.numpy()
            total = np.zeros(len(own))
            for column in nearest.T:
                total += np.sqrt(((x[own].astype(np.float64) - x[column]) ** 2).sum(1))
            mean_distance[own] = total / near
    typicality: NDArray[np.float64] = 1 / (mean_distance + DISTANCE_OFFSET)
    return typicality
