"""What is new or changed in a source since a pool took it in: files by sizes and times, then items by contents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.embedding.base import Encoder
from raysal.embedding.batches import checked_columns, unit_contents
from raysal.embedding.file_hashes import FileHashes
from raysal.embedding.origin import TAKE_IN, stamp_of
from raysal.embedding.precomputed import Precomputed
from raysal.embedding.recorded import check_fields, encoder_fields, later_fields, source_fields, with_absolute_paths
from raysal.embedding.rounding import Rounding
from raysal.errors import SourceChanged, SourceError
from raysal.pool import Pool
from raysal.pool.chunk import Chunk
from raysal.pool.contents import ALGORITHM, METHODS, as_hex, item_digest
from raysal.pool.generations import NO_ROW
from raysal.pool.layout import MANIFEST, read_stamp
from raysal.pool.taken_files import KnownFiles, TakenFile, write_files
from raysal.pool.taking_in import known_ids, same_rows, stored_rows
from raysal.sources.base import OfFiles, Source
from raysal.sources.begun import as_begun
from raysal.types import OWNER_KEY, SourceFile, Unit

FILES = 1 << 14
"""Files that are compared at a time."""


class FileSource(Source, OfFiles, Protocol):
    """A source whose items lie in files."""


def is_single(source: OfFiles, unit: Unit) -> bool:
    """Whether each item of a unit is a file of its own, and has its name for a key."""
    return all(count == 1 and name == key for (name, count), key in zip(source.spans(unit), unit.keys, strict=False))


class FirstSpans:
    """Which ids the items of each file have in a pool that is begun, for the table of its files.

    Memory for a few numbers where each file is one item, otherwise for each file.
    """

    def __init__(self, source: Source) -> None:
        """`source` may have no files: then there is no table."""
        self._source = source if isinstance(source, OfFiles) else None
        self._single = True
        self._spans: dict[str, tuple[int, int]] = {}

    def look(self, unit: Unit) -> None:
        """Take one unit more, in order."""
        if self._source is None:
            return
        if unit.index == 0:
            self._single = is_single(self._source, unit)
        if not self._single:
            add_spans(self._spans, self._source, unit, unit.first_id)

    def write(self, pool: Path, files: Iterable[tuple[SourceFile, bytes | None]], *, hashed: bool = False) -> None:
        """Write the table of generation 0.

        Args:
            pool: the directory.
            files: of the source, with their digests if they are `hashed`; looked at before any item is read.
            hashed: whether their digests are kept.
        """
        if self._source is not None:
            write_files(pool, 0, self._taken(files), hashed=hashed)

    def _taken(self, files: Iterable[tuple[SourceFile, bytes | None]]) -> Iterator[TakenFile]:
        for place, (file, digest) in enumerate(files):
            first, items = (place, 1) if self._single else self._spans.get(file.name, (0, 0))
            yield TakenFile(file=file, first_id=first, items=items, sha256=digest)


def add_spans(spans: dict[str, tuple[int, int]], source: OfFiles, unit: Unit, first_id: int) -> None:
    """Add which ids the items of a unit's files have: {name: (the first one, how many)}."""
    for name, count in source.spans(unit):
        first, had = spans.get(name, (first_id, 0))
        spans[name] = first, had + count
        first_id += count


@dataclass(kw_only=True)
class Changes:
    """In what a source differs from what a pool took in."""

    files: list[SourceFile] = field(default_factory=list)
    """Those that the pool has not taken in as they are, in order of the listing."""
    changed: set[str] = field(default_factory=set)
    """The names of those among them that it took in as they were; the others are new."""
    as_before: list[SourceFile] = field(default_factory=list)
    """Files whose items the pool has, and of which it does not know size and time."""


def find_changes(pool: Pool, source: FileSource, known: KnownFiles, hashes: FileHashes | None = None) -> Changes:
    """Compare the files of a source with those that a pool took in.

    It costs a `stat` for each; with `hashes` a reading.

    Args:
        pool: the pool.
        source: its source.
        known: the files that the pool took in.
        hashes: those that are recorded; None to compare sizes and times.

    Returns:
        The changes.

    Raises:
        SourceError: the source cannot be listed.
    """
    found = Changes()
    for some in _in_batches(source.files(), FILES):
        places, same = known.look(some)
        if hashes is not None:
            some, same = hashes.same(some, places)
        new = {file.name for file, place in zip(some, places, strict=True) if place < 0}
        had = set() if known.complete or not new else _had_before(pool, source, [f for f in some if f.name in new])
        if hashes is not None:  # they may have other contents
            new, had = new - had, set()
        found.as_before += [file for file in some if file.name in had]
        found.files += [file for file, one in zip(some, same, strict=True) if not one and file.name not in had]
        found.changed |= {file.name for file, one in zip(some, same, strict=True) if not one and file.name not in new}
    return found


def check_changed_pool(pool: Pool, source: Source, encoder: Encoder) -> None:
    """Refuse a pool that changed since it was made, and that is not of this source and encoder. Loads no weights.

    Args:
        pool: the pool, of a generation after the first.
        source: the source that the caller names now; one that is not there is no reason to refuse.
        encoder: the encoder that the caller names now.

    Raises:
        FingerprintMismatch: they differ; the error names the field.
        SourceChanged: the source has files that the pool has not taken in.
    """
    if isinstance(encoder, Precomputed) and encoder.dim == 0:
        encoder = replace(encoder, dim=pool.dim)
    fix = "name what the pool was made of, or another pool directory"
    check_fields(pool.path, "encoder", pool.manifest.encoder, *encoder_fields(encoder), fix, later_fields(encoder))
    source = with_absolute_paths(source)
    if source_fields(source)[0] == pool.manifest.source["name"]:
        source = as_begun(source, pool.manifest.source.get("config", {}))
    check_fields(pool.path, "source", pool.manifest.source, *source_fields(source), fix)
    with suppress(SourceError):
        check_taken_in(pool, source, TAKE_IN)


def check_taken_in(pool: Pool, source: Source, fix: str) -> None:
    """Refuse a source that has files which a pool has not taken in as they are. It costs a `stat` for each.

    Args:
        pool: the pool.
        source: its source.
        fix: what an error says to do.

    Raises:
        SourceChanged: files of it are new or changed.
        SourceError: it cannot be listed.
    """
    if not isinstance(source, OfFiles):
        return
    found = find_changes(pool, cast(FileSource, source), KnownFiles(pool.path, pool.generation))
    counts = {"new": len(found.files) - len(found.changed), "changed": len(found.changed)}
    said = [f"{count:,} {what} file{'s' * (count != 1)}" for what, count in counts.items() if count]
    if said and not _is_remembered(pool, source):
        raise SourceChanged(pool.path, said, fix)


def _is_remembered(pool: Pool, source: Source) -> bool:
    """Whether an embed job looked at the source as it is: files that were only touched are as they were."""
    stamp, known = stamp_of(source), read_stamp(pool.path)
    return stamp is not None and known is not None and stamp.digest == known.digest


def _had_before(pool: Pool, source: FileSource, files: Sequence[SourceFile]) -> set[str]:
    """Of a pool that does not know its files: those that are older than it, and of which it has every key."""
    made = (pool.path / MANIFEST).stat().st_mtime_ns
    old = [file.name for file in files if file.changed_ns <= made]
    had, lacking = set(old), set()
    for unit in source.units_in(old, pool.manifest.chunk_rows):
        there = known_ids(pool, unit.keys)
        start = 0
        for name, count in source.spans(unit):
            if any(key not in there for key in unit.keys[start : start + count]):
                lacking.add(name)
            start += count
    return had - lacking


def unchanged_ids(pool: Pool, source: FileSource, changed: Sequence[str]) -> tuple[NDArray[np.int64], int]:
    """Items of changed files that are what they were.

    Of pictures and texts, the digests of all items of their chunks say so: nothing is decoded and no model runs, and it
    costs one reading of these files, and of the others of their chunks where each file is one item. Ready vectors are
    compared with those of the pool.

    Args:
        pool: the pool.
        source: its source.
        changed: names of files with another size or time than they had, in order of the listing.

    Returns:
        The ids, int64, ascending; and how many chunks were read again.

    Raises:
        SourceError: the source does not give the items it listed.
    """
    if not changed:
        return np.empty(0, np.int64), 0
    if source.modality == "vector":
        parts = [_same_vectors(pool, source, unit) for unit in source.units_in(changed, pool.manifest.chunk_rows)]
        return np.sort(np.concatenate([np.empty(0, np.int64), *parts])), len(parts)
    firsts = np.array([record["first_id"] for record in pool.records], np.int64)
    total: dict[int, int] = {}
    count: dict[int, int] = {}
    single = False
    gone = _removed_ids(pool)
    for unit in source.units_in(changed, pool.manifest.chunk_rows):
        if single := is_single(source, unit):
            break
        ids = {key: gone[key] for key in unit.keys if key in gone} | known_ids(pool, unit.keys)
        for item in source.read(unit):
            if (id := ids.get(item.key)) is not None:
                place = int(np.searchsorted(firsts, id, "right")) - 1
                total[place] = total.get(place, 0) + item_digest(id, item)
                count[place] = count.get(place, 0) + 1
    same: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    read = len(total)
    if single:
        touched = np.array(list(known_ids(pool, changed).values()), np.int64)
        places = np.unique(np.searchsorted(firsts, touched, "right") - 1).tolist()
        read = len(places)
        for place in places:
            ids_of_chunk, keys = _listing_of(pool, place)
            record = pool.records[place]
            if len(ids_of_chunk) and _is_same(record, _read_again(source, pool, ids_of_chunk, keys, record)):
                same.append(ids_of_chunk)
    else:
        for place, sum_ in total.items():
            record = pool.records[place]
            if count[place] == record["rows"] + record["quarantined"] and _is_same(record, sum_):
                same.append(_listing_of(pool, place)[0])
    return np.sort(np.concatenate(same)), read


def _same_vectors(pool: Pool, source: FileSource, unit: Unit) -> NDArray[np.int64]:
    """The ids of the items of a unit whose vectors and columns the pool has, to the bit; or that have none again."""
    ids = known_ids(pool, unit.keys)
    stored = stored_rows(pool, np.array(sorted(ids.values()), np.int64))
    rounding, same = Rounding(scale=pool.scale), []
    for first_id, columns in checked_columns(source, unit, pool.dim):
        halves, bad = rounding.halves(columns.keys, columns.vectors)
        new = {key: (row, stored[ids[key]]) for row, key in enumerate(columns.keys)
               if key in ids and row not in bad and row not in columns.odd}  # fmt: skip
        carried = {
            name: list(values) if not isinstance(values, pa.Array) else values.to_pylist()
            for name, values in columns.carried.items()
        }
        if unit.owners is not None:
            first = first_id - unit.first_id
            carried[OWNER_KEY] = unit.owners[first : first + len(columns.keys)]
        same += [ids[key] for key in same_rows(pool, halves, carried, new)]
        lost = (key for row, key in enumerate(columns.keys) if key in ids and (row in bad or row in columns.odd))
        same += [ids[key] for key in lost if stored[ids[key]][1] == NO_ROW]  # quarantined as before
    return np.array(same, np.int64)


def _is_same(record: Any, total: int) -> bool:
    """Whether the items of a chunk have the digest in its commit record."""
    contents = record.get("contents", {})
    return bool(contents.get("algorithm") == ALGORITHM and contents["items"] == as_hex(total))


def _listing_of(pool: Pool, place: int) -> tuple[NDArray[np.int64], list[str]]:
    """Ids and keys of all items that a chunk was made of, also of quarantined and removed ones."""
    chunk = Chunk.of(pool.path, pool.records[place], pool.dim)
    tables = chunk.items(["id", "key"]), chunk.quarantine().select(["id", "key"])
    pairs = sorted(
        pair for table in tables for pair in zip(table["id"].to_pylist(), table["key"].to_pylist(), strict=True)
    )
    return np.array([id for id, _ in pairs], np.int64), [key for _, key in pairs]


def _removed_ids(pool: Pool) -> dict[str, int]:
    """The ids of items that chunks hold and the pool lacks, by key, the last one of each. Memory for these keys."""
    found: dict[str, int] = {}
    for place, chunk in enumerate(pool.chunks):
        if chunk.removed is not None:
            ids, keys = _listing_of(pool, place)
            is_gone = np.isin(ids, chunk.removed.ids).tolist()
            found |= {key: id for id, key, one in zip(ids.tolist(), keys, is_gone, strict=True) if one}
    return found


def _read_again(source: FileSource, pool: Pool, ids: NDArray[np.int64], keys: Sequence[str], record: Any) -> int:
    """The digest of items of single files, as they are now; -1 where their ids do not follow each other."""
    if ids[-1] - ids[0] + 1 != len(ids) or record.get("contents", {}).get("algorithm") not in METHODS:
        return -1
    unit = Unit(index=0, first_id=int(ids[0]), keys=tuple(keys))
    return unit_contents(source, unit, record["contents"]["algorithm"], pool.dim)


def _in_batches(files: Iterable[SourceFile], size: int) -> Iterator[list[SourceFile]]:
    stream = iter(files)
    while some := list(islice(stream, size)):
        yield some
