"""Owners: what parts are of. A part is an item of a pool that is a piece of something: a box, a tile, a frame.

An owner is known by its own key, and its id is that of the first of its parts in the listing, whether that part could
be embedded or not. So ids of owners never change, and one pool has one space of ids. An item that is no part is its own
owner. The parts of an owner follow each other, and no chunk cuts an owner: a source lists them so (`Unit.owners`).

`OwnersOf` is a pool as people see it who label owners: its ids and keys are those of owners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.errors import LabelError, PoolError
from raysal.pool.chunk import Chunk
from raysal.pool.pool import Pool
from raysal.store import digest_of
from raysal.types import OWNER_KEY, Unit


def owners_in(unit: Unit, ids: NDArray[np.int64]) -> tuple[pa.Array | None, Mapping[str, pa.Array]]:
    """The owners of some items of a unit.

    Args:
        unit: from a source.
        ids: int64 [n] of its items.

    Returns:
        The ids of their owners, int64 [n], null for items that are no parts; and the column of the owners' keys.
        None, and no column, where no item of the unit is a part.
    """
    if unit.owners is None:
        return None, {}
    firsts: list[int | None] = []
    for place, owner in enumerate(unit.owners):
        same = place > 0 and unit.owners[place - 1] == owner
        firsts.append(None if owner is None else firsts[-1] if same else unit.first_id + place)
    rows = (ids - unit.first_id).tolist()
    keys = pa.array([unit.owners[row] for row in rows], pa.string())
    return pa.array([firsts[row] for row in rows], pa.int64()), {OWNER_KEY: keys}


def has_parts(pool: Pool) -> bool:
    """Whether some items of a pool are parts of an owner."""
    return any("parts" in record for record in pool.records)


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


class OwnersOf(Pool):
    """A pool whose items are owners: the same files, and ids and keys of owners in place of those of parts."""

    def __init__(self, pool: Pool) -> None:
        """Take over a pool that is open.

        Raises:
            PoolError: none of its items is a part.
        """
        if not has_parts(pool):
            fix = "embed it from a source that says what owns its items (owner), or choose by part"
            raise PoolError(pool.place, "none of its items is a part of an owner", fix)
        super().__init__(pool.path, pool.generation)

    @cached_property
    def fingerprint(self) -> str:
        """Another one than that of the parts: the same id may be a part there and an owner here."""
        return _of_owners(super().fingerprint)

    @cached_property
    def ancestors(self) -> frozenset[str]:
        """See `Pool.ancestors`."""
        return frozenset([self.fingerprint, *map(_of_owners, super().ancestors)])

    @cached_property
    def _count(self) -> int:
        return sum(len(begins_of_owners(owner_ids(chunk))) - 1 for chunk in self.chunks)

    def __len__(self) -> int:
        """Owners with a part that has a vector."""
        return self._count

    def keys_of(self, ids: NDArray[np.int64]) -> dict[int, str]:
        """The keys of owners, by id: the items of the chunks that have them are read.

        Args:
            ids: int64 [m]; those that the pool does not have are passed over.

        Returns:
            {id: key}.
        """
        found: dict[int, str] = {}
        for chunk in self._finder.chunks_of(ids.tolist()):
            owners, keys = owner_ids(chunk), owner_keys(chunk)
            rows = np.flatnonzero(np.isin(owners, ids))
            found |= dict(zip(owners[rows].tolist(), keys.take(array_of(rows, pa.int64())).to_pylist(), strict=True))
        return dict(sorted(found.items()))

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """The ids of owners, by key. It reads the items once.

        Args:
            keys: the owners' keys.

        Returns:
            {key: id}.

        Raises:
            LabelError: a key is of no owner here.
        """
        found = self.ids_there(keys)
        if missing := [key for key in dict.fromkeys(keys) if key not in found]:
            known = super().ids_there(missing[:1])
            problem = "is the key of a part, not of an owner" if known else "is the key of no owner"
            raise LabelError(
                self.place, f"{missing[0]!r} {problem}", "give keys of owners, as a batch by owner has them"
            )
        return found

    def ids_there(self, keys: Sequence[str]) -> dict[str, int]:
        """The ids of those among some keys that are of owners here. It reads the items once.

        Args:
            keys: of owners of this pool or not.

        Returns:
            {key: id}, in order of id.
        """
        import pyarrow.compute as pc  # a tenth of the time of `raysal pool info`

        wanted = pa.array(list(dict.fromkeys(key for key in keys if isinstance(key, str))), pa.string())
        found: dict[str, int] = {}
        for chunk in self.chunks if len(wanted) else ():
            owners, texts = owner_ids(chunk), owner_keys(chunk)
            rows = np.flatnonzero(pc.is_in(texts, value_set=wanted).to_numpy(zero_copy_only=False))
            found |= dict(zip(texts.take(array_of(rows, pa.int64())).to_pylist(), owners[rows].tolist(), strict=True))
        return found


def _of_owners(fingerprint: str) -> str:
    return digest_of({"pool": fingerprint, "rows": "owners"})
