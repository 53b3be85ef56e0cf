"""The end of a growth: which of its items are new, which take the place of others, and which are what was there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysal.arrow_values import array_of
from raysal.pool.chunk import Chunk
from raysal.pool.contents import total_of
from raysal.pool.generations import NO_ROW, Generation, Removed, links_file, next_fingerprint, with_range
from raysal.pool.growth import BEGUN, Begun
from raysal.pool.place import files_of
from raysal.pool.pool import Pool
from raysal.pool.quarantine import ids_of_lost
from raysal.pool.removing import kept_out
from raysal.store import digest_of
from raysal.types import OWNER_KEY, POOL_COLUMNS

ULPS = 2
"""Units in the last place of float16 by which vectors of one item may differ: the other items of a batch change a
vector by rounding."""


_LOST: WeakKeyDictionary[Pool, dict[str, int]] = WeakKeyDictionary()
"""What pools have quarantined, as each unit of a growth asks for it."""


def known_ids(pool: Pool, keys: Sequence[str]) -> dict[str, int]:
    """The ids of those among some keys that a pool has, or has quarantined. Memory for the keys of the latter."""
    asked = list(keys)
    if pool not in _LOST:
        _LOST[pool] = ids_of_lost(pool.chunks, pool.records)
    lost = _LOST[pool]
    return {key: lost[key] for key in asked if key in lost} | pool.ids_there(asked)


def take_in(pool: Pool, begun: Begun, records: Mapping[int, Mapping[str, Any]]) -> tuple[Generation, int]:
    """Let the chunks of a growth be the next generation.

    An item whose key is in the pool takes the place of the one that is there. If its vector and its columns are the
    same, it is left out instead, and the one that is there stays. Items that were taken out by name stay out.

    Args:
        pool: the newest generation. It is locked.
        begun: the growth, all of whose chunks are committed.
        records: their commit records.

    Returns:
        The generation, and how many items are new in it.

    Raises:
        Damaged: a file of the pool was altered.
    """
    chunks = [Chunk.of(pool.path, records[index], pool.dim) for index in begun.range]
    out = kept_out(pool)
    gone: list[tuple[int, int]] = []
    links: list[tuple[int, int]] = []
    added = 0
    for chunk in chunks:
        items, lost = chunk.items(), chunk.quarantine()
        new = dict(
            zip(items["key"].to_pylist(), zip(items["id"].to_pylist(), range(chunk.rows), strict=True), strict=True)
        )
        new |= {key: (id, NO_ROW) for key, id in zip(lost["key"].to_pylist(), lost["id"].to_pylist(), strict=True)}
        old = known_ids(pool, list(new))
        added += len(new.keys() - old.keys() - out)
        gone += [new[key] for key in new.keys() & out]
        pairs = {key: id for key, id in old.items() if key not in out}
        places = stored_rows(pool, np.array(sorted(pairs.values()), np.int64))
        carried = {name: items[name].to_pylist() for name in items.column_names if name not in POOL_COLUMNS}
        found = {key: (new[key][1], places[id]) for key, id in pairs.items()}
        same = same_rows(pool, chunk.mapped(), carried if found else {}, found)
        same |= _kept_parts(pool, carried.get(OWNER_KEY), found, same)
        gone += [new[key] if key in same else (id, places[id][1]) for key, id in pairs.items()]
        links += [(new[key][0], id) for key, id in pairs.items() if key not in same]
    removed = _removed(gone)
    number = pool.generation + 1
    parent = pool.fingerprint
    digest = total_of(list(records.values()), "items") or digest_of(
        {"files": [dict(r["files"]) for r in records.values()]}
    )
    unchanged = len(removed.ids) == begun.items and not links
    generation = Generation(
        number=number,
        what="grown",
        parent=parent,
        fingerprint=parent if unchanged else next_fingerprint(parent, digest, removed.ids),
        chunks=with_range(_chunks_of(pool), begun.range),
        items=pool.manifest.items + begun.items - len(removed.ids),
        next_chunk=begun.range.stop,
        next_id=begun.first_id + begun.items,
        vector_space=pool.vector_space,
        source=begun.source,
        removed=pool.removed.and_also(removed).write(pool.path, number),
        replaced=_write_links(pool.path, number, links),
        files=begun.files,
    )
    generation.write(pool.path)
    files_of(pool.path).delete([BEGUN])
    return generation, added


def stored_rows(pool: Pool, ids: NDArray[np.int64]) -> dict[int, tuple[int, int]]:
    """Where items lie: {id: (place of the chunk in the pool, row in its file)}, with `NO_ROW` for quarantined ones.

    Args:
        pool: the pool.
        ids: int64 [m], ascending, of items that it has or has quarantined.

    Returns:
        The place of each.
    """
    firsts = np.array([record["first_id"] for record in pool.records], np.int64)
    places = np.searchsorted(firsts, ids, "right") - 1
    found: dict[int, tuple[int, int]] = {}
    for place in np.unique(places).tolist():
        chunk = pool.chunks[place]
        own = chunk.stored_ids()
        some = ids[places == place]
        rows = np.searchsorted(own, some).clip(max=max(len(own) - 1, 0))
        there = own[rows] == some if len(own) else np.zeros(len(some), bool)
        found |= {
            id: (place, row if is_there else NO_ROW)
            for id, row, is_there in zip(some.tolist(), rows.tolist(), there.tolist(), strict=True)
        }
    return found


def same_rows(
    pool: Pool,
    vectors: NDArray[np.float16],
    carried: Mapping[str, Sequence[Any]],
    pairs: Mapping[str, tuple[int, tuple[int, int]]],
) -> set[str]:
    """Keys of the items whose vector and columns are those that the pool has.

    Args:
        pool: the pool.
        vectors: float16 [n, dim], as the pool would hold them.
        carried: {column: values [n]}.
        pairs: {key: (row here, (place of the chunk of its item in the pool, row in that chunk's file))}.

    Returns:
        Those of the pairs.
    """
    same: set[str] = set()
    by_place: dict[int, list[tuple[str, int, int]]] = {}
    for key, (row, (place, old)) in pairs.items():
        if row != NO_ROW and old != NO_ROW:
            by_place.setdefault(place, []).append((key, row, old))
    for place, some in by_place.items():
        before = Chunk.of(pool.path, pool.records[place], pool.dim)
        rows, olds = (np.array([one[at] for one in some], np.int64) for at in (1, 2))
        is_same = _same_vectors(vectors[rows], before.mapped()[olds], exact=pool.manifest.modality == "vector")
        then = before.items()
        names = {name for name in then.column_names if name not in POOL_COLUMNS} | set(carried)
        for name in names:
            had = then[name].take(array_of(olds, pa.int64())).to_pylist() if name in then.column_names else ()
            has = [carried[name][row] for row in rows.tolist()] if name in carried else ()
            is_same &= np.array([repr(a) == repr(b) for a, b in zip_longest(had, has)], bool)
        same |= {key for (key, _, _), one in zip(some, is_same.tolist(), strict=True) if one}
    return same


def _kept_parts(
    pool: Pool,
    owners: Sequence[str | None] | None,
    pairs: Mapping[str, tuple[int, tuple[int, int]]],
    same: Collection[str],
) -> set[str]:
    """Keys of parts that stay, though their batch gave them another vector: those of an owner are to lie together.

    A growth with changed parts of an owner that is there is not begun. So those that it meets have the same contents.

    Args:
        pool: the pool.
        owners: the keys of the owners of items here [n], null for one that is no part; None if none is.
        pairs: as of `same_rows`.
        same: keys of those that stay in any case.

    Returns:
        Those of the pairs.
    """
    kept: set[str] = set()
    for key, (row, (place, old)) in pairs.items():
        if owners is not None and key not in same and row != NO_ROW and old != NO_ROW and owners[row] is not None:
            before = Chunk.of(pool.path, pool.records[place], pool.dim).items([OWNER_KEY])
            if before[OWNER_KEY][old].as_py() == owners[row]:
                kept.add(key)
    return kept


def _same_vectors(a: NDArray[np.float16], b: NDArray[np.float16], *, exact: bool) -> NDArray[np.bool_]:
    """Which rows of two matrices [n, d] are of one vector: bool [n]."""
    if exact:
        return np.asarray((a == b).all(1))
    step = np.spacing(np.maximum(np.abs(a), np.abs(b)))
    return np.asarray((np.abs(a.astype(np.float32) - b.astype(np.float32)) <= ULPS * step.astype(np.float32)).all(1))


def _removed(gone: Sequence[tuple[int, int]]) -> Removed:
    """Ids and rows, in order of the ids."""
    ids, rows = np.array(gone, np.int64).reshape(-1, 2).T
    order = np.argsort(ids, kind="stable")
    return Removed(ids[order], rows[order].astype(np.int32))


def _chunks_of(pool: Pool) -> tuple[range, ...]:
    return (range(pool.manifest.chunks),) if pool.changed is None else pool.changed.chunks


def _write_links(pool: Path, number: int, links: Sequence[tuple[int, int]]) -> dict[str, Any] | None:
    """Write which items are in the place of which: the new id, and the old one."""
    if not links:
        return None
    new, old = np.array(sorted(links), np.int64).T
    table = pa.table({"id": array_of(new, pa.int64()), "old_id": array_of(old, pa.int64())})
    facts = files_of(pool).write(links_file(number), lambda path: pq.write_table(table, path))
    return {"ids": len(links), **facts}
