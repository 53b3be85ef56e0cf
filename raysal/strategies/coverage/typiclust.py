"""TypiClust: the most typical item of each cluster that has no labels yet; also the first batch of a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet
from raysal.numerics import ALIGN, DRIVER_ROWS, one_thread, padded, round_up, shared_out, slices
from raysal.rng import derive, generator, item_uniform
from raysal.scoring.similarity import unit_rows
from raysal.scoring.top_k import smallest
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.kmeans import Clusters, k_means
from raysal.strategies.engine.shortlist import CANDIDATES_PER_PICK, shortlist

NEIGHBOURS = 20
"""Typicality is judged by at most this many nearest neighbours within the cluster, as published."""
SMALL_CLUSTER = 5
"""Items of a cluster that is used last, at most. The authors drop such clusters."""
ROUNDING = 4 * 2.0**-24
"""Of float32, for each of the d terms of a squared distance by a product; twice the bound."""
DISTANCE_OFFSET = 1e-5
"""What is added to a mean distance before it is inverted, as in the authors' code, so that copies have a typicality."""


@dataclass(frozen=True, kw_only=True)
class TypiClust(Selector):
    """k-means, and the most typical item of each cluster without labels.

    Hacohen, Dekel & Weinshall, ICML 2022. Unit vectors of candidates and labelled items fall into min(labelled + k,
    `max_clusters`) clusters. Clusters come in turn, those with the fewest labelled items first, then the largest. Each
    gives the most typical of the candidates that are left in it, by 1 / (mean distance to the min(20, n/2) nearest of
    these n + 1e-5). That is the typicality of the paper. The authors' code takes squared distances: 77 to 98 % of a
    first batch are then the same items, and accuracy differs by less than its error.

    Where it is not as published:

    - Clusters of 5 items or fewer come last; the authors drop them, and their code ends with an error where the others
      run out. For this there is at most one cluster for every 5 items, which binds below 2,500 items.
    - It works on a uniform sample of `max_candidates` candidates (at least 5 k), and of as many labelled items where
      there are more, so that neither time nor memory grows with the pool. On 60,000 Fashion-MNIST vectors, the first 10
      items of 10,000 candidates give 57.2 +- 0.3 % accuracy in 2.6 s, those of the whole pool 55.2 +- 2.5 % in 64 s
      (five seeds). A larger `max_candidates` is the published form.
    - Lloyd's iterations, where the authors turn to mini-batches above 50 clusters.

    Needs no head and no labels: meant for the first batches, where uncertainty knows nothing and CoreSet would label
    outliers. Not for later ones: typical items teach a good head little.

    O(s K d) an iteration for s items and K clusters, and O(m^2 d) in each cluster of m that has a turn; memory O(s d).
    Of equally typical items, and of clusters alike, that of the lowest hash comes first. No prefix property: k decides
    the clusters.
    """

    FORMER: ClassVar[dict[str, str]] = {"sample": "max_candidates"}
    max_candidates: Annotated[int, Field(ge=1)] = 10_000
    max_clusters: Annotated[int, Field(ge=1)] = 500

    @property
    def needs_head(self) -> bool:
        """Never."""
        return False

    @property
    def looks_at_head(self) -> bool:
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
        x, known = unit_rows(some.vectors), unit_rows(labelled)
        clusters = cluster(x, known, min(len(known) + k, self.max_clusters), derive(context.key, "clusters"))
        chosen = most_typical(x, clusters, k, item_uniform(derive(context.key, "ties"), some.ids))
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
    """Of each row when it was picked, [k]."""
    sizes: NDArray[np.int64]
    """Items of each row's cluster, [k]."""
    labelled: NDArray[np.int64]
    """Labelled items of each row's cluster, [k]."""


def cluster(x: NDArray[np.float32], labelled: NDArray[np.float32], count: int, key: int) -> Clusters:
    """Cluster candidates together with labelled items.

    Args:
        x: Unit rows of candidates, [n, d].
        labelled: Unit rows of labelled items, [m, d].
        count: Number of clusters; fewer where there are not `SMALL_CLUSTER` items for each.
        key: Key of the clustering.

    Returns:
        The clusters of candidates, followed by labelled items.
    """
    every = np.concatenate([x, labelled]) if len(labelled) else x
    return k_means(every, min(count, max(len(every) // SMALL_CLUSTER, 1)), key)


def most_typical(x: NDArray[np.float32], clusters: Clusters, k: int, ties: NDArray[np.float64]) -> Typical:
    """Take the most typical row of clusters in turn, those of the fewest labelled items first, then the largest.

    A row that was taken counts for nothing in its cluster's next turn. Where large clusters run out, small ones follow.

    Args:
        x: Rows of candidates, [n, d], n >= k.
        clusters: Their clusters; the clusters' rows beyond n are labelled items.
        k: How many rows to take.
        ties: Among equals the row of the least of these numbers is taken, [n].

    Returns:
        k distinct rows of x.
    """
    n, sizes = len(x), clusters.sizes
    covered = np.bincount(clusters.assignment[n:], minlength=len(clusters))
    members = [rows[rows < n] for rows in clusters.members()]
    occupied = [c for c in range(len(clusters)) if len(members[c])]
    order = sorted(occupied, key=lambda c: (covered[c], -sizes[c], ties[members[c]].min()))
    taken: list[tuple[int, float]] = []
    for wanted in (True, False):
        turns = [Remaining(x, members[c], ties) for c in order if (sizes[c] > SMALL_CLUSTER) == wanted]
        while turns and len(taken) < k:
            taken += take_each(turns[: k - len(taken)])
            turns = [turn for turn in turns if len(turn)]
    rows = np.array([row for row, _ in taken], np.int64)
    own = clusters.assignment[rows]
    return Typical(rows, np.array([value for _, value in taken]), sizes[own], covered[own])


def take_each(turns: Sequence[Remaining]) -> list[tuple[int, float]]:
    """Let each cluster take a row, small ones side by side: (row of x, its typicality) of each."""
    small = [turn for turn in turns if turn.is_small]
    found = dict(zip(map(id, small), shared_out(Remaining.take, small, torch.get_num_threads()), strict=True))
    return [found[id(turn)] if turn.is_small else turn.take() for turn in turns]


class Remaining:
    """The rows of one cluster that are left, and how typical each is among them.

    Neighbours are looked for at the first turn, O(m^2 d), and later only for rows that lost one.

    Args:
        x: Rows of candidates, [n, d].
        members: Those of the cluster, [m].
        ties: Among equals the row of the least of these numbers is taken, [n].
    """

    def __init__(self, x: NDArray[np.float32], members: NDArray[np.int64], ties: NDArray[np.float64]) -> None:
        self.x, self.members, self.ties = x, members, ties[members]
        self.left = np.ones(len(members), bool)
        self.found: Neighbourhood | None = None

    def __len__(self) -> int:
        return int(self.left.sum())

    @property
    def is_small(self) -> bool:
        """Whether one thread computes its products, because several may share small ones otherwise than large ones."""
        return len(self.members) <= DRIVER_ROWS

    def take(self) -> tuple[int, float]:
        """Take the most typical row that is left: (row of x, its typicality)."""
        if self.found is None:
            self.found = Neighbourhood(self.x[self.members])
        typicality = self.found.typicality(self.left, best=True)
        best = np.flatnonzero(typicality == typicality.max())
        place = int(best[self.ties[best].argmin()])
        self.left[place] = False
        return int(self.members[place]), float(typicality[place])


class Neighbourhood:
    """Nearest neighbours among some rows, for sets of them that only shrink.

    Neighbours are found by float32 products about the mean, in tiles. These say how large the mean distance to them is,
    within bounds; float64 differences measure it.

    Args:
        x: Rows [m, d].
    """

    def __init__(self, x: NDArray[np.float32]) -> None:
        self.x = x
        m, d = x.shape
        self.size = min(DRIVER_ROWS, round_up(m))
        centred = (x - x.mean(0, dtype=np.float64)).astype(np.float32)
        self.points = padded(centred, round_up(d), torch.float32, rows=round_up(m, self.size))
        self.sq_norms = (self.points.numpy() ** 2).sum(1)
        norms = np.sqrt(self.sq_norms[:m].astype(np.float64))
        self.error = ROUNDING * (d + ALIGN) * (norms + norms.max()) ** 2
        """How far a squared distance by products may be off, [m]."""
        self.nearest = np.empty((m, 0), np.int64)
        self.least, self.most = np.empty((2, m))
        """Bounds on the mean distance to the nearest, [m]."""
        self.mean_distance = np.full(m, np.inf)
        """Where it was measured; else infinite."""

    def typicality(self, left: NDArray[np.bool_], *, best: bool = False) -> NDArray[np.float64]:
        """Compute the typicality of each row among those that are left.

        Args:
            left: [m]; a row that was not left before is not left now.
            best: Measure only rows that may be the most typical.

        Returns:
            Float64 [m]; 0 for a row alone, and for one that was not measured; -inf for one that is not left.
        """
        n = int(left.sum())
        if n < 2:
            return np.where(left, 0.0, -np.inf)
        count = max(min(NEIGHBOURS, n // 2), 1)
        same = self.nearest.shape[1] == count
        stale = left & ~left[self.nearest].all(1) if same else left
        if not same:
            self.nearest = np.zeros((len(left), count), np.int64)
        self._look(np.flatnonzero(stale), left)
        wanted = left & (self.least <= self.most[left].min()) if best else left
        self._measure(np.flatnonzero(wanted & np.isinf(self.mean_distance)))
        return np.where(left, 1 / (self.mean_distance + DISTANCE_OFFSET), -np.inf)

    def _look(self, rows: NDArray[np.int64], left: NDArray[np.bool_]) -> None:
        """Find the neighbours of some rows among those that are left. O(rows m d)."""
        offsets = np.full(len(self.points), np.inf, np.float32)  # padding, and what is not left, is nobody's neighbour
        offsets[: len(left)][left] = self.sq_norms[: len(left)][left]
        gaps, block = torch.empty(self.size, len(self.points)), torch.zeros(self.size, self.points.shape[1])
        # Threads may share small products otherwise than large ones of a fixed shape.
        with nullcontext() if len(left) > DRIVER_ROWS else one_thread():
            for tile in slices(len(rows), self.size):
                own = rows[tile]
                torch.index_select(self.points, 0, torch.from_numpy(own), out=block[: len(own)])
                block[: len(own)] *= -2
                for other in slices(len(self.points), self.size):
                    torch.mm(block, self.points[other].T, out=gaps[:, other])
                found = gaps[: len(own)].add_(torch.from_numpy(offsets))
                found[torch.arange(len(own)), torch.from_numpy(own)] = torch.inf  # nor is a row its own
                places, lowest = smallest(found, self.nearest.shape[1])
                self.nearest[own] = places.numpy()
                sq_distances = lowest.double().numpy() + self.sq_norms[own, None]
                error = self.error[own, None]
                self.least[own] = np.sqrt(np.maximum(sq_distances - error, 0)).mean(1)
                self.most[own] = np.sqrt(np.maximum(sq_distances, 0) + error).mean(1)
        self.mean_distance[rows] = np.inf

    def _measure(self, rows: NDArray[np.int64]) -> None:
        """Measure the mean distance of some rows to their neighbours."""
        for tile in slices(len(rows), DRIVER_ROWS):
            own = rows[tile]
            x, total = self.x[own].astype(np.float64), np.zeros(len(own))
            for column in self.nearest[own].T:
                total += np.sqrt(((x - self.x[column]) ** 2).sum(1))
            self.mean_distance[own] = total / self.nearest.shape[1]


def typicality_of(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the typicality of each row [m, d] among the others: float64 [m]; 0 for a row alone."""
    return Neighbourhood(x).typicality(np.ones(len(x), bool))
