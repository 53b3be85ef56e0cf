"""One file of the key index of a pool: the keys and ids of some chunks, mapped into memory, for either way to ask.

    header        rows, chunks, bytes of keys, first and last id, sha256 of chunks and entries, sha256 of all that
                  follows the header, and sha256 of these
    chunks        the number of each chunk, its first row here, and a mark of its items file (`mark_of`)
    entries       uint64 [rows], ascending: 40 bits of the key's hash, and the row in the other 24
    ids           int64 [rows], ascending
    places        uint64 [rows, 2]: where the key begins, and a check of key, id and mark
    keys          their bytes, one behind the other

To ask for a key touches some pages of 4 KiB, whatever the number of rows: where its hash stands among the entries
follows from the hash itself.

Only the header is compared with a digest. The rest is not trusted: what is found counts if the key's bytes are there,
and the check is that of this key, this id and the chunk's items file as the reader knows it. So a byte that changed, or
an index of other files, can hide a key, and never gives another id: a check of 64 bits would have to hold by chance.
A key is not there if no entry has its hash, once the entries, a fifth of the file, were compared with their digest; or
if those that have it are of other keys, as their checks say.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of
from raysal.errors import Damaged
from raysal.numerics import slices
from raysal.pool.intact import INTACT, IntactFiles, digest_from
from raysal.pool.lanes import ID, absorb_texts, begin
from raysal.store import write_file

U64 = NDArray[np.uint64]
MAGIC = b"RAYSKEY2"
ROW_BITS = 24
MAX_ROWS = 2**ROW_BITS
"""Rows of one file: to make it takes 8 bytes of memory for each."""
_HEADER = struct.Struct("<8s5q32s32s32s")
_SPACE = 192
"""Bytes from the header to the chunks."""
_ROW = np.uint64(MAX_ROWS - 1)
_BATCH = 4096
"""Keys that are hashed at a time: they fit the cache."""
_WINDOW = 64
"""Entries to either side of the place where a hash is expected that are looked at."""
_FEW = 4096
"""Keys up to which each is looked for where it is expected; of more, most pages are read anyway."""


_ENTRIES = IntactFiles()
"""The files of which chunks and entries were found intact in this process."""


class Rows(NamedTuple):
    """The items of one chunk."""

    chunk: int
    mark: int
    ids: NDArray[np.int64]
    keys: pa.Array


class Found(NamedTuple):
    """An item that the index knows."""

    key: str
    id: int
    chunk: int


class Answer(NamedTuple):
    """What a file says of some keys."""

    found: list[Found]
    """In any order. A key may be that of several items."""
    doubted: bool
    """An entry has the hash of a key, and its row is damaged: it may be that key's, also where that is not found."""


def mark_of(sha256_hex: str) -> int:
    """64 bits of the digest of a chunk's items file, by which a shard knows the file it was made of."""
    return int(sha256_hex[:16], 16)


def hashes_of(keys: pa.Array, ids: NDArray[np.int64], marks: U64 | int) -> tuple[U64, U64]:
    """What keys are found by, and what tells that an id is theirs.

    It takes about 0.2 us for a key.

    Args:
        keys: `string` or `binary` [n].
        ids: [n].
        marks: of the chunks [n], or of the one chunk that all are in.

    Returns:
        The hash of each key [n], and the check of each key, id and mark [n].
    """
    states = begin(len(keys))[:, :2].copy()
    states[:, 1] += ids.astype(np.uint64) * ID[1] + np.asarray(marks, np.uint64)
    for some in slices(len(keys), _BATCH):
        absorb_texts(states[some], keys[some], 0)
    return states[:, 0], states[:, 1]


def write_shard(path: Path, chunks: Sequence[tuple[int, int]], read: Callable[[int], Rows]) -> None:
    """Write one file of a key index, in one step.

    Memory: 8 bytes a row, and one chunk.

    Args:
        path: the file.
        chunks: number and rows of each chunk, in order of ids, with at most `MAX_ROWS` rows in all.
        read: gives the items of a chunk by its number.

    Raises:
        OSError: the disk is full or cannot be written; nothing is left there.
        ValueError: a chunk has another number of rows.
    """
    write_file(path, lambda temporary: _write(temporary, chunks, read))


def _write(path: Path, chunks: Sequence[tuple[int, int]], read: Callable[[int], Rows]) -> None:
    starts = np.cumsum([0, *(rows for _, rows in chunks)])
    n, size = int(starts[-1]), 0
    layout = _Layout(n, len(chunks))
    entries, marks, first, last = np.empty(n, np.uint64), [], 0, -1
    with open(path, "wb") as file:

        def put(place: int, content: NDArray[Any] | bytes) -> None:
            file.seek(place)
            file.write(content if isinstance(content, bytes) else np.ascontiguousarray(content).data)

        for (number, rows), low in zip(chunks, starts[:-1].tolist(), strict=True):
            items = read(number)
            if not len(items.ids) == len(items.keys) == rows:
                raise ValueError(f"chunk {number} has {len(items.ids)} items, not {rows}")
            marks.append(items.mark)
            if not rows:
                continue
            borders, content = _bytes_of(items.keys)
            hashes, checks = hashes_of(items.keys, items.ids, items.mark)
            own = np.arange(low, low + rows, dtype=np.uint64)
            entries[low : low + rows] = (hashes & ~_ROW) | own
            put(layout.ids + 8 * low, items.ids)
            put(layout.places + 16 * low, np.stack([(borders[:-1] + size).astype(np.uint64), checks], 1))
            put(layout.keys + size, content)
            size += len(content)
            first, last = first if low else int(items.ids[0]), int(items.ids[-1])
        entries.sort()
        put(layout.entries, entries)
        put(layout.numbers, np.array([number for number, _ in chunks], np.int64))
        put(layout.starts, starts[:-1].astype(np.int64))
        put(layout.marks, np.array(marks, np.uint64))
        file.truncate(layout.keys + size)
        file.flush()
        digests = digest_from(path, _SPACE, layout.ids), digest_from(path, _SPACE)
        put(0, _header(n, len(chunks), size, first, last, *digests))


def _header(rows: int, chunks: int, size: int, first: int, last: int, entries: str, rest: str) -> bytes:
    """The bytes of a header: rows, chunks, bytes of keys, first and last id, the two digests, and that of these."""
    facts = MAGIC, rows, chunks, size, first, last, bytes.fromhex(entries), bytes.fromhex(rest)
    return _HEADER.pack(*facts, sha256(_HEADER.pack(*facts, b"")).digest())


def _bytes_of(keys: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Where each of some texts begins, and where the last one ends [n + 1]; and their bytes."""
    _, offsets, data = keys.buffers()
    borders = np.frombuffer(offsets, np.int32)[keys.offset : keys.offset + len(keys) + 1].astype(np.int64)
    content = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return borders - borders[0], content[borders[0] : borders[-1]]


@dataclass(frozen=True)
class _Layout:
    """Where the parts of a file begin, in bytes."""

    rows: int
    chunks: int

    @property
    def numbers(self) -> int:
        return _SPACE

    @property
    def starts(self) -> int:
        return self.numbers + 8 * self.chunks

    @property
    def marks(self) -> int:
        return self.starts + 8 * self.chunks

    @property
    def entries(self) -> int:
        return self.marks + 8 * self.chunks

    @property
    def ids(self) -> int:
        return self.entries + 8 * self.rows

    @property
    def places(self) -> int:
        return self.ids + 8 * self.rows

    @property
    def keys(self) -> int:
        return self.places + 16 * self.rows


class KeyShard:
    """One file of a key index, open. In memory it is the header; the rest is mapped."""

    def __init__(
        self,
        path: Path,
        content: mmap.mmap,
        layout: _Layout,
        size: int,
        ends: tuple[int, int],
        digests: tuple[str, str],
    ) -> None:
        """Take over what `open` found."""
        self.path, self.rows, self._content, self._size, self._ends = path, layout.rows, content, size, ends
        self._digests, self._layout = digests, layout

        def part(place: int, count: int, kind: type) -> NDArray[Any]:
            return np.frombuffer(content, kind, count, place)

        self.numbers: NDArray[np.int64] = part(layout.numbers, layout.chunks, np.int64)
        """Of the chunks, in order of ids."""
        self._starts = part(layout.starts, layout.chunks, np.int64)
        self.marks: U64 = part(layout.marks, layout.chunks, np.uint64)
        """Of the chunks' items files."""
        self._entries = part(layout.entries, layout.rows, np.uint64)
        self._ids = part(layout.ids, layout.rows, np.int64)
        self._places = part(layout.places, 2 * layout.rows, np.uint64).reshape(-1, 2)
        self._keys = layout.keys

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Open a file. It reads one page.

        Args:
            path: the file.

        Returns:
            The shard; None if there is no such file, or it is no whole one of this kind.
        """
        try:
            with open(path, "rb") as file:
                begun, length = file.read(_HEADER.size), os.fstat(file.fileno()).st_size
                if len(begun) < _HEADER.size:
                    return None
                _, rows, chunks, size, first, last, entries, rest, _ = _HEADER.unpack(begun)
                layout, digests = _Layout(rows, chunks), (entries.hex(), rest.hex())
                if begun != _header(rows, chunks, size, first, last, *digests) or length != layout.keys + size:
                    return None
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return None
        content.madvise(mmap.MADV_RANDOM)  # one page is read where one is touched, and not 32
        return cls(path, content, layout, size, (first, last), digests)

    def counts(self) -> Iterator[tuple[int, int]]:
        """The number of each chunk, and how many rows it has here."""
        yield from zip(self.numbers.tolist(), np.diff(self._starts, append=self.rows).tolist(), strict=True)

    def is_intact(self, whole: bool) -> bool:
        """Whether the chunks and the entries are as they were written, so that a hash that is not found is not there.

        Args:
            whole: look at every byte.

        Returns:
            Whether they are.
        """
        entries, rest = self._digests
        try:
            if whole:
                INTACT.check(self.path, rest, "", start=_SPACE)
            else:
                _ENTRIES.check(self.path, entries, "", start=_SPACE, stop=self._layout.ids)
        except Damaged:
            return False
        return True

    def find(self, keys: pa.Array, marks: Mapping[int, int]) -> Answer:
        """The items of some keys.

        Args:
            keys: `string` [m].
            marks: {number of a chunk: mark of its items file}; what is in another chunk, or was, is passed over.

        Returns:
            What is found.
        """
        if not self.rows or not len(keys):
            return Answer([], False)
        low = hashes_of(keys, np.zeros(len(keys), np.int64), 0)[0] & ~_ROW
        first, last = self._between(low, low | _ROW)
        counts = np.maximum(last - first, 0)
        asked = np.repeat(np.arange(len(keys)), counts)
        within = np.arange(len(asked)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = (self._entries[first[asked] + within] & _ROW).astype(np.int64)
        asked, rows = asked[rows < self.rows], rows[rows < self.rows]
        wanted: list[str] = keys.to_pylist()
        content = [key.encode() for key in wanted]
        pairs = zip(asked.tolist(), rows.tolist(), strict=True)
        same = np.array([content[key] == self._bytes(row, len(content[key])) for key, row in pairs], bool)
        names = [wanted[key] for key in asked[same].tolist()]
        found = self._checked(rows[same], names, marks)
        return Answer(found, len(found) < len(rows) and self._is_any_damaged(rows))

    def _is_any_damaged(self, rows: NDArray[np.int64]) -> bool:
        """Whether the check of a row [m] does not hold for what is there."""
        texts = [_text(self._bytes(row)) for row in rows.tolist()]
        there = [text for text in texts if text is not None]
        own = dict(zip(self.numbers.tolist(), self.marks.tolist(), strict=True))
        return len(there) < len(rows) or len(self._checked(rows, there, own)) < len(rows)

    def keys_of(self, ids: NDArray[np.int64], marks: Mapping[int, int]) -> list[Found]:
        """The items of some ids [m]; arguments and result as of `find`."""
        ids = ids[(ids >= self._ends[0]) & (ids <= self._ends[1])]
        if not self.rows or not len(ids):
            return []
        rows = np.minimum(ids - self._ends[0], self.rows - 1)  # if none is missing before it
        others = self._ids[rows] != ids
        if others.any():
            rows[others] = np.searchsorted(self._ids, ids[others]).clip(max=self.rows - 1)
        rows = rows[self._ids[rows] == ids]
        texts = [_text(self._bytes(row)) for row in rows.tolist()]
        there = [text is not None for text in texts]
        return self._checked(rows[there], [text for text in texts if text is not None], marks)

    def _between(self, low: U64, high: U64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first entry that is at least `low`, and the first that is above `high`: [m] each."""
        n = self.rows
        if len(low) > _FEW:
            return self._searched(low, high)
        wanted, slope = low.astype(np.float64), n / 2.0**64
        place = (wanted * slope).astype(np.int64).clip(0, n - 1)
        for _ in range(3):  # hashes lie evenly, so the distance that is left falls to about its root each time
            step = (wanted - self._entries[place].astype(np.float64)) * slope
            place = (place + step.astype(np.int64)).clip(0, n - 1)
        width = min(2 * _WINDOW, n)
        start = (place - _WINDOW).clip(0, n - width)
        seen = self._entries[start[:, None] + np.arange(width)]
        first, last = (seen < low[:, None]).sum(1), (seen <= high[:, None]).sum(1)
        whole = ((first > 0) | (start == 0)) & ((last < width) | (start + width == n))
        first, last = first + start, last + start
        if not whole.all():
            first[~whole], last[~whole] = self._searched(low[~whole], high[~whole])
        return first, last

    def _searched(self, low: U64, high: U64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `_between`, by halves; in order, so that what one search reads is in the cache for the next."""
        order = np.argsort(low)
        first, last = np.empty((2, len(low)), np.int64)
        first[order] = np.searchsorted(self._entries, low[order])
        last[order] = np.searchsorted(self._entries, high[order], side="right")
        return first, last

    def _bytes(self, row: int, size: int | None = None) -> bytes | None:
        """The bytes of a row's key; None if they are not there, or are not `size` bytes."""
        start = int(self._places[row, 0])
        end = int(self._places[row + 1, 0]) if row + 1 < self.rows else self._size
        if not 0 <= start <= end <= self._size or size not in (None, end - start):
            return None
        return self._content[self._keys + start : self._keys + end]

    def _checked(self, rows: NDArray[np.int64], keys: list[str], marks: Mapping[int, int]) -> list[Found]:
        """The items of some rows [m], with these keys [m], whose check holds."""
        chunks = self.numbers[(np.searchsorted(self._starts, rows, side="right") - 1).clip(0)].tolist()
        known = np.array([chunk in marks for chunk in chunks], bool)
        of = np.array([marks.get(chunk, 0) for chunk in chunks], np.uint64)
        ids = self._ids[rows]
        holds = known & (hashes_of(array_of(keys, pa.string()), ids, of)[1] == self._places[rows, 1])
        found = zip(keys, ids.tolist(), chunks, holds.tolist(), strict=True)
        return [Found(key, id, chunk) for key, id, chunk, right in found if right]


def _text(content: bytes | None) -> str | None:
    """The text of some bytes; None if they are none."""
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        return None
