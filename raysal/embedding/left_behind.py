"""Files that are gone from a source, and of which a pool still has items that no other file has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysal.arrow_values import numbers_of
from raysal.pool import Pool
from raysal.pool.taken_files import KnownFiles


def files_left_behind(pool: Pool, known: KnownFiles, met: NDArray[np.int64]) -> int:
    """Count the files that are gone and left items behind, which `raysal pool remove --missing` takes out.

    Items that were moved to other files, or taken out of the pool, are none of a file that is gone. It costs some
    operations of numpy; of a pool that was compacted, the ids of the chunks concerned are read.

    Args:
        pool: the pool, as it was before it took in what is new.
        known: the files that it took in before, after a look at those that are there.
        met: runs of ids that lie in files that are there, int64 [n, 2]: the first one, and how many.

    Returns:
        The number of files. One that is a whole item, and whose item the pool does not know by its file, counts.
    """
    gone = np.flatnonzero(known.gone)
    if not len(gone):
        return 0
    begins, stops, files = known.runs_of(gone)
    ids = np.repeat(begins - np.cumsum(stops - begins) + (stops - begins), stops - begins)
    ids = ids + np.arange(len(ids))
    of = np.repeat(files, stops - begins)
    order = np.argsort(met[:, 0], kind="stable")
    firsts, counts = met[order].T
    before = np.searchsorted(firsts, ids, "right") - 1
    elsewhere = np.zeros(len(ids), bool)
    if len(firsts):
        elsewhere = (before >= 0) & (ids < firsts[before] + counts[before])
    left = ~elsewhere & ~np.isin(ids, pool.removed.ids)
    ids, of = ids[left], of[left]
    return len(np.unique(of[_there(pool, ids)]))


def _there(pool: Pool, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which ids are those of items that the chunks of a pool hold, quarantined ones included."""
    firsts = np.array([record["first_id"] for record in pool.records], np.int64)
    places = np.searchsorted(firsts, ids, "right") - 1
    found = np.zeros(len(ids), bool)
    for place in np.unique(places[places >= 0]).tolist():
        record, chunk = pool.records[place], pool.chunks[place]
        stop = int(firsts[place + 1]) if place + 1 < len(firsts) else pool.next_id
        some = np.flatnonzero(places == place)
        if record["rows"] + record["quarantined"] == stop - record["first_id"]:
            found[some] = True
            continue
        own = np.concatenate([chunk.stored_ids(), numbers_of(chunk.quarantine()["id"])])
        found[some] = np.isin(ids[some], own)
    return found
