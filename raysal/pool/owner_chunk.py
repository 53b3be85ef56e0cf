"""A chunk of a pool of parts: which owners its items have, and the chunk as if these were its items.

The parts of an owner follow each other, and no chunk cuts an owner, so that a chunk has whole owners.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.pool.chunk import Chunk
from raysal.types import OWNER_KEY


def owner_ids(chunk: Chunk) -> NDArray[np.int64]:
    """The id of the owner of each item of a chunk, which is the item's own where it is no part: int64 [rows]."""
    table = chunk.items(["id", "owner"])
    ids, owners = numbers_of(table["id"]), table["owner"].combine_chunks()
    if owners.null_count == len(ids):
        return ids
    known = owners.is_valid().to_numpy(zero_copy_only=False)
    return np.where(known, owners.fill_null(0).to_numpy(zero_copy_only=False), ids)


def owner_keys(chunk: Chunk) -> pa.Array:
    """The key of the owner of each item of a chunk, which is the item's own where it is no part: string [rows]."""
    import pyarrow.compute as pc  # a tenth of the time of `raysal pool info`

    table = chunk.items(["key", OWNER_KEY])
    return pc.coalesce(table[OWNER_KEY].combine_chunks().cast(pa.string()), table["key"].combine_chunks())


def begins_of_owners(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the owners of consecutive rows begin, and the number of rows: int64 [owners + 1].

    Args:
        ids: int64 [n] of the owners, equal ones side by side.

    Returns:
        Ascending positions; [0] where there are no rows.
    """
    return np.append(np.flatnonzero(np.diff(ids, prepend=-1)), len(ids))


class OwnersChunk(Chunk):
    """A chunk as if the owners of its items were the items: who reads it need not know.

    An owner is there while one of its parts is. What a carried column says of an owner is what it says of all its
    parts; where they differ it is null. The uri is that of its first part that is there, and its vector the mean.
    """

    @classmethod
    def of_parts(cls, chunk: Chunk) -> OwnersChunk:
        """The owners of a chunk. Nothing is read."""
        return cls(**{field.name: getattr(chunk, field.name) for field in fields(Chunk)})

    @cached_property
    def parts(self) -> Chunk:
        """The chunk of the parts."""
        return Chunk(**{field.name: getattr(self, field.name) for field in fields(Chunk)})

    @cached_property
    def rows(self) -> int:
        """Owners that are there: two columns are read once."""
        return len(self.ids())

    def ids(self) -> NDArray[np.int64]:
        """The owners' ids: int64 [rows], strictly increasing."""
        owners = owner_ids(self.parts)
        return owners[begins_of_owners(owners)[:-1]]

    def vectors(self) -> NDArray[np.float16]:
        """The mean vector of each owner, float16 [rows, dim], as a fleet has it (`raysal.fleet.owners`): a copy."""
        begins = begins_of_owners(owner_ids(self.parts))[:-1]
        found = self.parts.vectors()
        if len(begins) == len(found):
            return found
        means = np.empty((len(begins), self.dim), np.float16)
        ends = np.append(begins[1:], len(found))
        for place, (start, stop) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
            whole = found[start:stop].astype(np.float64).sum(0) / (stop - start)
            means[place] = whole.astype(np.float32).astype(np.float16)
        return means

    def items(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The owners, one row for each, in order of id.

        Args:
            columns: as of `Chunk.items`.

        Returns:
            The table. The id and the key are those of the owner, which has no owner itself.

        Raises:
            Damaged: as `Chunk.items`.
        """
        owners = owner_ids(self.parts)
        begins = begins_of_owners(owners)
        first = array_of(begins[:-1], pa.int64())
        keys = "key" in columns if columns is not None else True
        table = self.parts.items(columns)
        own: dict[str, pa.Array] = {
            "id": array_of(owners[begins[:-1]], pa.int64()),
            "owner": pa.nulls(len(first), pa.int64()),
            **({"key": owner_keys(self.parts).take(first)} if keys else {}),
            **({"uri": _whole(table["uri"]).take(first)} if "uri" in table.column_names else {}),
        }
        names = table.column_names
        return pa.table([own[n] if n in own else shared(_whole(table[n]), begins) for n in names], names=names)


def parts_by_owner(chunk: Chunk, ids: Iterable[int]) -> dict[int, dict[int, str]]:
    """The parts of some owners in a chunk.

    Args:
        chunk: of parts.
        ids: of owners; those that are not here are passed over.

    Returns:
        {id: {id of a part: its key}}, both in order of id.
    """
    owners = owner_ids(chunk)
    rows = np.flatnonzero(np.isin(owners, np.fromiter(ids, np.int64)))
    table = chunk.items(["id", "key"]).take(array_of(rows, pa.int64())) if len(rows) else None
    found: dict[int, dict[int, str]] = {}
    if table is not None:
        for owner, id, key in zip(
            owners[rows].tolist(), table["id"].to_pylist(), table["key"].to_pylist(), strict=True
        ):
            found.setdefault(owner, {})[id] = key
    return found


def first_that_differs(chunk: OwnersChunk, column: str) -> str | None:
    """The key of the first owner here of whose parts a column says different things; None if there is none."""
    given = _whole(chunk.parts.items([column])[column])
    begins = begins_of_owners(owner_ids(chunk.parts))
    if not len(given):
        return None
    said = shared(given, begins).is_valid().to_numpy(zero_copy_only=False)
    some = np.logical_or.reduceat(given.is_valid().to_numpy(zero_copy_only=False), begins[:-1])
    differs = np.flatnonzero(some & ~said)
    return str(chunk.items(["key"])["key"][int(differs[0])].as_py()) if len(differs) else None


def gone_owners(chunk: OwnersChunk) -> NDArray[np.int64]:
    """The ids of the owners whose parts in a chunk were all removed, ascending. It reads it where some were."""
    if chunk.living() is None:
        return np.empty(0, np.int64)
    return np.setdiff1d(replace(chunk, removed=None).ids(), chunk.ids())


def shared(values: pa.Array, begins: NDArray[np.int64]) -> pa.Array:
    """The value [owners] that all parts of an owner have; null where they differ.

    Args:
        values: of parts [n].
        begins: where owners begin, and n.

    Returns:
        Values of the same type.
    """
    if len(begins) - 1 == len(values):
        return values
    codes = _codes(values)
    same = np.append(True, codes[1:] == codes[:-1])
    same[begins[:-1]] = True  # no value is compared with one of another owner
    kept = np.logical_and.reduceat(same, begins[:-1])
    return values.take(pa.array(begins[:-1], pa.int64(), mask=~kept))


def _codes(values: pa.Array) -> NDArray[np.int64]:
    """Numbers [n] that are equal where some values are: null is one of them, and so is NaN."""
    try:
        return numbers_of(values.dictionary_encode().indices.fill_null(-1).cast(pa.int64()))
    except pa.ArrowNotImplementedError:  # lists and the like
        known: dict[str, int] = {}
        return np.array([known.setdefault(repr(value), len(known)) for value in values.to_pylist()], np.int64)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
