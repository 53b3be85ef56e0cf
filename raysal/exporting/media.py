"""The media of a pool's items, read again from the source by key, and only if they are what was embedded.

A pool knows size and time of each file that it took in, and a digest of what was read for each chunk. So an item is
trusted while its file is as it was. In doubt the chunk of the item is read again as a whole, and compared: if it
differs, its items of changed files are lost. Of an older pool, or a source without files, all items are in doubt unless
the source has the stamp that the pool remembers; then those are lost whose files are gone or newer than the pool, or,
where that explains nothing, all of the chunk. What is written while it is read is noticed, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysal.arrow_values import text_array
from raysal.config import Choice
from raysal.embedding.changes import FILES
from raysal.embedding.origin import TICK_NS, stamp_of
from raysal.errors import BadItem, SourceError
from raysal.exporting.base import Media, media_of
from raysal.pool import Pool
from raysal.pool.chunk import Chunk
from raysal.pool.contents import OF_ITEMS, as_hex, item_digest
from raysal.pool.lanes import text_hashes
from raysal.pool.layout import MANIFEST, SOURCE, chunk_file, read_stamp
from raysal.pool.taken_files import KnownFiles
from raysal.sources.base import OfFiles, Source
from raysal.sources.folder import Folder
from raysal.sources.keys import source_name
from raysal.sources.listing import bad_item
from raysal.sources.of_pool import source_of
from raysal.sources.places import place_of
from raysal.sources.registry import SOURCES
from raysal.store import read_sealed
from raysal.types import Item, Unit

ABSENT = "it is not in the source any more"
OTHER = "its source was written since, and what was embedded with it is not the same any more"
NEWER = "its file was written since it was embedded, and the contents that were embedded with it are other ones now"
MEANWHILE = "its file was written while it was exported"


def source_for(pool: Pool, given: str | Path | Source | None) -> Source:
    """The source of a pool's media.

    Args:
        pool: the pool.
        given: where it is now, or a source; None for where the pool was made of.

    Returns:
        The source.

    Raises:
        SourceError: it was in memory and none is given, it has no path, or nothing is at the path.
        UserError: as `raysal.sources.of_pool.source_of`.
    """
    record = pool.manifest.source
    if given is None:
        try:
            found = source_of(pool)
        except SourceError as error:
            raise SourceError(
                error.where, error.problem, "name where the media are: --source (Python: source=)"
            ) from None
    elif isinstance(given, str | Path):
        config = record.get("config", {})
        if "path" not in config:
            raise SourceError(given, f"the source {record['name']!r} of the pool has no path", "leave --source out")
        found = Choice(name=record["name"], **{**config, "path": str(given)}).build("source", SOURCES)
    else:
        found = given
    if (path := getattr(found, "path", None)) is not None:
        place_of(path)
    return found


class MediaReader:
    """Reads the media of one pool, chunk by chunk."""

    def __init__(self, pool: Pool, source: Source) -> None:
        """Look at the source.

        Args:
            pool: the pool.
            source: where its items are.

        Raises:
            SourceError: the source cannot be listed.
        """
        self._pool, self._source = pool, source
        self._folder = source if isinstance(source, Folder) else None
        self._images = None if self._folder is None else self._folder.listing()
        self._listing = Listing(source, pool.manifest.chunk_rows)
        self._judged: tuple[int, Mapping[str, str]] = (-1, {})
        self._files = FilesNow.of(pool, source)
        known = read_stamp(pool.path)
        # A folder is looked at once, by its files or by its stamp: it may have millions.
        self._begun = None if self._folder is not None and self._files is not None else stamp_of(source)
        self._trusted = self._begun is not None and known is not None and self._begun.digest == known.digest
        remembered = pool.path / (MANIFEST if known is None else SOURCE)
        self._time = remembered.stat().st_mtime_ns  # what is not newer was there when the pool looked last
        self._newest = self._files.newest_ns if self._begun is None and self._files is not None else 0
        if self._begun is not None:
            self._newest = self._begun.newest_ns

    def read(self, chunk: Chunk, ids: NDArray[np.int64], keys: Sequence[str]) -> Iterator[Media | BadItem]:
        """Read items of a chunk.

        Args:
            chunk: the chunk.
            ids: of some of its items, ascending [n].
            keys: of these [n].

        Yields:
            The media of each, or why there are none.
        """
        doubts = self._doubts(ids, keys)
        changed = self._changed(chunk) if doubts.any() else {}
        links = self._images is not None and self._images.bucket is None
        for doubt, key, (item, changed_ns) in zip(doubts.tolist(), keys, self._items(keys), strict=True):
            try:
                media = media_of(item, os.fsdecode(self._images.file(key)) if links and self._images else None)
            except BadItem as error:
                yield error
                continue
            meanwhile = changed_ns > self._newest
            if meanwhile or (doubt and key in changed):
                yield BadItem(key, changed.get(key, MEANWHILE), "embed it again")
            else:
                yield media

    def _doubts(self, ids: NDArray[np.int64], keys: Sequence[str]) -> NDArray[np.bool_]:
        """Which items [n] may be other ones than were embedded."""
        if self._files is not None:
            return ~self._files.as_they_were(ids, keys)
        return np.full(len(keys), not self._trusted)

    def check_unchanged(self) -> None:
        """Refuse a source that was written while it was read.

        Raises:
            SourceError: its stamp is not what it was at the beginning.
        """
        if self._folder is None and self._begun is not None:
            now = stamp_of(self._source)
            if now is not None and now.digest != self._begun.digest:
                problem = "was written while it was exported, so that some items may be of before and some of after"
                raise SourceError(source_name(self._source), problem, "delete the export, and begin it anew")

    def _changed(self, chunk: Chunk) -> Mapping[str, str]:
        """{key: why} of the items of a chunk that are other ones now, or may be. The chunk is read again."""
        if self._judged[0] == chunk.index:
            return self._judged[1]
        record = read_sealed(self._pool.path / chunk_file("commits", chunk.index))
        whole = Chunk.of(self._pool.path, record, self._pool.dim)  # also items that were removed since
        tables = [whole.items(["id", "key"]), whole.quarantine()]
        pairs = (zip(table["id"].to_pylist(), table["key"].to_pylist(), strict=True) for table in tables)
        rows = dict(sorted(chain.from_iterable(pairs)))
        contents = record.get("contents", {})
        found: dict[str, str] = {}
        method = contents.get("algorithm")
        if method not in OF_ITEMS or self._digest(rows, method) != contents["items"]:
            keys = list(rows.values())
            if self._files is not None:
                doubts = self._doubts(np.array(list(rows), np.int64), keys)
                found = {key: NEWER for key, doubt in zip(keys, doubts.tolist(), strict=True) if doubt}
            else:
                found = {key: NEWER for key in keys if self._is_newer(key)}
                if not found and (contents or self._folder is None):  # an older pool has no contents, and trusts times
                    found = dict.fromkeys(keys, OTHER)
        self._judged = chunk.index, found
        return found

    def _digest(self, rows: Mapping[int, str], method: str) -> str:
        """The digest of a chunk's contents as they are now; `rows` is {id: key} of its items, in order of id."""
        items = self._items(list(rows.values()))
        return as_hex(sum(item_digest(id, item, method) for id, (item, _) in zip(rows, items, strict=True)))

    def _is_newer(self, key: str) -> bool:
        """Whether the file of an item is gone, or newer than what the pool remembers."""
        if self._images is None:
            return False
        found = self._images.look_at(key)
        return found.bytes < 0 or found.changed_ns > self._time

    def _items(self, keys: Sequence[str]) -> Iterator[tuple[Item, int]]:
        """The items of some keys, as the source has them now, and when the file of each was written; 0 if unknown."""
        if self._folder is not None:  # finds them by key
            return ((item, file.changed_ns) for item, file in self._folder.read_looking(keys))
        return ((item, 0) for item in self._listing.read(keys))


class FilesNow:
    """The files of a source as they are now, beside those that a pool took in. Memory: 41 bytes a file."""

    def __init__(self, known: KnownFiles, source: OfFiles, single: bool) -> None:
        """Look at each file; `single` says that the key of an item is the name of its file."""
        self._known, self._single = known, single
        self.newest_ns = self._look(source)
        while 0 <= time.time_ns() - self.newest_ns < TICK_NS:  # another write might bear the same time
            time.sleep(TICK_NS / 1e9)
            self.newest_ns = self._look(source)

    @classmethod
    def of(cls, pool: Pool, source: Source) -> FilesNow | None:
        """The files of a source; None where it has none, or the pool does not know those that it took in."""
        known = KnownFiles(pool.path, pool.generation)
        if not isinstance(source, OfFiles) or not len(known):
            return None
        return cls(known, source, isinstance(source, Folder))

    def _look(self, source: OfFiles) -> int:
        """Note which files are as they were; returns the newest time."""
        self._same, newest = np.zeros(len(self._known), bool), 0
        files = source.files()
        while some := list(islice(files, FILES)):
            places, same = self._known.look(some)
            self._same[places[same]] = True
            newest = max(newest, *(file.changed_ns for file in some))
        return newest

    def as_they_were(self, ids: NDArray[np.int64], keys: Sequence[str]) -> NDArray[np.bool_]:
        """Whether the files of items are as they were when the pool took them in.

        Args:
            ids: of the items [n].
            keys: of these [n].

        Returns:
            bool [n]; false where the file is not known.
        """
        places = self._known.places_of(keys) if self._single else self._known.file_of(ids)
        return np.asarray((places >= 0) & self._same[places.clip(min=0)], bool)


class Listing:
    """Items of a source by key. It goes forward in the listing; backward only where keys come in another order.

    Memory: the keys of a unit; and, once a key was not found ahead, 16 bytes an item of the listing.
    """

    def __init__(self, source: Source, rows: int) -> None:
        self._source, self._rows = source, rows
        self._units: Iterator[Unit] = iter(())
        self._unit: Unit | None = None
        self._places: Mapping[str, int] = {}
        self._passed = -1
        self._hashes: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self._started = False

    def read(self, keys: Sequence[str]) -> Iterator[Item]:
        """Read items.

        Args:
            keys: of the items.

        Yields:
            The item of each; a bad one for a key that the source does not list.
        """
        place = 0
        while place < len(keys):
            if keys[place] not in self._places and not self._find(keys[place]):
                yield bad_item(keys[place], ABSENT)
                place += 1
                continue
            unit, run = self._unit, [self._places[keys[place]]]
            assert unit is not None
            for key in keys[place + 1 :]:
                if self._places.get(key, -1) <= run[-1]:
                    break
                run.append(self._places[key])
            found = iter(self._source.read(unit, only=frozenset(unit.first_id + row for row in run)))
            for key in keys[place : place + len(run)]:
                item = next(found, None)
                yield item if item is not None and item.key == key else bad_item(key, ABSENT)
            place += len(run)

    def _find(self, key: str) -> bool:
        """Go to the unit that holds a key, if there is one."""
        if self._hashes is None:
            if not self._started:
                self._restart()
            while self._next():
                if key in self._places:
                    return True
            self._hashes = self._all_hashes()
        for number in self._numbers_of(key):
            if number <= self._passed:
                self._restart()
            while self._passed < number and self._next():
                pass
            if key in self._places:
                return True
        return False

    def _restart(self) -> None:
        self._units, self._passed, self._started = self._source.units(self._rows), -1, True
        self._unit, self._places = None, {}

    def _next(self) -> bool:
        self._unit = next(self._units, None)
        self._places = {} if self._unit is None else {key: row for row, key in enumerate(self._unit.keys)}
        self._passed += self._unit is not None
        return self._unit is not None

    def _all_hashes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The hashes of all keys in ascending order, and the number of the unit that holds each."""
        hashes = [text_hashes(text_array(unit.keys)) for unit in self._source.units(self._rows)]
        numbers = np.repeat(np.arange(len(hashes), dtype=np.int64), [len(some) for some in hashes])
        whole = np.concatenate(hashes) if hashes else np.empty(0, np.int64)
        order = np.argsort(whole, kind="stable")
        return whole[order], numbers[order]

    def _numbers_of(self, key: str) -> list[int]:
        """Numbers of the units that may hold a key."""
        assert self._hashes is not None
        hashes, numbers = self._hashes
        wanted = text_hashes(text_array([key]))
        low, high = np.searchsorted(hashes, wanted[0], "left"), np.searchsorted(hashes, wanted[0], "right")
        return [int(number) for number in numbers[low:high]]
