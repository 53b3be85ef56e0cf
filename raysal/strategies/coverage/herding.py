"""MaxHerding and UHerding: pick what covers the pool best under a Gaussian kernel, all alike or the uncertain first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.errors import UserError
from raysal.fleet import Fleet
from raysal.models.head import Head
from raysal.numerics import DRIVER_ROWS, one_thread
from raysal.rng import derive, item_uniform
from raysal.scoring.linear import Linear, logits_of
from raysal.scoring.similarity import unit_rows
from raysal.scoring.top_k import best_of, best_of_parts
from raysal.strategies.base import Picks, Selector, count_candidates, sample_candidates
from raysal.strategies.engine.facility_location import Gaussian, coverage, facility_location, sq_distances
from raysal.strategies.engine.shortlist import Shortlist, gathered, lowest_available

Limit = Annotated[int, Field(ge=1, le=200_000)]
TEMPERATURES = np.arange(10, 200) / 10
"""1.0, 1.1, ... 19.9, as published."""
BINS = 15
"""Equal bins of confidence in the calibration error."""
COINCIDENT = 1e-12
"""Squared distances between unit rows up to this are of equal rows, and rounding."""


@dataclass(frozen=True, kw_only=True)
class MaxHerding(Selector):
    """The items that cover the pool best under a Gaussian kernel (Bae et al., ECCV 2024).

    Greedy argmax_s sum_n max(k(n, s) - m_n, 0) / g with k = exp(-(|x - x'| / sigma)^2) on unit rows, m_n the largest
    kernel value of row n with what is labelled or picked. The score is that gain. Needs no head and no labels.
    Candidates are all there are, or a uniform draw of `limit`; the n run over a uniform draw of `ground` items of the
    pool (g), also such as were narrowed away.
    Exact greedy on these, by lazy evaluation: O(limit ground d), then O(ground d) for each gain computed again; memory
    in the driver O((limit + ground) d). picks(k) is a prefix of picks(k + 1) while k <= limit. Once nothing gains, the
    rest comes in a uniform order. Favours dense regions: not for finding rare items.
    """

    limit: Limit = 10_000
    ground: Limit = 10_000
    sigma: Annotated[float, Field(gt=0)] = 1.0

    @property
    def needs_head(self) -> bool:
        return False

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        draw = Draw.of(fleet, context, max(self.limit, k), self.ground)
        return draw.herd(np.ones(len(draw.ground)), self.sigma, k, "coverage")


@dataclass(frozen=True, kw_only=True)
class UHerding(Selector):
    """The items that cover the uncertain candidates best (Bae, Hutchinson & Sutherland, ICLR 2025).

    MaxHerding with row n weighted by 1 - margin: greedy argmax_s sum_n u_n max(k(n, s) - m_n, 0) / g. Probabilities are
    taken at the temperature of 1.0, 1.1 ... 19.9 with the least expected calibration error on the labelled items,
    which the head has seen, so it calibrates less than held-out labels would; at 1 if their classes are not known, and
    the reason says so. sigma is the smallest distance above zero between labelled unit rows, 1 without any: with many
    labels it is small, and the rule turns into margin sampling, as intended. Needs a head. Costs and draws as of
    MaxHerding, and O((ground + labelled) d C + labelled^2 d) time. picks(k) is a prefix of picks(k + 1) while k <=
    limit. Not for heads of one class, where the order is uniform.
    """

    limit: Limit = 10_000
    ground: Limit = 10_000

    @property
    def needs_head(self) -> bool:
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        linear = context.linear()
        draw = Draw.of(fleet, context, max(self.limit, k), self.ground)
        temperature = temperature_of(context)
        u = 1 - margins(logits_of(draw.found.vectors[draw.ground], linear), temperature or 1.0)
        what = "uncertainty covered" if temperature else "uncertainty covered, not calibrated for want of classes,"
        return draw.herd(u, smallest_distance(draw.labelled), k, what)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Candidates and ground rows: positions in one shortlist, which holds both, and unit rows."""

    found: Shortlist
    candidates: NDArray[np.int64]
    ground: NDArray[np.int64]
    units: NDArray[np.float32]
    labelled: NDArray[np.float32]
    key: int

    @classmethod
    def of(cls, fleet: Fleet, context: RoundContext, limit: int, ground: int) -> Draw:
        """`limit` candidates and, of all that may be labelled, `ground` ground rows, of lowest hash; all where there
        are fewer.

        Raises:
            PoolError: a vector is not finite; it names the item.
            UserError: a labelled one is not.
        """
        key = derive(context.key, "shortlist")
        candidates, _ = best_of_parts(fleet.each(sample_candidates, key, limit), limit)
        covered, _ = best_of_parts(fleet.each(lowest_available, key, ground), ground)
        ids, vectors = gathered(fleet, np.union1d(candidates, covered))
        found = Shortlist(ids=ids, vectors=vectors, candidates=sum(fleet.each(count_candidates)))
        return cls(
            found=found,
            candidates=np.searchsorted(ids, np.sort(candidates)),
            ground=np.searchsorted(ids, np.sort(covered)),
            units=unit_rows(found.vectors),
            labelled=labelled_units(context.labelled.vectors),
            key=derive(context.key, "rest"),
        )

    def herd(self, weights: NDArray[np.float64], sigma: float, k: int, what: str) -> Picks:
        """Picks of the greedy rule, then of a uniform order."""
        kernel = Gaussian(sigma)
        ground = self.units[self.ground]
        cover = facility_location(
            self.units[self.candidates], ground, weights, coverage(ground, self.labelled, kernel), kernel, k
        )
        gains = cover.gains / len(ground)
        picks = self.candidates[cover.picks]
        left = np.setdiff1d(self.candidates, picks)
        rest = left[np.argsort(item_uniform(self.key, self.found.ids[left]), kind="stable")][: k - len(picks)]
        size = len(self.candidates)
        origin = "" if size == self.found.candidates else f" (of {size:,} drawn from {self.found.candidates:,})"
        reasons = [f"{what} +{gain:.3g}{origin}" for gain in gains]
        return Picks(
            ids=self.found.ids[np.concatenate([picks, rest])],
            scores=np.concatenate([gains, np.zeros(len(rest))]),
            reasons=(*reasons, *["nothing left to gain, uniform"] * len(rest)),
        )


def lowest(ids: NDArray[np.int64], key: int, size: int) -> NDArray[np.int64]:
    """Ascending positions of the `size` ids of lowest hash: a smaller draw within a shortlist of the same key."""
    kept, _ = best_of(ids, 1 - item_uniform(key, ids), size)
    return np.searchsorted(ids, np.sort(kept))


def labelled_units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit rows of the labelled items' vectors [n, d].

    Raises:
        UserError: a row is not finite; it names the first.
    """
    broken = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(broken):
        raise UserError(f"labelled row {broken[0]}", "its vector is not finite numbers", "embed it again")
    return unit_rows(vectors)


def smallest_distance(units: NDArray[np.float32]) -> float:
    """The smallest distance above zero between rows [n, d] of length 1; 1 if there is none. O(n^2 d)."""
    least = math.inf
    for _, _, tile in sq_distances(units, units):
        least = min(least, float(np.min(tile, where=tile > COINCIDENT, initial=np.inf)))
    return math.sqrt(least) if math.isfinite(least) else 1.0


def margins(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Largest less second largest probability [n] at a temperature; 1 with one class."""
    out = np.ones(len(logits))
    for start in range(0, len(logits) if logits.shape[1] > 1 else 0, DRIVER_ROWS):
        with one_thread():
            p = torch.softmax(torch.from_numpy(logits[start : start + DRIVER_ROWS]) / temperature, 1)
            top = p.topk(2, 1).values
        out[start : start + DRIVER_ROWS] = (top[:, 0] - top[:, 1]).numpy()
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
    errors = [calibration_error(logits, classes, float(temperature)) for temperature in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(errors))])


def calibration_error(logits: NDArray[np.float64], classes: NDArray[np.int64], temperature: float) -> float:
    """Expected calibration error at a temperature: sum over bins of confidence of share * |accuracy - confidence|
    (Guo et al., ICML 2017)."""
    with one_thread():
        scaled = torch.from_numpy((logits - logits.max(1, keepdims=True)) / temperature)
        confidence = (1 / scaled.exp_().sum(1)).numpy()
    right = logits.argmax(1) == classes
    bins = np.ceil(confidence * BINS).astype(np.int64)
    gaps = np.bincount(bins, weights=right - confidence)
    return float(np.abs(gaps).sum() / len(logits))
