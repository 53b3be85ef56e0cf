"""MaxHerding and UHerding: pick what covers the pool best under a Gaussian kernel, all alike or the uncertain first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet
from raysal.models.head import Head
from raysal.models.measures import expected_calibration_error
from raysal.numerics import DRIVER_ROWS, one_thread, slices
from raysal.rng import derive, item_order
from raysal.scoring.linear import Linear, logits_of
from raysal.scoring.similarity import unit_rows
from raysal.scoring.sweep import sample_available
from raysal.scoring.top_k import best_of_parts, lowest_hashes
from raysal.strategies.base import Picks, Selector, count_candidates, sample_candidates
from raysal.strategies.engine.facility_location import (
    COINCIDENT_UNITS,
    Gaussian,
    coverage,
    facility_location,
    sq_distances,
)
from raysal.strategies.engine.shortlist import QuadraticCount, Shortlist, gathered, labelled_unit_rows, sample_origin

FORMER = {"limit": "max_candidates", "ground": "max_represented"}
"""Former names of the fields of both strategies."""
TEMPERATURES = np.arange(10, 200) / 10
"""1.0, 1.1, ... 19.9, as published."""


@dataclass(frozen=True, kw_only=True)
class MaxHerding(Selector):
    """The items that cover the pool best under a Gaussian kernel.

    Bae et al., ECCV 2024. Greedy argmax_s sum_n max(k(n, s) - m_n, 0) / g with k = exp(-(|x - x'| / sigma)^2) on unit
    rows, and m_n the largest kernel value of row n with what is labelled or picked. The score is that gain. Once
    nothing gains, the rest comes in a uniform order.

    Candidates are all there are, or a uniform sample of `max_candidates` (c). The n run over the rows to represent: a
    uniform sample of `max_represented` items of the pool (g), also such as were narrowed away, but for `refine`, which
    makes a pool of what it leaves. Exact greedy on these, by lazy evaluation: O(c g d), then O(g d) for each gain
    computed again; memory in the driver O((c + g) d). Needs no head and no labels. picks(k) is a prefix of picks(k + 1)
    while k <= `max_candidates`. Favours dense regions: not for finding rare items.
    """

    FORMER: ClassVar[dict[str, str]] = FORMER
    max_candidates: QuadraticCount = 10_000
    max_represented: QuadraticCount = 10_000
    sigma: Annotated[float, Field(gt=0)] = 1.0

    @property
    def needs_head(self) -> bool:
        """Never."""
        return False

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Facility location with all rows of the same weight."""
        rows = HerdingRows.of(fleet, context, max(self.max_candidates, k), self.max_represented)
        return rows.picks(np.ones(len(rows.represented)), self.sigma, k, "coverage")


@dataclass(frozen=True, kw_only=True)
class UHerding(Selector):
    """The items that cover the uncertain items of the pool best.

    Bae, Hutchinson & Sutherland, ICLR 2025. MaxHerding with row n weighted by u_n = 1 - margin: greedy
    argmax_s sum_n u_n max(k(n, s) - m_n, 0) / g.

    Probabilities are taken at the temperature of 1.0, 1.1 ... 19.9 with the least expected calibration error on the
    labelled items (15 bins). The head has seen these, so it calibrates less than held-out labels would. The temperature
    is 1 if their classes are not known, and the reason says so. sigma is the smallest distance above zero between
    labelled unit rows, or 1 without any. With many labels it is small, and the strategy turns into margin sampling, as
    intended.

    Needs a head. Costs and samples as of MaxHerding, and O((g + labelled) d C + labelled^2 d) time. picks(k) is a
    prefix of picks(k + 1) while k <= `max_candidates`. Not for heads of one class, where the order is uniform.
    """

    FORMER: ClassVar[dict[str, str]] = FORMER
    max_candidates: QuadraticCount = 10_000
    max_represented: QuadraticCount = 10_000

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Facility location with rows weighted by their uncertainty."""
        linear = context.linear()
        rows = HerdingRows.of(fleet, context, max(self.max_candidates, k), self.max_represented)
        temperature = temperature_of(context)
        u = 1 - margins(logits_of(rows.found.vectors[rows.represented], linear), temperature or 1.0)
        what = "uncertainty covered" if temperature else "uncertainty covered, not calibrated for want of classes,"
        return rows.picks(u, smallest_distance(rows.labelled), k, what)


@dataclass(frozen=True, kw_only=True)
class HerdingRows:
    """Candidates and rows to represent, as positions in one shortlist that holds both."""

    found: Shortlist
    candidates: NDArray[np.int64]
    """[c], in the order of a hash: of equal gains the first is picked"""
    represented: NDArray[np.int64]
    """[g]"""
    units: NDArray[np.float32]
    """Unit rows of the shortlist, [n, d]."""
    labelled: NDArray[np.float32]
    """Unit rows of the labelled items."""
    key: int
    """Key of the uniform order in which items come that gain nothing."""

    @classmethod
    def of(cls, fleet: Fleet, context: RoundContext, max_candidates: int, max_represented: int) -> HerdingRows:
        """Bring both kinds of rows into the driver.

        Args:
            fleet: The partitions of the pool.
            context: What the round knows.
            max_candidates: The most candidates; where there are more, those of lowest hash.
            max_represented: The most rows to represent, of all that may be labelled; likewise.

        Returns:
            The rows.

        Raises:
            PoolError: A vector is not finite; it names the item.
            UserError: A vector of a labelled item is not finite.
        """
        key = derive(context.key, "shortlist")
        candidates, _ = best_of_parts(fleet.each(sample_candidates, key, max_candidates), max_candidates, ties=key)
        represented = sample_available(fleet, key, max_represented)
        ids, vectors = gathered(fleet, np.union1d(candidates, represented))
        return cls(
            found=Shortlist(ids=ids, vectors=vectors, candidates=sum(fleet.each(count_candidates))),
            candidates=np.searchsorted(ids, candidates[np.argsort(item_order(context.ties, candidates))]),
            represented=np.searchsorted(ids, np.sort(represented)),
            units=unit_rows(vectors),
            labelled=labelled_unit_rows(context.labelled.vectors),
            key=derive(context.key, "rest"),
        )

    def picks(self, weights: NDArray[np.float64], sigma: float, k: int, what: str) -> Picks:
        """Pick greedily by gain, then in a uniform order.

        Args:
            weights: Weights of the rows to represent, [g].
            sigma: Width of the kernel.
            k: How many to pick.
            what: For reasons, what a gain is a gain of.

        Returns:
            The batch.
        """
        kernel = Gaussian(sigma)
        represented = self.units[self.represented]
        covered = coverage(represented, self.labelled, kernel)
        cover = facility_location(self.units[self.candidates], represented, weights, covered, kernel, k)
        gains = cover.gains / len(represented)
        picks = self.found.ids[self.candidates[cover.picks]]
        others = np.setdiff1d(self.found.ids[self.candidates], picks)
        rest, _ = lowest_hashes(others, self.key, k - len(picks))
        origin = sample_origin(len(self.candidates), self.found.candidates)
        reasons = [f"{what} +{gain:.3g}{origin}" for gain in gains]
        return Picks(
            ids=np.concatenate([picks, rest]),
            scores=np.concatenate([gains, np.zeros(len(rest))]),
            reasons=(*reasons, *["nothing left to gain, uniform"] * len(rest)),
        )


def smallest_distance(units: NDArray[np.float32]) -> float:
    """The smallest distance above zero between rows [n, d] of length 1; 1 if there is none. O(n^2 d)."""
    least = math.inf
    for _, _, tile in sq_distances(units, units):
        least = min(least, float(np.min(tile, where=tile > COINCIDENT_UNITS, initial=np.inf)))
    return math.sqrt(least) if math.isfinite(least) else 1.0


def margins(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Largest less second largest probability [n] at a temperature; 1 with one class."""
    out = np.ones(len(logits))
    for own in slices(len(logits) if logits.shape[1] > 1 else 0, DRIVER_ROWS):
        with one_thread():
            p = torch.softmax(torch.from_numpy(logits[own]) / temperature, 1)
            top = p.topk(2, 1).values
        out[own] = (top[:, 0] - top[:, 1]).numpy()
    return out


def temperature_of(context: RoundContext) -> float | None:
    """The temperature of least calibration error on the labelled items; None where their classes are not known."""
    head: Head | None = context.head
    if head is None or len(context.labelled.classes) != len(context.labelled.vectors):
        return None
    place = {name: row for row, name in enumerate(head.classes)}
    known = [row for row, name in enumerate(context.labelled.classes) if name in place]
    if not known:
        return None
    logits = logits_of(context.labelled.vectors[known], Linear.of(head))
    classes = np.array([place[context.labelled.classes[row]] for row in known])
    right = logits.argmax(1) == classes
    errors = [expected_calibration_error(confidences(logits, float(t)), right) for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(errors))])


def confidences(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Probability of the predicted class [n] at a temperature, from logits [n, C]."""
    with one_thread():
        scaled = torch.from_numpy((logits - logits.max(1, keepdims=True)) / temperature)
        return (1 / scaled.exp_().sum(1)).numpy()
