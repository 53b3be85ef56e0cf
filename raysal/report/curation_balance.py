"""How evenly the items of a pool lie over the values of a column, before and after it was curated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raysal.arrow_values import numbers_of
from raysal.curation.curated import KEPT, Curated

MOST_VALUES = 10_000
"""A column with more values has no classes."""
NO_VALUE = "(none)"
"""Stands for a missing value."""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Items before and after, by value."""

    of: str
    """what the values are of, as "the column label" """
    before: Mapping[str, int]
    after: Mapping[str, int]

    @property
    def effective(self) -> tuple[float, float]:
        """As many equally common values would have the same entropy: before and after."""
        return effective_number(self.before), effective_number(self.after)


def effective_number(counts: Mapping[str, int]) -> float:
    """The exponential of the entropy of counts: n for n equally common values; 0 without any item."""
    total = sum(counts.values())
    shares = [count / total for count in counts.values() if count > 0] if total else []
    return math.exp(-sum(share * math.log(share) for share in shares)) if shares else 0.0


def balance_by(found: Curated, column: str) -> Balance | None:
    """Count the items of a pool by the values of a column. One pass over the items.

    Args:
        found: what became of them.
        column: a column of the pool.

    Returns:
        The counts; None where the pool has no such column, or one without classes (lists, or too many values).
    """
    if column not in found.pool.columns:
        return None
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for table in found.pool.items(["id", column]):
        kind = table[column].type
        if pa.types.is_nested(kind) or pa.types.is_floating(kind) or pa.types.is_binary(kind):
            return None
        values = table[column].cast(pa.string()).fill_null(NO_VALUE)
        kept = found.dropped_by[np.searchsorted(found.ids, numbers_of(table["id"]))] == KEPT
        for counts, column_of in ((before, values), (after, values.filter(pa.array(kept)))):
            for one in column_of.value_counts().to_pylist():
                counts[one["values"]] += one["counts"]
        if len(before) > MOST_VALUES:
            return None
    return Balance(of=f"the column {column}", before=dict(before), after=dict(after))


def balance_in(facts: Mapping[str, object]) -> Balance | None:
    """The balance that a step says of itself in its facts; None where it says none."""
    said = facts.get("balance")
    if not isinstance(said, Mapping):
        return None
    return Balance(of=str(said.get("of", "")), before=dict(said["before"]), after=dict(said["after"]))
