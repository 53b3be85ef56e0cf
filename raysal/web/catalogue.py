"""What the items of a pool are called: key and carried values by id, read chunk by chunk and kept while there is room.

A chunk is a run of ids. So the chunk of an id is known without a search, and one item costs the reading of one chunk's
table, the first time. Of a pool whose items are owners, the table is that of owners, and names their parts, too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysal.arrow_values import numbers_of
from raysal.pool import Pool
from raysal.pool.owner_chunk import OwnersChunk, owner_ids
from raysal.types import OWNER_KEY, POOL_COLUMNS

ROOM_BYTES = 256 << 20
"""Memory that the tables of chunks may take together."""
MOST_ENTRIES = 100_000
"""Items whose key is kept ready."""


class Entry(NamedTuple):
    """One item as the pool names it."""

    id: int
    key: str
    uri: str | None


class _Table(NamedTuple):
    ids: NDArray[np.int64]
    columns: pa.Table
    parts: pa.Table | None
    """owner, id and key of the parts of owners, in order; None where items are no owners"""

    @property
    def nbytes(self) -> int:
        return int(self.columns.nbytes + (0 if self.parts is None else self.parts.nbytes))


class Catalogue:
    """The items' table of one pool. Several threads may share it.

    Memory: `ROOM_BYTES` for the tables of the chunks that were read last, at least one of them.
    """

    def __init__(self, pool: Pool, room: int = ROOM_BYTES) -> None:
        self._pool, self._room = pool, room
        self._chunks = {chunk.index: chunk for chunk in pool.chunks}
        self._kept: OrderedDict[int, _Table] = OrderedDict()
        self._bytes = 0
        self._entries: dict[int, Entry] = {}
        self._lock = Lock()

    def entries(self, ids: Iterable[int]) -> dict[int, Entry]:
        """Key and uri of items.

        Args:
            ids: numbers of items; those that the pool does not have are left out.

        Returns:
            {id: entry}, in the order of `ids`.

        Raises:
            Damaged: a file of the pool is missing or was altered.
        """
        found = {}
        for id in ids:
            entry = self._entries.get(id) or self._read(id)
            if entry is not None:
                found[id] = entry
        return found

    def _read(self, id: int) -> Entry | None:
        table, row = self._find(id)
        if table is None:
            return None
        if len(self._entries) >= MOST_ENTRIES:
            self._entries = {}
        columns = table.columns
        entry = self._entries[id] = Entry(id, columns["key"][row].as_py(), columns["uri"][row].as_py())
        return entry

    def carried(self, id: int) -> Mapping[str, Any]:
        """The carried values of an item; nothing where the pool does not have it. Raises what `entries` raises."""
        table, row = self._find(id)
        if table is None:
            return {}
        own = POOL_COLUMNS if table.parts is None else (*POOL_COLUMNS, OWNER_KEY)  # which is the key of an owner
        names = [name for name in table.columns.column_names if name not in own]
        return {name: table.columns[name][row].as_py() for name in names}

    def parts(self, id: int) -> list[Entry]:
        """The parts of an owner that are there, in order of id; of any other item itself. Raises as `entries`."""
        table = self._find(id)[0]
        if table is None:
            return []
        if table.parts is None:
            return list(self.entries([id]).values())
        owners = numbers_of(table.parts["owner"])
        low, high = np.searchsorted(owners, [id, id + 1])
        own = table.parts.slice(low, high - low)
        return [Entry(*one.values()) for one in own.select(["id", "key", "uri"]).to_pylist()]

    def text_lengths(self) -> dict[str, float]:
        """The mean number of letters of each carried column of texts, by the first chunk that has items."""
        first = next((chunk.index for chunk in self._chunks.values() if chunk.rows), None)
        if first is None:
            return {}
        columns = self._table(first).columns
        texts = [
            f.name
            for f in columns.schema
            if f.name not in POOL_COLUMNS and (pa.types.is_string(f.type) or pa.types.is_large_string(f.type))
        ]
        return {name: pc.mean(pc.utf8_length(columns[name])).as_py() or 0.0 for name in texts}

    def _find(self, id: int) -> tuple[_Table | None, int]:
        """The table that an id is in, and its row there; (None, 0) if the pool has no such item."""
        for chunk in self._pool.chunks_of([id]):
            table = self._table(chunk.index)
            row = int(np.searchsorted(table.ids, id))
            if row < len(table.ids) and table.ids[row] == id:
                return table, row
        return None, 0

    def _table(self, chunk: int) -> _Table:
        with self._lock:
            if chunk in self._kept:
                self._kept.move_to_end(chunk)
                return self._kept[chunk]
        held = self._chunks[chunk]  # read outside of the lock: others go on with what is kept
        columns, parts = held.items(), None
        if isinstance(held, OwnersChunk):
            owner = pa.array(owner_ids(held.parts))
            parts = held.parts.items(["id", "key", "uri"]).append_column("owner", owner).combine_chunks()
        made = _Table(numbers_of(columns["id"]), columns, parts)
        with self._lock:
            if chunk not in self._kept:
                self._kept[chunk] = made
                self._bytes += made.nbytes
            while self._bytes > self._room and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return made
