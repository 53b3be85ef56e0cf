"""Which items of a pool are in the place of which: an item whose contents changed has a new id under its old key."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from raysal.arrow_values import numbers_of
from raysal.pool.chunk import Chunk
from raysal.pool.generations import RESTORE, Generation, links_file
from raysal.pool.place import files_of
from raysal.pool.pool import Pool


class Change(NamedTuple):
    """An item that took the place of another one."""

    key: str | None
    """Of both; None if the pool was compacted after the item was taken out of it, and so keeps no key of it."""
    old_id: int
    """The id before."""
    id: int
    """The id since."""
    generation: int
    """The number of the generation that came with it."""


def links_of(pool: Pool) -> dict[int, int]:
    """Which items of a pool are in the place of which: {id: the id before}, over all its generations."""
    return {id: old for _, pairs in _links(pool, 0) for id, old in pairs}


def changes_of(pool: Pool, since: int = 0) -> list[Change]:
    """The items of a pool that changed, as generations took them in; also those that were taken out since.

    It reads the tables of links, and the keys of the chunks that have the new items. Memory for these changes.

    Args:
        pool: the pool; changes of later generations are none of it.
        since: only those that came after the generation of this number.

    Returns:
        The changes, in order of generations, and within one of ids.

    Raises:
        Damaged: a file of the pool is missing, or differs from its record.
    """
    links = list(_links(pool, since))
    keys = _keys_of(pool, {id for _, pairs in links for id, _ in pairs})
    for _, pairs in reversed(links):  # the old item of a later change is the new one of an earlier
        for id, old in pairs:
            if id in keys:
                keys.setdefault(old, keys[id])
    return [Change(keys.get(id), old, id, number) for number, pairs in links for id, old in pairs]


def _links(pool: Pool, since: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """(number of a generation, [(new id, old id)]), in order."""
    files = files_of(pool.path)
    for number in range(since + 1, pool.generation + 1):
        facts = Generation.read(pool.path, number).replaced
        if facts is not None:
            table = pq.read_table(files.intact(links_file(number), facts, RESTORE).path)
            yield number, list(zip(numbers_of(table["id"]).tolist(), numbers_of(table["old_id"]).tolist(), strict=True))


def _keys_of(pool: Pool, ids: Collection[int]) -> dict[int, str]:
    """The keys of items that the chunks hold, quarantined ones and those that were taken out included."""
    wanted = np.array(sorted(ids), np.int64)
    firsts = np.array([record["first_id"] for record in pool.records], np.int64)
    places = np.searchsorted(firsts, wanted, "right") - 1
    found: dict[int, str] = {}
    for place in np.unique(places[places >= 0]).tolist():
        chunk, some = Chunk.of(pool.path, pool.records[place], pool.dim), wanted[places == place]
        for table in (chunk.items(["id", "key"]), chunk.quarantine().select(["id", "key"])):
            rows = np.flatnonzero(np.isin(numbers_of(table["id"]), some)).tolist()
            found |= {table["id"][row].as_py(): table["key"][row].as_py() for row in rows}
    return found
