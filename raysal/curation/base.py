"""Steps of curation: from the items of a pool that are left to those that are worth keeping.

A plan is a list of steps. Each is given what earlier ones have left, and says which items it drops, and why:

    pool ──▶ exact ──▶ near ──▶ filter ──▶ balance ──▶ core ──▶ kept
               └─────────┴── dropped: id, reason, nearest kept item, value

The one method is `Step.apply(work)`; it returns a `StepResult`. What every step keeps; the tests of laws hold each
registered one to it:

- It drops items that are left, and no others. What it drops depends on the pool, on what is left, on its fields and on
  the key. It does not depend on chunks, partitions, threads, backend, or on how often it was interrupted.
- Each dropped item has a reason in plain words, as "near-duplicate of a kept item". Where it was dropped for another
  item, that one is kept and named (`nearest`).
- Vectors are read beside the data. The driver may hold some numbers for each item, as the docstring of the step says,
  and never the vectors of the pool.
- Randomness comes from `work.key` and the ids of items alone (`raysal.rng`).
- What takes longer than a minute is kept in `work.folder` as it goes, so that an interrupted step goes on. Files there
  are written as of `raysal.commits`, and name what they are of. The folder may be lost at any time: it is made again.

Pitfalls:

- `work.begin()` starts a new program of the fleet in which dropped items are excluded; `fleet.reset()` alone does not
  exclude them.
- Nothing may be left: a step gets no item, and drops none. A pool of equal vectors, of one item, and of zeros is valid.
- `facts` are JSON: numbers of Python, texts, lists and mappings with texts as keys.

To add one: a file in `steps/` with a frozen dataclass, keywords only, whose fields are its config, and one line in
`registry.py`. Its docstring says what it costs, and docs/curation.md has a section for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.fleet import Fleet, exclude
from raysal.pool import Pool
from raysal.types import Report, no_report


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """What a step is given: the items that earlier steps have left."""

    pool: Pool
    fleet: Fleet
    """over the pool"""
    ids: NDArray[np.int64]
    """[n] of all items of the pool, ascending"""
    left: NDArray[np.bool_]
    """[n], True where no earlier step dropped the item"""
    folder: Path
    """for what is kept over an interruption; it exists. It is that of all steps of this name that are given the same
    items, whatever their fields: so what does not depend on a field is there when the field has changed"""
    key: int
    """randomness of the step"""
    report: Report = no_report
    """called with the stage, what of it is done, and its total"""

    @property
    def ids_left(self) -> NDArray[np.int64]:
        """Those that no earlier step dropped, ascending."""
        return self.ids[self.left]

    def begin(self) -> None:
        """Begin a new program of the fleet, in which what was dropped is excluded. One round trip, 8 bytes an item."""
        self.fleet.reset()
        if not self.left.all():
            self.fleet.each(exclude, self.ids[~self.left])


@dataclass(frozen=True, kw_only=True, eq=False)
class StepResult:
    """What a step dropped, and why."""

    ids: NDArray[np.int64]
    """[m] of the items that it dropped, ascending"""
    reason: NDArray[np.uint8]
    """[m], which of the `reasons` each was dropped for"""
    reasons: tuple[str, ...]
    """in plain words"""
    nearest: NDArray[np.int64]
    """[m], the kept item that each was dropped for; -1 where there is none"""
    value: NDArray[np.float64]
    """[m], the number that it was dropped for: a similarity, a measure of quality; NaN where there is none"""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """what the report shows of the step as a whole, as JSON. Names that it knows: `group_sizes` {size: number of
    groups}, `balance` {"of": what, "before": {name: items}, "after": {name: items}}, `notes` [text], `value` what
    the `value` of an item is, as "the similarity to a kept item"; where reasons are enough there is none"""
    listed: pa.Table | None = None
    """what the step found beside what it dropped, one row for each item, with a column `id`; as suspects of a check of
    labels"""

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls,
        ids: NDArray[np.int64],
        reason: str,
        *,
        nearest: NDArray[np.int64] | None = None,
        value: NDArray[np.float64] | None = None,
        facts: Mapping[str, Any] | None = None,
        listed: pa.Table | None = None,
    ) -> StepResult:
        """A result whose items were all dropped for one reason; other arguments as the fields."""
        m = len(ids)
        return cls(
            ids=ids,
            reason=np.zeros(m, np.uint8),
            reasons=(reason,),
            nearest=np.full(m, -1, np.int64) if nearest is None else nearest,
            value=np.full(m, np.nan) if value is None else value,
            facts=facts or {},
            listed=listed,
        )


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What this machine does in a second, measured for some tenths of one."""

    products: float
    """multiplications of float32 matrix products"""
    rows: float
    """rows of a pool whose vectors are read and converted"""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a step will do, as far as that can be said without doing it."""

    kept: int | None
    """items that it keeps; None where only doing it tells"""
    seconds: float
    """on one partition"""


class Step(ABC):
    """Says which items are not worth keeping. Its constructor fields are its config."""

    version: ClassVar[int] = 1
    """Raised when the step comes to drop other items than before: what older versions found is then found anew."""

    def inputs(self, pool: Pool) -> Mapping[str, Any]:
        """What decides the result beside the pool and the fields, as the digest of a file that a field names.

        Args:
            pool: the items.

        Returns:
            The facts, as JSON. While they are the same, what the step found once is read and not found again.

        Raises:
            ConfigError: a file is not there.
        """
        del pool
        return {}

    def check(self, pool: Pool) -> None:
        """Look at a pool before anything runs.

        Args:
            pool: the items.

        Raises:
            ConfigError: the step cannot work on it, as it has no such column; the error names the field and the fix.
        """
        del pool

    def check_first(self, pool: Pool) -> None:
        """As `check`, where no step comes before it, so that it is given all items.

        Args:
            pool: the items.

        Raises:
            ConfigError: the step cannot work on all of them, as fewer are to be kept than must be.
        """
        del pool

    @abstractmethod
    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        """What the step will do.

        Args:
            pool: the items.
            left: how many of them earlier steps leave, at most.
            speed: of this machine.

        Returns:
            How many it keeps, and how long it takes; good to a factor of two or three.
        """

    @abstractmethod
    def apply(self, work: Work) -> StepResult:
        """Find what is to be dropped.

        Args:
            work: the items that are left.

        Returns:
            What is dropped, and why.

        Raises:
            ConfigError: the step cannot work on this pool.
            PoolError: a vector is not finite.
            Damaged: a file is not as it was written.
        """
