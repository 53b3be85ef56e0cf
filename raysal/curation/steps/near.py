"""The step that drops near-duplicates: each dropped item is near to a kept one, and no two kept ones are near."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysal.curation.base import Forecast, Speed, Step, StepResult, Work
from raysal.curation.dedup import FOLDER, THRESHOLD, Mode, NearDuplicates, check_mode, find_near_duplicates
from raysal.curation.home import home_of
from raysal.curation.near.against import check_against
from raysal.curation.near.foreseen import A_NEAR_PAIR, A_VALUE, CLUSTERING, foreseen
from raysal.curation.near.job import most_pairs, pairs_are_there
from raysal.curation.near.placing import FEW, ITEMS_A_CELL, cells_for
from raysal.curation.near.reading import ROWS_A_CELL, UNIT_CELLS
from raysal.curation.order import Prefer, check_order, check_threshold
from raysal.numerics import ceil_div
from raysal.paths import path_or_url
from raysal.pool import Pool, open_pool
from raysal.sources.places import PathOrUrl

LEADING = 0.5
"""Share of the numbers of a vector that most comparisons look at; of mixtures of images 125 of 256."""
SHARE = 0.15
"""Share of all pairs that bounds leave where no sample says it."""
BEFORE_PAIRS = 3e-6
"""Seconds an item for what comes before and after comparisons, in which files are read and pairs sorted."""
LAID_OUT = 12
"""How often a vector is read and laid out in the mode `clusters`."""
REASONS = ("near-duplicate of a kept item", "near to an item of the other pool")


@dataclass(frozen=True, kw_only=True)
class Near(Step):
    """Drop near-duplicates: of items in order, one is kept if it is near to none that is kept before it.

    So no two kept items are as similar as the threshold, and each dropped one is that similar to a kept one. Near pairs
    of the whole pool are found once and kept in it (`POOL/near`): the step takes some seconds then, for any threshold
    of the same size or higher. Where pairs are too many to list, items are compared with kept ones alone, with the same
    result.

    Cost: O(n^2 d) at most, of which bounds leave some 10 % at a cosine of 0.95 and 20 % at 0.9 (images); with
    `clusters` O(n d) products for some thousands of others of each item, and near pairs that share no cell are missed:
    `facts` has the recall, counted on a sample. Memory: of the driver 100 bytes an item and 60 a pair, of a worker up
    to four units of 300 MB.

    Bounds by planes between cells: Uhlmann 1991; Jacox & Samet 2008.
    """

    version = 2

    threshold: float = THRESHOLD
    """a cosine above 0 and up to 1; in a pool of the metric l2 a distance, of vectors as they were given"""
    keep: str | None = None
    """a column: the item with its largest value is kept; by default the first of the pool"""
    prefer: Prefer = "largest"
    """or `smallest`"""
    mode: Mode = "exact"
    """or `clusters`, for what is too large: approximate"""
    against: PathOrUrl | None = None
    """another pool, its path or URL: items that are near to one of it are dropped first"""

    def check(self, pool: Pool) -> None:
        """As of `Step`; also raises `FingerprintMismatch` for another pool that cannot be compared."""
        check_threshold(self.threshold, pool)
        check_mode(self.mode)
        check_order(pool, self.keep, self.prefer)
        if (other := self._other()) is not None:
            check_against(pool, other)

    def inputs(self, pool: Pool) -> Mapping[str, Any]:
        """The items of the other pool."""
        del pool
        return {} if (other := self._other()) is None else {"against": other.fingerprint}

    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        """As of `Step`, from a sample of the pool; how many are kept is not known before."""
        n, other = len(pool), self._other()
        similarity, numbers = check_threshold(self.threshold, pool), speed.rows * pool.dim
        there = self.mode == "exact" and pairs_are_there(pool, home_of(pool) / FOLDER, similarity)
        seen = None if there and other is None else foreseen(pool, similarity)
        share, near = (SHARE, 0.0) if seen is None else seen
        products = 0.0 if other is None else n * len(other) * pool.dim * LEADING * share
        cells, pairs, read = 0, 0.0, n
        if self.mode == "clusters":
            cells, read = cells_for(left), n + LAID_OUT * left
            products += left * min(left, FEW**2 * ITEMS_A_CELL) * pool.dim * LEADING
        elif not there:
            cells = min(UNIT_CELLS, ceil_div(n, ROWS_A_CELL))
            products += n * n / 2 * pool.dim * LEADING * share
            pairs = min(near * n * n / 2, most_pairs(n))
        passed = n * cells * A_VALUE + min(n / (UNIT_CELLS * ROWS_A_CELL), 1) * CLUSTERING * (cells > 0)
        passed += pairs * pool.dim * A_NEAR_PAIR
        products += n * pool.dim * (cells + pool.dim)
        seconds = products / speed.products + passed / numbers + read / speed.rows + n * BEFORE_PAIRS
        return Forecast(kept=None, seconds=seconds)

    def apply(self, work: Work) -> StepResult:
        """As of `Step`; also raises `FingerprintMismatch` for another pool that cannot be compared."""
        found = find_near_duplicates(
            work.pool,
            work.fleet,
            self.threshold,
            keep=self.keep,
            prefer=self.prefer,
            mode=self.mode,
            against=self._other(),
            left=work.left,
            folder=home_of(work.pool) / FOLDER,
            sieve=work.folder,
            report=work.report,
        )
        return result_of(found, REASONS)

    def _other(self) -> Pool | None:
        return None if self.against is None else open_pool(path_or_url(self.against))


def result_of(found: NearDuplicates, reasons: tuple[str, ...]) -> StepResult:
    """What a step dropped, from what became of each item.

    Args:
        found: the items.
        reasons: of an item that was dropped for a kept one, and of one that was dropped for one of the other pool.

    Returns:
        The result. `nearest` is -1 for those of the other pool; its keys are listed.
    """
    dropped = ~found.found.kept
    ids = np.concatenate([found.found.ids[dropped], found.to_other.ids])
    order = np.argsort(ids)
    nearest = np.concatenate([found.found.nearest[dropped], np.full(found.near_other, -1)])
    value = np.concatenate([found.found.similarity[dropped], found.to_other.similarity])
    if found.pool.metric == "l2":
        value = np.sqrt(np.maximum(-value, 0)) / found.pool.scale
    reason = np.repeat(np.array([0, 1], np.uint8), [int(dropped.sum()), found.near_other])
    return StepResult(
        ids=ids[order],
        reason=reason[order],
        reasons=reasons,
        nearest=nearest[order],
        value=value[order],
        facts=facts_of(found),
        listed=found.listed_other(),
    )


def facts_of(found: NearDuplicates) -> dict[str, Any]:
    """What a report shows of near-duplicates as a whole."""
    sizes, counts = np.unique(found.group_sizes(), return_counts=True)
    facts: dict[str, Any] = {"group_sizes": dict(zip(map(str, sizes.tolist()), counts.tolist(), strict=True))}
    what = "distance" if found.pool.metric == "l2" else "similarity"
    facts["value"] = f"the {what} to the item that it was dropped for"
    notes = list(found.notes)
    if found.recall is not None:
        low, high = found.recall.interval
        near = {"near": found.recall.near, "sample": found.recall.sample}
        facts["recall"] = {"share": found.recall.share, "low": low, "high": high, **near}
        notes.append(str(found.recall))
    if found.against is not None:
        facts["against"] = {"pool": found.against.place, "near": found.near_other}
    return {**facts, "notes": notes} if notes else facts
