"""`raysal.dedup`: which items of a pool are near-duplicates of others, and which of them is kept."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from raysal.arguments import Backend
from raysal.pool import Pool

if TYPE_CHECKING:
    from raysal.curation.dedup import NearDuplicates
    from raysal.types import Report


def dedup(
    pool: str | Path | Pool,
    *,
    threshold: float = 0.95,
    keep: str | None = None,
    prefer: Literal["largest", "smallest"] = "largest",
    mode: Literal["exact", "clusters"] = "exact",
    against: str | Path | Pool | None = None,
    equal: bool = False,
    partitions: int | None = None,
    backend: Backend = "local",
    address: str | None = None,
    report: Report | None = None,
) -> NearDuplicates:
    """Find the near-duplicates of a whole pool, exactly, and choose which of them is kept.

    Two promises: no two kept items are as similar as the threshold, and each dropped item is that similar to one that
    is kept. Items are gone through in order, and one is kept if it is near to none that is kept before it; so the
    result does not depend on partitions, chunks and backend.

    Pairs of items are compared where proven bounds do not rule them out, and kept in the pool: another call with the
    same or a higher threshold compares nothing, and in a pool that grew only new items are compared with all. If the
    job is interrupted, the next call goes on where it stopped. Where pairs are too many to list, items are compared
    with kept ones alone, to the same result; another threshold then compares again.

    Args:
        pool: an embedded pool, its path or its URL.
        threshold: the cosine from which on two items are near-duplicates; in a pool of the metric l2 the distance up to
            which they are, of vectors as they were given.
        keep: a column of the pool, as a width, a date or a score: the items with its largest values are kept. By
            default, and among equal values, the first item of the pool is kept; items without a value come last.
        prefer: `largest`, or `smallest` to keep the items with the smallest values.
        mode: `exact`; or `clusters` for pools that are too large for that: only items are compared that share one of
            their two nearest cells, `.recall` says how many of the near ones were found. Each dropped item is near to a
            kept one all the same.
        against: another pool of the same encoder, as test data: items that are near to one of it are dropped first.
        equal: find only exact copies: items whose files have equal bytes, where the pool has digests of them, or whose
            vectors are equal. The threshold does not matter then.
        partitions: workers that compare; by default one, and with Ray one per CPU.
        backend: this process, or Ray.
        address: a Ray cluster; by default one is started on this machine.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What became of each item: `.kept`, `.dropped`, `.groups`, `.table()` and `.write("dedup.parquet")`.

    Raises:
        ConfigError: the threshold is none; an argument is of the wrong type, or goes with no other; or the column has
            no order.
        FingerprintMismatch: the other pool has another metric, length of vectors, or encoder.
        UnknownName: there is no such backend.
        PoolError: a pool cannot be opened, or has no such column; or neither the pool nor the cache can be written.
        RunError: another process looks for the pairs of this pool.
        Damaged: a file is not as it was written.
    """
    from raysal.arguments import as_place, as_whole_number
    from raysal.config import FleetConfig
    from raysal.curation.dedup import FOLDER, check_mode, find_equal_items, find_near_duplicates
    from raysal.curation.home import make_home_of
    from raysal.curation.near.against import check_against
    from raysal.curation.order import check_threshold
    from raysal.errors import ConfigError, RaysalWarning, UnknownName
    from raysal.fleet import open_fleet
    from raysal.pool import open_pool

    if backend not in ("local", "ray"):
        raise UnknownName("backend", backend, ["local", "ray"])
    if address is not None and backend != "ray":
        raise ConfigError("address", f"is of a Ray cluster, the backend is {backend}", 'use backend="ray", too')
    check_mode(mode)
    if equal and (against is not None or mode != "exact"):
        fix = "leave out `equal`, and use a threshold of 1 for what has one direction"
        raise ConfigError("equal", "equal items are looked for in one pool, and exactly", fix)
    count = 0 if partitions is None else as_whole_number("partitions", partitions, 1)
    opened = pool if isinstance(pool, Pool) else open_pool(as_place("pool", pool))
    check_threshold(threshold, opened)
    other = against if against is None or isinstance(against, Pool) else open_pool(as_place("against", against))
    if other is not None:
        check_against(opened, other)
    with open_fleet(opened, FleetConfig(backend=backend, partitions=count, address=address)) as fleet:
        if equal:
            return find_equal_items(opened, fleet, keep=keep, prefer=prefer, report=report)
        found = find_near_duplicates(
            opened, fleet, threshold, keep=keep, prefer=prefer, mode=mode, against=other,
            folder=make_home_of(opened) / FOLDER, report=report,
        )  # fmt: skip
    if other is not None and not found.kept and len(found):
        warnings.warn(f"no item is left: all are near to items of {other.place}", RaysalWarning, stacklevel=2)
    return found
