"""Take items out of a pool: they are not swept, picked or found any more. Their labels stay in ledgers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysal.errors import Damaged, LabelError, PoolError
from raysal.pool.generations import NO_ROW, RESTORE, Generation, Removed, keys_file, next_fingerprint
from raysal.pool.growth import check_nothing_begun
from raysal.pool.layout import SOURCE, Manifest, mark_changed
from raysal.pool.place import directory_of, files_of
from raysal.pool.pool import Pool
from raysal.store import check_bytes


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What was taken out of a pool."""

    removed: int
    """items that were taken out now"""
    before: int
    """items of those named that had been taken out before"""
    items: int
    """items that the pool has now"""
    generation: int


def remove_items(path: str | Path, keys: Iterable[str]) -> Removal:
    """Take items out of a pool, by name. They stay out when their source is embedded again.

    It streams the pool's keys once. Readers that opened the pool before see the items until they open it again.

    Args:
        path: the pool directory, or its URL.
        keys: of the items; quarantined ones can be named too.

    Returns:
        What was done.

    Raises:
        LabelError: a key is not one of the pool's. Nothing is removed then.
        PoolError: the directory is no pool, no item would be left, or an embed job over it is not finished.
        RunError: another process is writing the pool.
        BucketError: the bucket of the pool cannot be read or written.
        OSError: the pool cannot be written.
    """
    directory = directory_of(path)
    Manifest.read(directory)  # to lock a directory writes into it
    with files_of(directory).writing():
        check_nothing_begun(directory)
        pool = Pool(directory)
        asked = dict.fromkeys(keys)
        found = find_rows(pool, asked)
        absent = [key for key in asked if key not in found]
        before = kept_out(pool) & set(absent)
        unknown = [key for key in absent if key not in before]
        if unknown:
            from raysal.pool.absent import words_of_absent

            raise LabelError(pool.path, *words_of_absent(pool, unknown))
        number = remove_rows(pool, found, "removed")
        return Removal(removed=len(found), before=len(before), items=len(pool) - _with_vector(found), generation=number)


def _with_vector(found: dict[str, tuple[int, int]]) -> int:
    return sum(row != NO_ROW for _, row in found.values())


def find_rows(pool: Pool, keys: Collection[str]) -> dict[str, tuple[int, int]]:
    """Where items lie: {key: (id, row in its chunk's file)}, with `NO_ROW` for quarantined ones."""
    found: dict[str, tuple[int, int]] = {}
    for chunk, record in zip(pool.chunks, pool.records, strict=True):
        items = chunk.items(["id", "key"])
        here = {
            key: id for key, id in zip(items["key"].to_pylist(), items["id"].to_pylist(), strict=True) if key in keys
        }
        if here:
            own = chunk.stored_ids()
            found |= {key: (id, int(np.searchsorted(own, id))) for key, id in here.items()}
        if record["quarantined"]:
            lost = chunk.quarantine()
            pairs = zip(lost["key"].to_pylist(), lost["id"].to_pylist(), strict=True)
            found |= {key: (id, NO_ROW) for key, id in pairs if key in keys}
    return found


def remove_rows(
    pool: Pool, found: dict[str, tuple[int, int]], what: Literal["removed", "missing"], files: str | None = None
) -> int:
    """Make the generation that lacks some items. The pool is locked.

    Args:
        pool: its newest generation.
        found: what `find_rows` found.
        what: whether they are taken out by name, or because they are gone from the source.
        files: sha256 of the table of the files that are gone.

    Returns:
        The number of the newest generation.

    Raises:
        PoolError: no item would be left.
    """
    if not found:
        return pool.generation
    if _with_vector(found) >= len(pool):
        raise PoolError(pool.path, f"all its {len(pool)} items would be removed", "keep one, or delete the pool")
    pairs = np.array(sorted(found.values()), np.int64).reshape(-1, 2)
    removed = Removed(pairs[:, 0].copy(), pairs[:, 1].astype(np.int32))
    number = pool.generation + 1
    parent = pool.changed or first_generation(pool)
    mark_changed(pool.path)
    if what == "missing":  # a folder that is put back has the times that it had: the source is to be looked at anew
        files_of(pool.path).delete([SOURCE])
    facts = pool.removed.and_also(removed).write(pool.path, number) or {}
    if what == "removed":
        names = pa.table({"key": pa.array(sorted(found), pa.string())})
        written = files_of(pool.path).write(keys_file(number), lambda path: pq.write_table(names, path))
        facts = {**facts, "keys": written["sha256"]}
    replace(
        parent,
        number=number,
        what=what,
        parent=pool.fingerprint,
        fingerprint=next_fingerprint(pool.fingerprint, None, removed.ids),
        items=pool.manifest.items - len(removed.ids),
        removed=facts,
        replaced=None,
        files=files,
    ).write(pool.path)
    return number


def first_generation(pool: Pool) -> Generation:
    """Generation 0 in the form of a later one."""
    return Generation(
        number=0,
        what="grown",
        parent="",
        fingerprint=pool.fingerprint,
        chunks=(range(pool.manifest.chunks),),
        items=pool.manifest.items,
        next_chunk=pool.manifest.chunks,
        next_id=pool.manifest.items,
        vector_space=pool.vector_space,
        source=pool.manifest.source,
    )


def kept_out(pool: Pool) -> set[str]:
    """The keys of all items that were taken out by name. Memory for these keys.

    Args:
        pool: the pool.

    Returns:
        The keys.

    Raises:
        Damaged: a file of keys is missing, or differs from its record.
    """
    found: set[str] = set()
    files = files_of(pool.path)
    for number in range(1, pool.generation + 1):
        generation = Generation.read(pool.path, number)
        if generation.what != "removed":
            continue
        path, digest = files.find(keys_file(number)), (generation.removed or {}).get("keys")
        try:
            if digest is not None:  # an older raysal did not record it
                check_bytes(path, digest, RESTORE)
            found |= set(pq.read_table(path)["key"].to_pylist())
        except Damaged as error:
            raise Damaged(files.where(keys_file(number)), error.problem, RESTORE) from None
        except (pa.ArrowException, OSError) as error:
            raise Damaged(files.where(keys_file(number)), f"cannot be read ({error})", RESTORE) from None
    return found
