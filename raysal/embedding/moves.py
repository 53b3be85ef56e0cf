"""What a growth meets that a pool has: items, of which it notes in which files they lie, and owners of parts."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raysal.arrow_values import text_array
from raysal.embedding.changes import FileSource
from raysal.errors import DuplicateKeys, PoolError
from raysal.pool import Pool
from raysal.pool.lanes import text_hashes
from raysal.pool.owner_chunk import owner_keys
from raysal.pool.owners import has_parts
from raysal.pool.taken_files import KnownFiles, TakenFile
from raysal.sources.keys import source_name
from raysal.types import SourceFile, Unit


class Met:
    """Notes which items of before lie in the files that a growth lists. Memory: 24 bytes for each run of ids."""

    def __init__(self, source: FileSource, known: KnownFiles, listed: Collection[str], chunk_rows: int) -> None:
        """`listed` are the names of the files, and `known` those that the pool took in before."""
        self._source, self._known = source, known
        self._others = _Others(source, listed, chunk_rows)
        self._names: dict[str, int] = {}
        self._runs = array("q")

    def look(self, unit: Unit, ids: Mapping[str, int]) -> None:
        """Take one unit more.

        An item keeps its id where it is moved to another file, so the one that it came from may not have it any more.

        Args:
            unit: of the listed files, in order.
            ids: {key: id} of those of its items that the pool has.

        Raises:
            DuplicateKeys: a file that is not listed has an item of the unit, too.
        """
        if not ids:
            return
        names, counts = zip(*self._source.spans(unit), strict=True)
        there = [(row, ids[key]) for row, key in enumerate(unit.keys) if key in ids]
        rows, own = np.array(there, np.int64).T
        spans = np.repeat(np.arange(len(names)), counts)[rows]
        now, came = self._known.places_of(names)[spans], self._known.file_of(own)
        doubted = rows[(came < 0) | (came != now)].tolist()
        if doubted and (twice := self._others.having([unit.keys[row] for row in doubted])):
            raise DuplicateKeys(source_name(self._source), twice)
        begins = np.flatnonzero((np.diff(own, prepend=-2) != 1) | (np.diff(spans, prepend=-1) != 0))
        for begin, stop in zip(begins.tolist(), [*begins[1:].tolist(), len(own)], strict=True):
            self._add(self._names.setdefault(names[spans[begin]], len(self._names)), int(own[begin]), stop - begin)

    def _add(self, name: int, first_id: int, count: int) -> None:
        runs = self._runs
        if runs and runs[-3] == name and runs[-2] + runs[-1] == first_id:
            runs[-1] += count
        else:
            runs.extend((name, first_id, count))

    @property
    def runs(self) -> NDArray[np.int64]:
        """The ids that lie in the files, int64 [n, 2]: the first of a run, and how many."""
        return np.frombuffer(self._runs, np.int64).reshape(-1, 3)[:, 1:]

    def taken(self, files: Iterable[SourceFile]) -> Iterator[TakenFile]:
        """For each run of ids, the file that has it.

        Args:
            files: those that are listed.

        Yields:
            As the table of a generation has them.
        """
        by_name = {file.name: file for file in files}
        names = list(self._names)
        for name, first_id, count in np.frombuffer(self._runs, np.int64).reshape(-1, 3).tolist():
            yield TakenFile(file=by_name[names[name]], first_id=first_id, items=count)


class _Others:
    """The files of a source that a growth does not list."""

    def __init__(self, source: FileSource, listed: Collection[str], chunk_rows: int) -> None:
        self._source, self._listed, self._rows = source, listed, chunk_rows

    @cached_property
    def _hashes(self) -> NDArray[np.int64]:
        """Of their keys, ascending: 8 bytes for each. They are listed when this is first asked."""
        listed, found = set(self._listed), array("q")
        names = (file.name for file in self._source.files() if file.name not in listed)
        for unit in self._source.units_in(names, self._rows):
            found.frombytes(text_hashes(text_array(unit.keys)).tobytes())
        return np.sort(np.frombuffer(found, np.int64))

    def having(self, keys: Sequence[str]) -> list[str]:
        """Those of some keys that they have."""
        hashes = text_hashes(text_array(keys))
        low, high = (np.searchsorted(self._hashes, hashes, side) for side in ("left", "right"))
        return [key for key, here in zip(keys, (low < high).tolist(), strict=True) if here]


class OwnersThere:
    """The owners of a pool that grows, by their keys. Memory: 8 bytes for each, once one has to be looked for."""

    def __init__(self, pool: Pool) -> None:
        """Take over a pool. Nothing is read yet."""
        self._pool = pool

    @cached_property
    def _hashes(self) -> NDArray[np.int64]:
        """Of their keys, ascending. The items are read once."""
        parts = [np.unique(text_hashes(owner_keys(chunk))) for chunk in self._pool.chunks]
        return np.unique(np.concatenate([np.empty(0, np.int64), *parts]))

    def check(self, unit: Unit, there: Collection[str], kept: Collection[str]) -> None:
        """Refuse parts of an owner that is there: its parts would not follow each other, and have two ids for it.

        Args:
            unit: of the growth.
            there: the keys of its items that the pool has.
            kept: the keys of those that stay as they are there, or stay out.

        Raises:
            PoolError: there are some.
        """
        if unit.owners is None and not has_parts(self._pool):
            return
        named: dict[str, None] = {}
        for key, owner in zip(unit.keys, unit.owners or [None] * len(unit.keys), strict=True):
            if key not in kept and (owner is not None or key not in there):
                named[key if owner is None else owner] = None
        keys = list(named)
        hashes = text_hashes(text_array(keys))
        low, high = (np.searchsorted(self._hashes, hashes, side) for side in ("left", "right"))
        if len(twice := np.flatnonzero(low < high)):
            problem = f"has the owner {keys[int(twice[0])]!r}, and the source has new or changed parts of it"
            fix = (
                "embed into another directory; its labels are matched by key (--rebind). Files that were only touched "
                "are known by their bytes where every embedding had --check hash"
            )
            raise PoolError(self._pool.place, problem, fix)
