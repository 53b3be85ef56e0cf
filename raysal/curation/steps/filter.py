"""The step that drops what is no good item by itself: by columns, by distance to a reference, by novelty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainValidator, ValidationInfo

from raysal.config import Count, Named
from raysal.curation.base import Forecast, Speed, Step, StepResult, Work
from raysal.curation.filtering.columns import (
    PASSES,
    Columns,
    beyond,
    check_columns,
    check_types,
    read_columns,
    reasons_of,
)
from raysal.curation.filtering.distances import Far, OutlierRule, farthest, most_novel
from raysal.errors import ConfigError
from raysal.fleet import exclude
from raysal.narrowing.predicates import check_tests
from raysal.pool import Pool
from raysal.rng import derive
from raysal.scoring.novelty.base import Novelty
from raysal.scoring.novelty.field import build_field
from raysal.scoring.top_k import lowest_hashes

PLACE = "filter"
COLUMN_ROWS = 5e6
"""Values of a column that are read and tested in a second."""
NOVELTY_SAMPLE = 2_000
"""Items that most novelties compare with, for a forecast."""
MOST_REASONS = 250
"""Of columns. A result tells 256 apart."""
Share = Annotated[float, Field(gt=0, lt=1)]
VALUE = "what the reason measures"
"""What the value of a dropped item is."""
SHARE = 0.01
"""Of outliers, and of what is novel, where nobody says another one."""


def _novelty(value: Any, info: ValidationInfo) -> Named[Novelty] | None:
    return None if value is None else build_field(value, info)


@dataclass(frozen=True, kw_only=True)
class Filter(Step):
    """Drops items that are no good by themselves.

    In this order:

    `where`: an item must pass a test on each of these columns, as of the narrower `filter`:
    `{sharpness = {min = 5}}`, `{language = ["en", "de"]}`, `{split = {not = "test"}}`. An item without a value (null,
    or NaN) does not pass, unless `keep_missing` is true.

    `lowest`, `highest`: of the n items left that have a value of a column, the floor(share * n) with the lowest, or
    highest, ones are dropped: `{sharpness = 0.01}`. All columns are looked at before any of these items is dropped, so
    their order does not matter. Items without a value stay.

    `outliers`: items that pass the tests of `like` are a reference, and none of them is dropped. Of the n others that
    are left, the floor(outlier_share * n) farthest from it are; the share is 1 % by default. `knn` takes the distance
    to the `outlier_k`-th nearest item of the reference (Sun et al., ICML 2022); `mahalanobis` that to its mean, in its
    shrunk covariance (Lee et al., NeurIPS 2018). Of a reference of more than `outlier_sample` items a uniform sample is
    taken.

    `novelty`: of the n items left, the floor(novelty_share * n) that are least like the rest, by one of
    `raysal.scoring.novelty`, which is fitted on these. The share is 1 % by default.

    Of each share, items that tie with the last one to stay, stay.

    Cost: the columns are read once, in the driver: 11 bytes an item, and 8 for each column of `lowest` and `highest`.
    `outliers`: O(n d outlier_sample), and the vectors of the sample in the driver; `novelty`: what it costs, in passes
    over the vectors. Beside them a few round trips, and nothing is kept over an interruption.
    """

    where: Mapping[str, Any] = field(default_factory=dict)
    keep_missing: bool = False
    lowest: Mapping[str, Share] = field(default_factory=dict)
    highest: Mapping[str, Share] = field(default_factory=dict)
    outliers: OutlierRule | None = None
    like: Mapping[str, Any] = field(default_factory=dict)
    outlier_share: Share | None = None
    outlier_k: Count = 5
    outlier_sample: Count = 10_000
    novelty: Annotated[Named[Novelty] | None, PlainValidator(_novelty)] = None
    novelty_share: Share | None = None

    def __post_init__(self) -> None:
        check_tests(self.where, f"{PLACE}.where")
        check_tests(self.like, f"{PLACE}.like")
        if self.outliers is not None and not self.like:
            fix = 'say which items are as they should be: like = {split = "train"}'
            raise ConfigError(f"{PLACE}.like", "outliers are far from a reference, and none is named", fix)
        if self.like and self.outliers is None:
            raise ConfigError(f"{PLACE}.outliers", "a reference is named, and nothing goes by it", 'outliers = "knn"')
        if self.outliers is None and self.outlier_share is not None:
            raise ConfigError(f"{PLACE}.outlier_share", "nothing is dropped by outliers", 'add outliers = "knn"')
        if self.novelty is None and self.novelty_share is not None:
            raise ConfigError(f"{PLACE}.novelty_share", "nothing is dropped by novelty", 'add novelty = "knn"')

    def check(self, pool: Pool) -> None:
        """Look for the columns, and at the types of the tests.

        Raises:
            ConfigError: a column is not there, or a test is of another type; or the step has nothing to go by.
        """
        if not (self.where or self.lowest or self.highest or self.outliers or self.novelty):
            fix = "add where, lowest, highest, outliers or novelty"
            raise ConfigError(PLACE, "there is nothing to filter by", fix)
        count = len(reasons_of(self.where, keep_missing=False)) + len(self.lowest) + len(self.highest)
        if count > MOST_REASONS:
            problem = f"an item could be dropped for {count} reasons, and {MOST_REASONS} can be told apart"
            raise ConfigError(f"{PLACE}.where", problem, "use several steps")
        for name, tests in (("where", self.where), ("like", self.like)):
            check_columns(pool, f"{PLACE}.{name}", tests)
            check_types(pool, f"{PLACE}.{name}", tests)
        for name, shares in (("lowest", self.lowest), ("highest", self.highest)):
            check_columns(pool, f"{PLACE}.{name}", shares, numbers=True)

    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        """How long it takes. How many are kept is known when it is done: of shares, items that tie stay."""
        seconds = left * len({*self.where, *self.like, *self.lowest, *self.highest}) / COLUMN_ROWS
        for compared, wanted in ((self.outlier_sample, self.outliers), (NOVELTY_SAMPLE, self.novelty)):
            seconds += (left * pool.dim * compared / speed.products + 2 * left / speed.rows) if wanted else 0
        return Forecast(kept=None, seconds=seconds)

    def apply(self, work: Work) -> StepResult:
        """Find what is to be dropped; the docstring of the class says in which order."""
        reasons = reasons_of(self.where, keep_missing=self.keep_missing)
        found = read_columns(work.pool, reasons, self.like, [*self.lowest, *self.highest], PLACE)
        dropping = _Dropping(work, found, [one.words for one in reasons])
        self._drop_ends(dropping, found)
        notes = [*self._drop_outliers(dropping, found), *self._drop_novel(dropping)]
        return dropping.result(notes)

    def _drop_ends(self, dropping: _Dropping, found: Columns) -> None:
        ends = [(name, share, True) for name, share in self.lowest.items()]
        ends += [(name, share, False) for name, share in self.highest.items()]
        base = dropping.left.copy()
        for name, share, lowest in ends:
            values = np.where(base, found.numbers[name], np.nan)
            words = f"{name} is among the {'lowest' if lowest else 'highest'} {_percent(share)}"
            dropping.drop(beyond(values, share, lowest=lowest), words, values)

    def _drop_outliers(self, dropping: _Dropping, found: Columns) -> list[str]:
        if self.outliers is None or not dropping.left.any():
            return []
        work, share = dropping.work, SHARE if self.outlier_share is None else self.outlier_share
        reference = work.ids[dropping.left & found.like]
        if not len(reference):
            raise ConfigError(f"{PLACE}.like", "no item that is left passes it", "name what some items have")
        sample = np.sort(lowest_hashes(reference, derive(work.key, "reference"), self.outlier_sample)[0])
        dropping.begin()
        work.fleet.each(exclude, reference)
        far = farthest(work.fleet, work.pool.metric, sample, self.outliers, self.outlier_k, share)
        if work.pool.metric == "l2" and self.outliers == "knn":
            far = Far(far.ids, far.values / work.pool.scale)
        words = f"among the {_percent(share)} farthest from the reference, by {self.outliers}"
        dropping.drop_ids(far, words)
        of = f"{len(reference):,} items" if len(sample) == len(reference) else f"{len(sample):,} of {len(reference):,}"
        return [f"outliers: distances to a reference of {of}"]

    def _drop_novel(self, dropping: _Dropping) -> list[str]:
        if self.novelty is None or not dropping.left.any():
            return []
        dropping.begin()
        key, share = derive(dropping.work.key, "novelty"), SHARE if self.novelty_share is None else self.novelty_share
        far, words = most_novel(dropping.work.fleet, self.novelty.part, key, share)
        dropping.drop_ids(far, f"among the {_percent(share)} most novel, by {self.novelty.name}")
        return [f"novelty: {words}"]


class _Dropping:
    """What the step has dropped so far."""

    def __init__(self, work: Work, found: Columns, words: list[str]) -> None:
        """`words` are the reasons of what is found of columns."""
        self.work, self.words = work, words
        self.reason = np.where(work.left, found.reason, PASSES)
        self.value = found.value.copy()

    @property
    def left(self) -> NDArray[np.bool_]:
        """Which items of the pool neither an earlier step nor this one has dropped, bool [n]."""
        return np.asarray(self.work.left & (self.reason == PASSES))

    def drop(self, which: NDArray[np.bool_], words: str, values: NDArray[np.float64]) -> None:
        """Drop those of some items that are left, [n], with their values [n]."""
        which = which & self.left
        self.reason[which], self.value[which] = len(self.words), values[which]
        self.words.append(words)

    def drop_ids(self, far: Far, words: str) -> None:
        """Drop items that are left."""
        place = np.searchsorted(self.work.ids, far.ids)
        self.reason[place], self.value[place] = len(self.words), far.values
        self.words.append(words)

    def begin(self) -> None:
        """Begin a program of the fleet over what is left."""
        self.work.begin()
        self.work.fleet.each(exclude, self.work.ids[self.work.left & ~self.left])

    def result(self, notes: list[str]) -> StepResult:
        """All that was dropped."""
        rows = np.flatnonzero(self.work.left & (self.reason != PASSES))
        return StepResult(
            ids=self.work.ids[rows],
            reason=self.reason[rows].astype(np.uint8),
            reasons=tuple(self.words),
            nearest=np.full(len(rows), -1, np.int64),
            value=self.value[rows],
            facts={"value": VALUE, **({"notes": notes} if notes else {})},
        )


def _percent(share: float) -> str:
    return f"{share * 100:.6g} %"
