"""Who is kept of items that are alike: an order of keeping, and what a threshold of a pool means."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.narrowing.duplicates import duplicate_similarity
from raysal.pool import Pool
from raysal.pool.exported import as_schema, one_schema
from raysal.types import POOL_COLUMNS

Prefer = Literal["largest", "smallest"]
PREFER = ("largest", "smallest")


def check_threshold(threshold: float, pool: Pool, field: str = "threshold") -> float:
    """Check a threshold.

    Args:
        threshold: as it was asked for.
        pool: says what it is.
        field: what an error calls it.

    Returns:
        The similarity (`raysal.scoring.similarity`) that it names.

    Raises:
        ConfigError: it is no cosine above 0 and up to 1, or no distance.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise ConfigError(
            "threshold",
            f"{threshold!r} is no number",
            "use a cosine, as 0.95" if pool.metric == "cosine" else "use a distance",
        )
    if pool.metric == "l2" and threshold < 0:
        raise ConfigError(field, f"{threshold:g} is no distance", "use 0 or more: this pool's metric is l2")
    return duplicate_similarity(threshold, pool.metric, field, pool.scale)


def order_of(pool: Pool, keep: str | None, prefer: Prefer) -> NDArray[np.int64]:
    """Put the items of a pool in the order in which they are kept.

    Args:
        pool: the items.
        keep: a column; None for the order of the pool.
        prefer: which of its values come first. Missing ones, and NaN, come last.

    Returns:
        The positions of the items in the pool, [n].

    Raises:
        ConfigError: values of the column have no order; or the preference is of no column.
        PoolError: the pool has no such column.
    """
    _check_preference(keep, prefer)
    if keep is None:
        return np.arange(len(pool))
    import pyarrow.compute as pc

    tables = list(pool.items([keep]))
    schema = one_schema(pool.path, [table.schema for table in tables])  # a chunk may have no value at all
    column = pa.concat_tables([as_schema(pool.path, schema, table) for table in tables])[keep]
    if pa.types.is_null(column.type):
        return np.arange(len(pool))
    try:
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        table = pa.table({"missing": pc.is_null(column), "value": column, "row": np.arange(len(column))})
        how = "descending" if prefer == "largest" else "ascending"
        sorted_rows = pc.sort_indices(table, [("missing", "ascending"), ("value", how), ("row", "ascending")])
    except pa.ArrowException as error:
        known = ", ".join(name for name in pool.columns if name not in POOL_COLUMNS)
        problem = f"the values of the column {keep!r} ({column.type}) have no order"
        raise ConfigError("keep", problem, f"name a column of numbers, dates or texts; there are: {known}") from error
    return np.asarray(sorted_rows.to_numpy(), np.int64)


def check_order(pool: Pool, keep: str | None, prefer: str) -> None:
    """Refuse a column that a pool does not have, without reading it.

    Args:
        pool: the items.
        keep: as of `order_of`.
        prefer: likewise.

    Raises:
        ConfigError: there is no such column, or no such preference; or it is of no column.
    """
    _check_preference(keep, prefer)
    if keep is not None and keep not in (known := pool.columns):
        raise ConfigError("keep", f"{pool.path} has no column {keep!r}", f"its columns: {', '.join(known)}")


def _check_preference(keep: str | None, prefer: str) -> None:
    if prefer not in PREFER:
        raise ConfigError("prefer", f"unknown value {prefer!r}", "use largest or smallest")
    if keep is None and prefer != PREFER[0]:
        raise ConfigError("prefer", f"{prefer!r} is about a column, and keep names none", "name the column in keep")
