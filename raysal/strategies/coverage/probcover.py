"""ProbCover: pick the balls that hold the most candidates not covered yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet
from raysal.rng import derive
from raysal.scoring.similarity import unit_rows
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.facility_location import (
    COINCIDENT_UNITS,
    Ball,
    Gaussian,
    RepresentedRows,
    coverage,
    facility_location,
    sq_distances,
)
from raysal.strategies.engine.kmeans import k_means
from raysal.strategies.engine.shortlist import QuadraticCount, labelled_unit_rows, sampled_positions, shortlist

CLUSTERS = 10
"""Clusters where neither the config nor a head says how many classes there are, or labels are numbers."""
SHARE_OF_RADIUS = 1 - 1e-9
"""Share of a radius that is used: rounding then decides nothing at the edge of a ball."""
WIDEST_SQ_DISTANCE = 4.0
"""Squared distance of two opposite unit rows."""


@dataclass(frozen=True, kw_only=True)
class ProbCover(Selector):
    """The items whose balls of radius delta hold the most candidates that no ball holds yet.

    Yehuda et al., NeurIPS 2022. Greedy maximum coverage on unit rows, where the balls of labelled items cover already.
    The score is the number of candidates newly covered. delta is the largest radius at which a share `purity` of the
    balls hold one cluster only. Clusters are those of k-means, as many as `clusters`, or as the head has classes, or
    10. For the purity, the balls of `purity_sample` items are looked at, over all candidates. Once all is covered, the
    item farthest from what is labelled or picked comes next, and the reason says so. No outlier is picked that way,
    because all is within delta by then.

    Works on all candidates, or a uniform sample of `max_candidates`. Exact greedy by lazy evaluation over tiles; the
    graph, up to n^2 edges with n candidates, is never stored. O(n^2 d), then O(n d) for each degree counted again and
    each pick beyond the cover; memory in the driver O(n d). Needs no head and no labels. picks(k) is a prefix of
    picks(k + 1) while k <= `max_candidates`. Made for few labels: with many, all is covered, and it was below random on
    Fashion-MNIST features at 50 labels and beyond.
    """

    FORMER: ClassVar[dict[str, str]] = {"limit": "max_candidates", "sample": "purity_sample"}
    purity: Annotated[float, Field(gt=0, le=1)] = 0.95
    clusters: Annotated[int, Field(ge=2)] | None = None
    purity_sample: Annotated[int, Field(ge=1)] = 2_000
    max_candidates: QuadraticCount = 10_000

    @property
    def needs_head(self) -> bool:
        """Never."""
        return False

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The balls that cover most of a shortlist, then the farthest items."""
        key = derive(context.key, "shortlist")
        found = shortlist(fleet, key, max(self.max_candidates, k))
        units, labelled = unit_rows(found.vectors), labelled_unit_rows(context.labelled.vectors)
        classes = context.head.classes if context.head is not None and context.head.likelihood.discrete else ()
        clusters = self.clusters or (max(2, len(classes)) if classes else CLUSTERS)
        assignment = k_means(units, clusters, derive(context.key, "clusters")).assignment
        sample = sampled_positions(found.ids, key, self.purity_sample)
        delta = pure_radius(units, assignment, sample, self.purity)
        ball = Ball(delta)
        cover = facility_location(units, units, np.ones(len(units)), coverage(units, labelled, ball), ball, k)
        centres = np.concatenate([labelled, units[cover.picks]])
        rest, gaps = farthest_rows(units, centres, cover.picks, k - len(cover.picks))
        reasons = [f"covers {gain:.0f} within {delta:.3g}{found.origin}" for gain in cover.gains]
        return Picks(
            ids=found.ids[np.concatenate([cover.picks, rest])],
            scores=np.concatenate([cover.gains, np.zeros(len(rest))]),
            reasons=(*reasons, *(f"all covered, farthest: {gap:.3g}" for gap in gaps)),
        )


def pure_radius(
    units: NDArray[np.float32], assignment: NDArray[np.int64], sample: NDArray[np.int64], purity: float
) -> float:
    """Find the largest radius at which enough open balls hold rows of one cluster only. O(m n d).

    A ball is pure up to the distance to the nearest row of another cluster, so the radius is a quantile of these
    distances. Equal rows share a cluster, so it is above 0.

    Args:
        units: Unit rows [n, d].
        assignment: Cluster of each row, [n].
        sample: Rows whose balls are looked at, [m].
        purity: Share of the balls that must be pure.

    Returns:
        The radius: at most 2, the width of the unit sphere, and a billionth below an exact distance.
    """
    nearest = np.full(len(sample), WIDEST_SQ_DISTANCE)
    for own, some, tile in sq_distances(units, units[sample]):
        other = assignment[sample[own], None] != assignment[None, some]
        nearest[own] = np.minimum(nearest[own], np.min(tile, axis=1, where=other, initial=np.inf))
    pure = math.ceil(purity * len(sample) - 1e-9)
    return math.sqrt(float(np.sort(nearest)[len(sample) - pure])) * SHARE_OF_RADIUS


def farthest_rows(
    units: NDArray[np.float32], centres: NDArray[np.float32], taken: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Take rows one by one, each the farthest from the centres and the rows before it. O(n (m + k) d).

    Args:
        units: Unit rows [n, d].
        centres: [m, d].
        taken: Rows that must not be taken.
        k: How many to take.

    Returns:
        (rows [k], how far each was [k]). Ties, also of rows less than a millionth away, go to the lower row.
    """
    near = RepresentedRows(units, np.ones(len(units)), coverage(units, centres, Gaussian(1.0)), Gaussian(1.0))
    out = np.zeros(len(units))
    out[taken] = np.inf
    picks, gaps = [], []
    for _ in range(k):
        row = int((np.where(near.covered < 1 - COINCIDENT_UNITS, near.covered, 1.0) + out).argmin())
        picks.append(row)
        gap = -math.log(near.covered[row])
        gaps.append(math.sqrt(gap) if gap > COINCIDENT_UNITS else 0.0)
        near.cover(units[row : row + 1])
        out[row] = np.inf
    return np.array(picks, np.int64), np.array(gaps)
