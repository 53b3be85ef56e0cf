"""A finished pool takes in what is new or changed in its source, as its next generation.

What is new is embedded behind what is there, so that no id changes. An item whose file changed gets a new id, and a
link from the old one; where its vector and its columns are what they were, it keeps the old id. Items that are gone
from the source stay (`raysal.embedding.missing` takes them out). Until the last of its chunks is committed, readers see
the generation before; a growth that was interrupted is finished before another one begins.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.base import Encoder
from raysal.embedding.changes import (
    FILES,
    Changes,
    FileSource,
    FirstSpans,
    add_spans,
    find_changes,
    is_single,
    unchanged_ids,
)
from raysal.embedding.file_hashes import FileHashes, hashed
from raysal.embedding.left_behind import files_left_behind
from raysal.embedding.moves import Met, OwnersThere
from raysal.embedding.origin import Progress, check_contents, remember
from raysal.embedding.recorded import recorded_places, source_fields, source_record
from raysal.embedding.sample import rounding_for
from raysal.embedding.working import Work, commit_units
from raysal.errors import SourceChanged
from raysal.pool import Pool, PoolWriter
from raysal.pool.generations import newest_generation, newest_source
from raysal.pool.growth import BEGUN, Begun, clear_chunks, discard, planned_files, read_begun
from raysal.pool.key_index import extend_all
from raysal.pool.layout import MANIFEST, Manifest, mark_changed, read_stamp
from raysal.pool.place import files_of
from raysal.pool.removing import kept_out
from raysal.pool.taken_files import KNOWN_BEFORE, KnownFiles, TakenFile, files_in, files_name, read_files, write_files
from raysal.pool.taking_in import known_ids, take_in
from raysal.sources.base import AS_BEGUN, OfFiles, Source
from raysal.sources.keys import check_keys, source_name
from raysal.types import Check, Stamp, Unit

FINISH = "embed again: what is there by then is taken in"


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What became of a pool."""

    pool: Pool
    """of the newest generation"""
    embedded: int = 0
    """items that this job embedded"""
    added: int = 0
    """items that are new in the pool"""
    replaced: int = 0
    """items that changed, and that new ones stand for"""
    gone: int = 0
    """files that the pool took in and that are not in the source any more, and whose items no other file has"""
    items: int = 0
    """items that came, quarantined ones included"""
    quarantined: int = 0
    """of them"""
    chunks: int = 0
    """chunks that this job committed"""
    checked: int = 0
    """chunks committed before whose items were read again, because their files changed"""
    seconds: float = 0.0


def can_grow(pool: Path, source: Source) -> bool:
    """Whether a pool takes in more from a source: it is finished, and the source is the one that it came from.

    Args:
        pool: the directory.
        source: as the caller names it, with the fields that the pool was begun with.

    Returns:
        Whether it is so. If not, the job goes on as it was begun, or refuses the source.
    """
    if not (pool / MANIFEST).exists() or not isinstance(source, OfFiles):
        return False
    manifest = Manifest.read(pool)
    if not newest_generation(pool) and sum(1 for _ in (pool / "commits").glob("*.json")) < manifest.chunks:
        return False
    name, fields = source_fields(source)
    begun = newest_source(pool)
    older = {one.name: one.metadata[AS_BEGUN] for one in dataclasses.fields(source) if AS_BEGUN in one.metadata}  # type: ignore[arg-type]
    recorded, fields = json.loads(json.dumps(older)) | dict(begun.get("config", {})), json.loads(json.dumps(fields))
    if not recorded_places(recorded) <= recorded_places(fields):
        moved = newest_generation(pool) and name == begun["name"] and source.fingerprint() == begun["fingerprint"]
        return bool(moved)
    same = all(recorded.get(field) == value for field, value in fields.items() if field not in ("path", "also"))
    return bool(name == manifest.source["name"] and same)


def grow(
    out: Path,
    source: FileSource,
    encoder: Encoder,
    stamp: Stamp | None,
    work: Work,
    report: Progress,
    checking: Progress,
    check: Check = "fast",
) -> Growth:
    """Take in what is new or changed. The pool is locked, and was made by this encoder.

    Args:
        out: the pool directory.
        source: its source.
        encoder: the one that made its vectors.
        stamp: of the source, taken before it is listed.
        work: how units are embedded.
        report: called with (items done, items to do).
        checking: called with (items read, items to read) while items are compared with the source, and with (files
            read, 0) while these are hashed.
        check: how changed files are found.

    Returns:
        What became of the pool.

    Raises:
        DuplicateKeys: a new file repeats a key, or has one of a file that did not change.
        PoolError: there are new or changed parts of an owner that is there.
        SourceError: the source cannot be listed.
        SourceChanged: its files changed while they were listed.
    """
    begun, known_stamp = read_begun(out), read_stamp(out)
    if begun is None:
        files_of(out).delete([BEGUN])
    by_times = begun is None and check == "fast"
    if by_times and stamp is not None and known_stamp is not None and stamp.digest == known_stamp.digest:
        return Growth(pool=Pool(out))
    if by_times and (checked := _is_as_it_was(out, source, stamp, checking)) is not None:
        remember(out, stamp)
        return Growth(pool=Pool(out), checked=checked)
    done = []
    if begun is not None and not begun.single and _has_changed(out, source, begun, check):
        discard(out, begun)
    elif begun is not None:
        done.append(_finish(out, source, encoder, begun, work, report))
    pool = Pool(out)
    # Each unit asks for its keys: a pool of an older raysal has no index yet.
    extend_all(out, pool.chunks, pool.records)
    known = KnownFiles(out, pool.generation)
    hashes = FileHashes(out, known, checking) if check == "hash" else None
    changes = find_changes(pool, source, known, hashes)
    kept_ids, read = unchanged_ids(pool, source, [file.name for file in changes.files if file.name in changes.changed])
    planned, met = _plan(pool, source, known, changes, kept_ids, hashes)
    gone = files_left_behind(pool, known, met)
    if planned is not None:
        done.append(_finish(out, source, encoder, planned, work, report))
    if done:
        extend_all(out, done[-1].pool.chunks, done[-1].pool.records)
    if hashes is not None and planned is None:
        hashes.write(out)
    remember(out, stamp)
    return Growth(
        pool=done[-1].pool if done else pool,
        embedded=sum(one.embedded for one in done),
        added=sum(one.added for one in done),
        replaced=sum(one.replaced for one in done),
        gone=gone,
        checked=read,
        items=sum(one.items for one in done),
        quarantined=sum(one.quarantined for one in done),
        chunks=sum(one.chunks for one in done),
        seconds=sum(one.seconds for one in done),
    )


def _is_as_it_was(out: Path, source: FileSource, stamp: Stamp | None, checking: Progress) -> int | None:
    """Whether files of a pool that never changed were only touched: how many chunks were read again for that."""
    if newest_generation(out):
        return None
    pool = Pool(out)
    known = all("contents" in record for record in pool.records)
    if not known or source.fingerprint() != pool.manifest.source["fingerprint"]:
        return None
    touched = {file.name: file for file in find_changes(pool, source, KnownFiles(out, 0)).files}
    try:
        checked = check_contents(out, pool.manifest, dict(enumerate(pool.records)), source, stamp, checking)
    except SourceChanged:
        return None
    if files_of(out).has(files_name(0)):
        spans = FirstSpans(source)  # the same items in the same order may lie in the files in another way
        for unit in source.units(pool.manifest.chunk_rows):
            spans.look(unit)
        before = list(chain.from_iterable(map(files_in, read_files(out, 0))))
        known = any(digest is not None for _, digest in before)
        spans.write(out, ((touched.get(file.name, file), digest) for file, digest in before), hashed=known)
    return checked


def _has_changed(out: Path, source: FileSource, begun: Begun, check: Check) -> bool:
    """Whether a file of a growth is not what it was when the growth was begun."""
    planned = {file.name: (file, digest) for file, digest in planned_files(out, begun)[1]}
    now = [file for file in source.files() if file.name in planned]
    if len(now) < len(planned) or any(planned[file.name][0] != file for file in now):
        return True
    if check == "fast":
        return False
    return any(digest != planned[file.name][1] for file, digest in hashed(now))


class _Listing:
    """The items of some files of a source, as `check_keys` takes them."""

    def __init__(self, source: FileSource, names: list[str]) -> None:
        self.source, self.names = source, names
        self.path = source_name(source)

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        return self.source.units_in(self.names, chunk_rows)


def _plan(
    pool: Pool,
    source: FileSource,
    known: KnownFiles,
    changes: Changes,
    kept_ids: NDArray[np.int64],
    hashes: FileHashes | None,
) -> tuple[Begun | None, NDArray[np.int64]]:
    """Decide which items come under which ids, and begin: what was begun, and `Met.runs`. `kept_ids` stay."""
    no_runs = np.empty((0, 2), np.int64)
    files = changes.files
    before = list(changes.as_before)
    single = _is_single(source, [file.name for file in files], pool.manifest.chunk_rows)
    if single and len(kept_ids):  # those that were only touched are not listed
        old = known_ids(pool, [file.name for file in files if file.name in changes.changed])
        touched = {name for name, id in old.items() if _is_in(kept_ids, id)}
        before += [file for file in files if file.name in touched]
        files = [file for file in files if file.name not in touched]
    if not files:
        return None, no_runs
    names = [file.name for file in files]
    rows = pool.manifest.chunk_rows
    if next(iter(source.units_in(names, rows)), None) is None:
        return None, no_runs
    check_keys(_Listing(source, names), rows)  # type: ignore[arg-type]
    first_id = pool.manifest.items if pool.changed is None else pool.changed.next_id
    first_chunk = pool.manifest.chunks if pool.changed is None else pool.changed.next_chunk
    met, owners, out = Met(source, known, names, rows), OwnersThere(pool), kept_out(pool)
    spans: dict[str, tuple[int, int]] = {}
    kept: list[list[int]] = []
    items = chunks = 0
    for unit in source.units_in(names, rows):
        old = known_ids(pool, unit.keys)
        met.look(unit, old)
        as_they_were = {key for key in unit.keys if key in out or (key in old and _is_in(kept_ids, old[key]))}
        if len(as_they_were) == len(unit.keys):
            continue
        owners.check(unit, old, as_they_were)
        add_spans(spans, source, unit, first_id + items)
        items, chunks = items + len(unit.keys), chunks + 1
        if kept and kept[-1][1] == unit.index:
            kept[-1][1] += 1
        else:
            kept.append([unit.index, unit.index + 1])
    if not chunks:
        return None, met.runs
    came = ((file, *spans.get(file.name, (0, 0))) for file in files)
    taken = chain(
        (TakenFile(file=file, first_id=first, items=count) for file, first, count in came),
        met.taken(files),
        (TakenFile(file=file, first_id=KNOWN_BEFORE, items=0) for file in before),
    )
    number = pool.generation + 1
    mark_changed(pool.path)
    begun = Begun(
        number=number,
        first_chunk=first_chunk,
        first_id=first_id,
        chunks=chunks,
        items=items,
        chunk_rows=rows,
        files=write_files(pool.path, number, _with_digests(taken, hashes), hashed=hashes is not None),
        kept=kept,
        single=single,
        source=source_record(source),
    )
    clear_chunks(pool.path, begun.range)  # of a compaction that was stopped
    begun.write(pool.path)
    return begun, met.runs


def _with_digests(taken: Iterable[TakenFile], hashes: FileHashes | None) -> Iterator[TakenFile]:
    """Files with what was found of their bytes, if they were hashed."""
    stream = iter(taken)
    while some := list(islice(stream, FILES)):
        found = [None] * len(some) if hashes is None else hashes.digests([one.file for one in some])
        yield from (replace(one, sha256=digest) for one, digest in zip(some, found, strict=True))


def _is_single(source: FileSource, names: list[str], chunk_rows: int) -> bool:
    """Whether each of these files is one item, which has its name for a key."""
    some = list(islice(source.units_in(names, max(len(names) + 1, chunk_rows)), 1)) if names else []
    return bool(some) and len(some[0].keys) == len(names) and is_single(source, some[0])


def _is_in(ids: NDArray[np.int64], id: int) -> bool:
    """Whether ascending ids have one."""
    place = int(np.searchsorted(ids, id))
    return place < len(ids) and int(ids[place]) == id


def _finish(
    out: Path,
    source: FileSource,
    encoder: Encoder,
    begun: Begun,
    work: Work,
    report: Progress,
) -> Growth:
    """Embed what is left of a growth, and let it be the newest generation."""
    pool = Pool(out)
    writer = PoolWriter(out, Manifest.read(out), begun.range)
    resumed = len(writer.committed)
    already = _items_of(writer)
    report(already, begun.items)
    started = time.perf_counter()
    names = planned_files(out, begun)[0]
    units = (unit for unit in _units(source, names, begun) if unit.index not in writer.committed)
    rounding = rounding_for(source, encoder, writer.manifest.scale)
    commit_units(units, source, encoder, writer, rounding, work, lambda: report(_items_of(writer), begun.items))
    if len(writer.committed) != begun.chunks or _items_of(writer) != begun.items:
        discard(out, begun)
        raise SourceChanged(out, [f"{_items_of(writer):,} items where {begun.items:,} were listed"], FINISH)
    generation, added = take_in(pool, begun, writer.committed)
    return Growth(
        pool=Pool(out),
        embedded=begun.items - already,
        added=added,
        replaced=0 if generation.replaced is None else int(generation.replaced["ids"]),
        items=begun.items,
        quarantined=sum(record["quarantined"] for record in writer.committed.values()),
        chunks=begun.chunks - resumed,
        seconds=time.perf_counter() - started,
    )


def _units(source: FileSource, names: list[str], begun: Begun) -> Iterator[Unit]:
    """The units of a growth under the numbers and ids that they have in the pool."""
    index, first_id = begun.first_chunk, begun.first_id
    for unit in source.units_in(names, begun.chunk_rows):
        if any(first <= unit.index < stop for first, stop in begun.kept):
            yield replace(unit, index=index, first_id=first_id)
            index, first_id = index + 1, first_id + len(unit.keys)


def _items_of(writer: PoolWriter) -> int:
    """Items of the committed chunks, with the quarantined ones."""
    return sum(record["rows"] + record["quarantined"] for record in writer.committed.values())
