"""Owners: what parts are of. A part is an item of a pool that is a piece of something: a box, a tile, a frame.

An owner is known by its own key, and its id is that of the first of its parts in the listing, whether that part could
be embedded or not. So ids of owners never change, and one pool has one space of ids. An item that is no part is its own
owner. The parts of an owner follow each other, and no chunk cuts an owner: a source lists them so (`Unit.owners`).

`OwnersOf` is a pool as people see it who label owners: its ids and keys are those of owners. A run whose labels are of
owners has one in place of its pool, so that ledger, oracle, held-out items and page know of nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrays import column_of
from raysal.errors import LabelError, PoolError
from raysal.pool.finding import Finder
from raysal.pool.key_index import OWNERS_FOLDER
from raysal.pool.owner_chunk import OwnersChunk, gone_owners, owner_ids, parts_by_owner
from raysal.pool.pool import Pool
from raysal.store import digest_of
from raysal.types import OWNER_KEY, Unit

if TYPE_CHECKING:
    from raysal.config import PartsConfig


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


class OwnersOf(Pool):
    """A pool whose items are owners: the same files, and ids, keys and columns of owners in place of those of parts.

    Its chunks are `OwnersChunk`s, which say what becomes of columns and vectors.
    """

    def __init__(self, pool: Pool) -> None:
        """Take over a pool that is open.

        Raises:
            PoolError: none of its items is a part.
        """
        if not has_parts(pool):
            fix = "embed it from a source that says what owns its items (owner), or choose by part"
            raise PoolError(pool.place, "none of its items is a part of an owner", fix)
        self._parts = pool
        self.path, self.generation, self.manifest = pool.path, pool.generation, pool.manifest
        self.chunks = [OwnersChunk.of_parts(chunk) for chunk in pool.chunks]
        self._committed, self._changed, self._records = pool._committed, pool._changed, pool._records

    @property
    def stored(self) -> Pool:
        """The pool of their parts."""
        return self._parts

    @cached_property
    def fingerprint(self) -> str:
        """Another one than that of the parts: the same id may be a part there and an owner here."""
        return _of_owners(self.stored.fingerprint)

    @cached_property
    def ancestors(self) -> frozenset[str]:
        """See `Pool.ancestors`."""
        return frozenset(map(_of_owners, self.stored.ancestors))

    def at(self, fingerprint: str) -> Pool:
        """See `Pool.at`."""
        return OwnersOf(self.stored.at(self._of_parts(fingerprint)))

    def first_new_id(self, since: str | None = None) -> int:
        """See `Pool.first_new_id`."""
        return self.stored.first_new_id(since if since is None else self._of_parts(since))

    def _of_parts(self, fingerprint: str) -> str:
        """The fingerprint of the parts of a generation; the given one where it is of none."""
        return next((own for own in self.stored.ancestors if _of_owners(own) == fingerprint), fingerprint)

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """The ids of owners, by key: some pages of their key index for each. Without one it reads two columns once.

        Args:
            keys: the owners' keys.

        Returns:
            {key: id}.

        Raises:
            LabelError: a key is of no owner here.
            ConfigError: the keys are no column of values.
        """
        asked = list(dict.fromkeys(column_of("keys", keys)))
        found = self.ids_there(asked)
        if missing := [key for key in asked if key not in found]:
            known = self.stored.ids_there(missing[:1])
            problem = "is the key of a part, not of an owner" if known else "is the key of no owner"
            fix = "give keys of owners, as a batch by owner has them"
            raise LabelError(self.place, f"{missing[0]!r} {problem}", fix)
        return found

    @cached_property
    def _finder(self) -> Finder:
        firsts = [record["first_id"] for record in self._records]
        gone = [gone_owners(chunk) for chunk in self.chunks if isinstance(chunk, OwnersChunk)]
        removed = np.concatenate([np.empty(0, np.int64), *gone])
        return Finder(self.path, self.chunks, firsts, removed, folder=OWNERS_FOLDER)


def parts_of(pool: Pool, ids: Sequence[int]) -> dict[int, dict[int, str]]:
    """What items of a pool are made of: the parts that are there, of one whose items are owners; else themselves.

    The items of the chunks that have them are read.

    Args:
        pool: the pool.
        ids: of its items; those that it does not have are passed over.

    Returns:
        {id: {id of a part: its key}}, both in order of id.
    """
    if pool.stored is pool:
        return {id: {id: key} for id, key in pool.keys_of(np.array(ids, np.int64)).items()}
    found: dict[int, dict[int, str]] = {}
    for chunk in pool.stored.chunks_of(ids):
        found |= parts_by_owner(chunk, ids)
    return found


@dataclass(frozen=True)
class OwnerOf:
    """Finds the owners of items of a pool by id, in whatever process. An id has the same owner in each generation."""

    place: str
    generation: int

    @classmethod
    def in_pool(cls, pool: Pool) -> Self:
        """Of a pool that is open in this process."""
        made = cls(pool.place, pool.generation)
        made.__dict__["_pool"] = pool.stored  # another process opens it
        return made

    @cached_property
    def _pool(self) -> Pool:
        return Pool(self.place, self.generation)

    def __reduce__(self) -> tuple[Any, ...]:
        return OwnerOf, (self.place, self.generation)

    def of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The owners of items.

        It reads two columns of the chunks that have the items, also where these were removed.

        Args:
            ids: int64 [n], in any order.

        Returns:
            int64 [n]: the id of the owner of each; its own where it is no part, or not in the pool.
        """
        found = ids.copy()
        firsts = np.array([record["first_id"] for record in self._pool.records], np.int64)
        places = np.searchsorted(firsts, ids, "right") - 1
        for chunk_place in np.unique(places[places >= 0]).tolist():
            whole = replace(self._pool.chunks[chunk_place], removed=None)
            own, owners = whole.ids(), owner_ids(whole)
            if not len(own):
                continue
            rows = np.flatnonzero(places == chunk_place)
            place = np.searchsorted(own, ids[rows]).clip(max=len(own) - 1)
            there = own[place] == ids[rows]
            found[rows[there]] = owners[place[there]]
        return found


def pool_of_labels(pool: Pool, parts: PartsConfig) -> Pool:
    """The pool whose items labels are of.

    Args:
        pool: of parts, or of their owners.
        parts: the section of a config.

    Returns:
        The pool of owners, where labels are of them; else that of parts.

    Raises:
        PoolError: a batch is by owner, and none of the pool's items is a part.
    """
    if parts.by == "owner" or parts.per_owner:
        owners = pool if isinstance(pool, OwnersOf) else OwnersOf(pool)  # where nothing is a part, that is said here
        return owners if parts.labels_of_owners else owners.stored
    return pool.stored


def _of_owners(fingerprint: str) -> str:
    return digest_of({"pool": fingerprint, "rows": "owners"})
