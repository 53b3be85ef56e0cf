"""TypiClust: the most typical item of each cluster nobody has labelled yet; also the cold start."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet
from raysal.numerics import DRIVER_ROWS, one_thread, padded, round_up
from raysal.rng import derive, generator
from raysal.scoring.similarity import unit_rows
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.kmeans import Clusters, in_turn, k_means
from raysal.strategies.engine.shortlist import shortlist

NEIGHBOURS = 20
"""Typicality is judged by at most this many nearest neighbours within the cluster, as published."""
SMALL = 5
"""Clusters of at most this many items are used last, as published."""


@dataclass(frozen=True, kw_only=True)
class TypiClust(Selector):
    """k-means, and the most typical item of each cluster without labels (Hacohen, Dekel & Weinshall, ICML 2022).

    Unit vectors of candidates and labelled items fall into labelled + k clusters (at most one for every 5 items).
    Clusters come in turn, fewest labelled items first, then largest; those of 5 items or fewer last. Each gives its
    candidate of highest typicality, 1 / (mean distance to the min(20, n/2) nearest of the cluster's n candidates +
    1e-5).

    Needs no head and no labels: meant for the first batches, where uncertainty knows nothing and CoreSet would label
    outliers. Not for later ones: typical items teach a good head little.
    Works on a uniform draw of `sample` candidates (at least 5 k), and of as many labelled items where there are more,
    so that neither time nor memory grows with the pool: O(s K d) an iteration for s items and K clusters, and O(m^2 d)
    in a cluster of m; memory O(s d). No prefix property: k decides the clusters.
    """

    sample: Annotated[int, Field(ge=1)] = 10_000

    @property
    def needs_head(self) -> bool:
        return False

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        size = max(self.sample, 5 * k)
        some = shortlist(fleet, derive(context.key, "sample"), size)
        labelled = context.labelled.vectors
        if len(labelled) > size:
            drawn = generator(derive(context.key, "labelled")).choice(len(labelled), size, replace=False)
            labelled = labelled[np.sort(drawn)]
        chosen = typical_rows(unit_rows(some.vectors), unit_rows(labelled), k, derive(context.key, "clusters"))
        reasons = tuple(
            f"most typical of a cluster of {n}, {covered} labelled{some.origin}"
            for n, covered in zip(chosen.sizes, chosen.labelled, strict=True)
        )
        return Picks(ids=some.ids[chosen.rows], scores=chosen.typicality, reasons=reasons)


class Typical(NamedTuple):
    """Rows [k] in pick order, their typicality, and the items and labelled items of their clusters."""

    rows: NDArray[np.int64]
    typicality: NDArray[np.float64]
    sizes: NDArray[np.int64]
    labelled: NDArray[np.int64]


def typical_rows(x: NDArray[np.float32], labelled: NDArray[np.float32], k: int, key: int) -> Typical:
    """k distinct rows of x [n, d], n >= k, with `labelled` [m, d] taking part in the clustering."""
    every = np.concatenate([x, labelled.reshape(-1, x.shape[1])])
    count = min(len(labelled) + k, max(len(every) // SMALL, 1))
    return most_typical(x, k_means(every, count, key), k)


def most_typical(x: NDArray[np.float32], clusters: Clusters, k: int) -> Typical:
    """k distinct rows of x [n, d], cluster by cluster in turn; the clusters' rows beyond n are labelled items.

    Where large clusters run out, small ones follow.
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
    large, small = ([queues[c] for c in order if (sizes[c] > SMALL) == wanted] for wanted in (True, False))
    rows = np.concatenate([in_turn(some, k) for some in (large, small) if some])[:k]
    cluster = clusters.assignment[rows]
    return Typical(rows, typicality[rows], sizes[cluster], covered[cluster])


def typicality_of(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Typicality of each row of x [m, d] among the others; 0 for a row alone.

    Neighbours are found by float32 products about the mean, O(m^2 d) in tiles, and measured by float64 differences.
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
        for start in range(0, m, size):
            own = np.arange(start, min(start + size, m))
            tiles = [points[start : start + size] @ points[c : c + size].T for c in range(0, len(points), size)]
            gaps = (torch.from_numpy(sq_norms) - 2 * torch.cat(tiles, 1))[: len(own)]
            gaps[torch.arange(len(own)), torch.from_numpy(own)] = torch.inf  # nor is a row its own
            nearest = gaps.topk(near, 1, largest=False).indices.numpy()
            total = np.zeros(len(own))
            for column in nearest.T:
                total += np.sqrt(((x[own].astype(np.float64) - x[column]) ** 2).sum(1))
            mean_distance[own] = total / near
    typicality: NDArray[np.float64] = 1 / (mean_distance + 1e-5)
    return typicality
