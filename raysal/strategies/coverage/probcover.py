"""ProbCover: pick the balls that hold the most candidates not covered yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet
from raysal.rng import derive
from raysal.scoring.similarity import unit_rows
from raysal.strategies.base import Picks, Selector
from raysal.strategies.coverage.herding import COINCIDENT, Limit, labelled_units, lowest
from raysal.strategies.engine.facility_location import Ball, Gaussian, Ground, coverage, facility_location, sq_distances
from raysal.strategies.engine.kmeans import k_means
from raysal.strategies.engine.shortlist import shortlist

CLUSTERS = 10
"""Clusters where neither the config nor a head says how many classes there are, or labels are numbers."""
EDGE = 1 - 1e-9
"""Share of a radius that is used: rounding then decides nothing at the edge of a ball."""


@dataclass(frozen=True, kw_only=True)
class ProbCover(Selector):
    """The items whose balls of radius delta hold the most candidates that none holds yet (Yehuda et al., NeurIPS 2022).

    Greedy maximum coverage on unit rows, where the balls of labelled items cover already. The score is the number of
    candidates newly covered. delta is the largest radius at which a share `purity` of the balls hold one cluster only;
    clusters are those of k-means, as many as `clusters`, or as the head has classes, or 10. The balls of `sample`
    items are looked at for that, over all candidates. Once all is covered, the item farthest from what is labelled or
    picked comes next, and the reason says so: all is within delta by then, so no outlier is left to chase.

    Works on all candidates, or a uniform draw of `limit`. Exact greedy by lazy evaluation over tiles; the graph, up to
    limit^2 edges, is never stored. O(limit^2 d), then O(limit d) for each degree counted again and each pick beyond
    the cover; memory in the driver O(limit d). Needs no head and no labels; picks(k) is a prefix of picks(k + 1) while
    k <= limit. Made for few labels: with many, all is covered, and it was below random on Fashion-MNIST features at 50
    labels and beyond.
    """

    purity: Annotated[float, Field(gt=0, le=1)] = 0.95
    clusters: Annotated[int, Field(ge=2)] | None = None
    sample: Annotated[int, Field(ge=1)] = 2_000
    limit: Limit = 10_000

    @property
    def needs_head(self) -> bool:
        return False

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        key = derive(context.key, "shortlist")
        found = shortlist(fleet, key, max(self.limit, k))
        units, labelled = unit_rows(found.vectors), labelled_units(context.labelled.vectors)
        classes = context.head.classes if context.head is not None and context.head.likelihood.discrete else ()
        clusters = self.clusters or (max(2, len(classes)) if classes else CLUSTERS)
        assignment = k_means(units, clusters, derive(context.key, "clusters")).assignment
        delta = pure_radius(units, assignment, lowest(found.ids, key, self.sample), self.purity)
        ball = Ball(delta)
        cover = facility_location(units, units, np.ones(len(units)), coverage(units, labelled, ball), ball, k)
        rest, gaps = farthest(units, np.concatenate([labelled, units[cover.picks]]), cover.picks, k - len(cover.picks))
        reasons = [f"covers {gain:.0f} within {delta:.3g}{found.origin}" for gain in cover.gains]
        return Picks(
            ids=found.ids[np.concatenate([cover.picks, rest])],
            scores=np.concatenate([cover.gains, np.zeros(len(rest))]),
            reasons=(*reasons, *(f"all covered, farthest: {gap:.3g}" for gap in gaps)),
        )


def pure_radius(
    units: NDArray[np.float32], assignment: NDArray[np.int64], sample: NDArray[np.int64], purity: float
) -> float:
    """The largest radius at which a share `purity` of the open balls about rows `sample` of units [n, d] hold rows of
    one cluster only; at most 2, the width of the unit sphere, and a billionth below an exact distance.

    A ball is pure up to the distance to the nearest row of another cluster, so the radius is a quantile of these
    distances. O(sample n d). Equal rows share a cluster, so it is above 0.
    """
    nearest = np.full(len(sample), 4.0)
    for own, ground, tile in sq_distances(units, units[sample]):
        other = assignment[sample[own], None] != assignment[None, ground]
        nearest[own] = np.minimum(nearest[own], np.min(tile, axis=1, where=other, initial=np.inf))
    pure = math.ceil(purity * len(sample) - 1e-9)
    return math.sqrt(float(np.sort(nearest)[len(sample) - pure])) * EDGE


def farthest(
    units: NDArray[np.float32], centres: NDArray[np.float32], taken: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """k rows of units [n, d] not `taken`, each the farthest from the centres and the rows before it, and how far.

    Ties, also of rows less than a millionth away, go to the lower row. O(n (centres + k) d).
    """
    near = Ground(units, np.ones(len(units)), coverage(units, centres, Gaussian(1.0)), Gaussian(1.0))
    out = np.zeros(len(units))
    out[taken] = np.inf
    picks, gaps = [], []
    for _ in range(k):
        row = int((np.where(near.covered < 1 - COINCIDENT, near.covered, 1.0) + out).argmin())
        picks.append(row)
        gap = -math.log(near.covered[row])
        gaps.append(math.sqrt(gap) if gap > COINCIDENT else 0.0)
        near.cover(units[row : row + 1])
        out[row] = np.inf
    return np.array(picks, np.int64), np.array(gaps)
