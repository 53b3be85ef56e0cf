"""Whether a source still is what a pool was made of.

There are three looks. The *fingerprint* knows names and sizes, and decides at once: another one is another source. The
*stamp* knows times, too: while it is the one that was remembered, the source is trusted. Where it is not, the
*contents* of what was embedded are read again, and compared with the digests in the commit records. So the vectors of
old and new contents are never in one pool, and a file that was only touched costs one reading.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

from raysal.embedding.base import Encoder
from raysal.embedding.batches import unit_contents
from raysal.embedding.precomputed import Precomputed
from raysal.embedding.recorded import (
    check_fields,
    encoder_fields,
    later_fields,
    places_of,
    recorded_places,
    source_fields,
    with_absolute_paths,
)
from raysal.errors import FingerprintMismatch, PoolError, SourceChanged, SourceError
from raysal.pool import Manifest
from raysal.pool.chunk import Chunk
from raysal.pool.contents import METHODS, algorithm_of, as_hex, unread_digest
from raysal.pool.generations import newest_generation, newest_source
from raysal.pool.layout import MANIFEST, read_records, read_stamp, write_stamp
from raysal.sources.base import Source, Stamped
from raysal.sources.begun import as_begun
from raysal.sources.keys import source_name
from raysal.sources.listed_once import forget_listings
from raysal.types import Stamp, Unit

Progress = Callable[[int, int], None]
"""Called with (items done, items in all)."""
ELSEWHERE = "embed into another directory"
TAKE_IN = (
    "take it in with `raysal embed`, restore it, or name another pool directory; to use the pool as it is, take "
    "`source` and `encoder` out of the config"
)
TICK_NS = 20_000_000
"""Longer than a tick of the clock by which a file system tells times: up to 10 ms on Linux before 6.13."""
NAMED_KEYS = 3
"""Keys of a chunk that an error names."""


def no_progress(done: int, total: int) -> None:
    """Report to nobody."""


def stamp_of(source: Source) -> Stamp | None:
    """The source's stamp as it is now; None if it gives none.

    A file that was written a moment ago could be written again within the same tick of the clock, and would look the
    same. So it waits until the tick is over, and looks again.

    Args:
        source: the source.

    Returns:
        The stamp. To write a file after this changes it.
    """
    if not isinstance(source, Stamped):
        return None
    stamp = source.stamp()
    age = time.time_ns() - stamp.newest_ns
    if 0 <= age < TICK_NS:
        time.sleep((TICK_NS - age) / 1e9)
        forget_listings()
        stamp = source.stamp()
    return stamp


def check_listing(pool: Path, manifest: Manifest, source: Source) -> None:
    """Refuse a source whose fingerprint is not the one that a pool was begun with.

    Args:
        pool: the pool directory, begun or not.
        manifest: what the pool shall hold.
        source: the source, for what changed.

    Raises:
        SourceChanged: it is another source; the error says in what.
        Damaged: the pool's manifest or a record was altered.
    """
    if not (pool / MANIFEST).exists():
        return
    begun = Manifest.read(pool)
    grown = newest_generation(pool) > 0  # and it is not of this source, or it would take in what is new
    if grown or begun.source["fingerprint"] != manifest.source["fingerprint"]:
        raise SourceChanged(pool, what_changed(pool, begun, source, manifest.source["fingerprint"]), ELSEWHERE)


def check_contents(
    pool: Path,
    begun: Manifest,
    records: Mapping[int, Mapping[str, Any]],
    source: Source,
    stamp: Stamp | None,
    report: Progress = no_progress,
    fix: str = ELSEWHERE,
    *,
    trusted: bool = True,
) -> int:
    """Make sure that a source has the contents that a pool's committed chunks were made of.

    It reads nothing while the stamp is the remembered one, and trusted. Otherwise it reads the items of all committed
    chunks, in this process: a few microseconds an item, and sha256.

    Args:
        pool: the pool directory.
        begun: its manifest.
        records: its commit records, by the index of the chunk.
        source: a source with the fingerprint that the pool was begun with.
        stamp: the source's stamp.
        report: called with (items read, items to read).
        fix: what an error says to do.
        trusted: whether files of the same sizes and times have the same contents.

    Returns:
        How many chunks were read again.

    Raises:
        SourceChanged: other contents; the error names the first chunk that has some.
        SourceError: the source does not give the items it listed.
        PoolError: the pool has no digests, and the source may have changed since it was begun.
    """
    known = read_stamp(pool)
    as_known = stamp is not None and known is not None and stamp.digest == known.digest
    if not records or (trusted and as_known):
        return 0
    methods = {record.get("contents", {}).get("algorithm") for record in records.values()}
    if None in methods:
        began = (pool / MANIFEST).stat().st_mtime_ns
        if stamp is None or (stamp.newest_ns > began and not stamp.by_content):
            problem = "a file of the source is newer than the pool" if stamp else "the source cannot tell its age"
            raise PoolError(pool, f"an older raysal kept no digests of its contents, and {problem}", fix)
        return 0
    if len(methods) > 1 or not methods <= {*METHODS}:
        raise PoolError(pool, f"its contents are known by another method than {' or '.join(METHODS)}", "update raysal")
    changed = _changed_chunk(begun, records, source, report)
    if changed is not None:
        raise SourceChanged(pool, _first_key(pool, begun, records, source) or [changed], fix)
    return len(records)


def remember(pool: Path, stamp: Stamp | None) -> None:
    """Keep the stamp of a source whose contents are known to be the pool's, so that it is trusted from now on."""
    known = read_stamp(pool)
    if stamp is not None and (known is None or known.digest != stamp.digest):
        write_stamp(pool, stamp)


def check_unchanged(source: Source, before: Stamp | None) -> None:
    """Refuse a source that is not as it was when the job began.

    Args:
        source: what was read.
        before: its stamp when the job began; None if it gives none, and then the next job compares contents.

    Raises:
        SourceError: a file was written, replaced or touched, or cannot be listed any more.
    """
    forget_listings()
    now = stamp_of(source)
    if before is None or now is None or now.digest == before.digest:
        return
    how = _files_changed(before, now) or "a file was written or replaced"
    fix = "run it again when nothing writes there: what is embedded is then compared with what is there"
    raise SourceError(source_name(source), f"changed while it was read: {how}", fix)


def check_origin(
    pool: Path, begun: Manifest, source: Source, encoder: Encoder, *, keep: bool = True, report: Progress = no_progress
) -> None:
    """Refuse a finished pool that was not made of this source by this encoder. Loads no weights.

    Names and fields are compared with the manifest. A source with other fields counts as the same where it exists and
    has the recorded fingerprint: it was moved. A source that exists is also looked at for changes, as in the embed job:
    it is trusted while its stamp is the remembered one, and read otherwise. Where it does not exist, only its paths may
    differ. A pool without digests (of an older raysal) stays what it was.

    Args:
        pool: the pool directory.
        begun: the manifest found there.
        source: the source that the caller names now.
        encoder: the encoder that the caller names now.
        keep: remember the source's stamp, if its contents were read and are the same.
        report: called with (items read, items to read) if contents are read.

    Raises:
        FingerprintMismatch: they differ; the error names the field.
        SourceChanged: the source is another one now, or has other contents.
    """
    fix = "name what the pool was made of, or another pool directory"
    if isinstance(encoder, Precomputed) and encoder.dim == 0:
        encoder = dataclasses.replace(encoder, dim=begun.dim)
    check_fields(pool, "encoder", begun.encoder, *encoder_fields(encoder), fix, later_fields(encoder))
    source = with_absolute_paths(source)
    if source_fields(source)[0] == begun.source["name"]:
        source = as_begun(source, begun.source.get("config", {}))
    name, fields = source_fields(source)
    moved = None
    try:
        check_fields(pool, "source", begun.source, name, fields, fix)
    except FingerprintMismatch as error:
        if name != begun.source["name"]:
            raise
        moved = error
    records = read_records(pool, begun)
    older = any("contents" not in record for record in records.values())
    if older and moved is None:
        return
    try:
        stamp, known = stamp_of(source), read_stamp(pool)
        if moved is None and stamp is not None and known is not None and stamp.digest == known.digest:
            return
        found = source.fingerprint()
    except SourceError:
        places = places_of(source)
        fields = {field: value for field, value in fields.items() if field not in places}
        check_fields(pool, "source", begun.source, name, fields, fix)
        return
    fix = TAKE_IN
    if found != begun.source["fingerprint"]:
        raise SourceChanged(pool, what_changed(pool, begun, source, found), fix)
    if not older and check_contents(pool, begun, records, source, stamp, report, fix) and keep:
        with suppress(OSError):  # to others, a pool may be there to read
            remember(pool, stamp)


def what_changed(pool: Path, begun: Manifest, source: Source, found: str) -> list[str]:
    """In what a source differs from the one that a pool was begun with.

    Args:
        pool: the pool directory.
        begun: its manifest.
        source: a source with another fingerprint.
        found: that fingerprint.

    Returns:
        What is known, in words: a field, the number or size of the files, the number of items, the first key that
        differs. If none of these does, the first chunk whose contents do.
    """
    name, fields = source_fields(source)
    if name != begun.source["name"]:
        return [f"it is {name}, was {begun.source['name']}"]
    recorded, places = newest_source(pool).get("config", {}), places_of(source)
    changes = [
        f"its {field} is {value}, was {recorded[field]}"
        for field, value in json.loads(json.dumps(fields)).items()
        if field in recorded and recorded[field] != value and field not in places
    ]
    if "also" in recorded and (left := recorded_places(recorded) - recorded_places(json.loads(json.dumps(fields)))):
        changes.append(f"{', '.join(sorted(left))} is not named")
    known, stamp = read_stamp(pool), stamp_of(source)
    if known is not None and stamp is not None and (files := _files_changed(known, stamp)) is not None:
        changes.append(files)
    if newest_generation(pool):  # its items are no longer those of the listing that it was begun with
        return changes or [f"its fingerprint is {found[:16]}, was {begun.source['fingerprint'][:16]}"]
    items = sum(len(unit.keys) for unit in source.units(begun.chunk_rows))
    if items != begun.items and (stamp is None or stamp.files != items):
        changes.append(f"{_count(items, 'item')}, was {begun.items:,}")
    records = read_records(pool, begun)
    with suppress(PoolError):
        changes += _first_key(pool, begun, records, source)
    if not changes and all(record.get("contents", {}).get("algorithm") in METHODS for record in records.values()):
        changes = [changed] if (changed := _changed_chunk(begun, records, source, no_progress)) else []
    return changes or [f"its fingerprint is {found[:16]}, was {begun.source['fingerprint'][:16]}"]


def _changed_chunk(
    begun: Manifest, records: Mapping[int, Mapping[str, Any]], source: Source, report: Progress
) -> str | None:
    """The first committed chunk whose contents are not those of its record, in words; None if there is none."""
    total = sum(record["rows"] + record["quarantined"] for record in records.values())
    done, method = 0, algorithm_of(records.values(), "")
    report(done, total)
    for unit in source.units(begun.chunk_rows):
        if unit.index not in records:
            continue
        expected = records[unit.index]["contents"]["items"]
        found = unit_contents(source, unit, method, begun.dim)
        # Of a chunk that was given up nothing is known, and nothing is in the pool.
        if expected not in (as_hex(found), as_hex(unread_digest(unit.first_id, unit.keys, method))):
            return f"the contents of chunk {unit.index} ({_named(unit)}) are not those that were embedded"
        done += len(unit.keys)
        report(done, total)
    return None


def _first_key(pool: Path, begun: Manifest, records: Mapping[int, Mapping[str, Any]], source: Source) -> list[str]:
    """The first item whose key in the listing is not the one in the pool, in words; nothing if there is none."""
    last = -1
    for unit in source.units(begun.chunk_rows):
        last = unit.index
        if unit.index in records:
            kept = _kept_keys(pool, begun, records[unit.index])
            for id in sorted({*kept, *range(unit.first_id, unit.first_id + len(unit.keys))}):
                place = id - unit.first_id
                new = unit.keys[place] if place < len(unit.keys) else None
                if new != kept.get(id):
                    return [_key_changed(id, kept.get(id), new)]
        elif unit.index >= begun.chunks:
            return [_key_changed(unit.first_id, None, unit.keys[0])]
    lost = [record for index, record in sorted(records.items()) if index > last]
    if lost and (kept := _kept_keys(pool, begun, lost[0])):
        return [_key_changed(min(kept), kept[min(kept)], None)]
    return []


def _kept_keys(pool: Path, begun: Manifest, record: Mapping[str, Any]) -> dict[int, str]:
    """{id: key} of a chunk's items, quarantined ones included."""
    chunk = Chunk.of(pool, record, begun.dim)
    tables = [chunk.items(["id", "key"]), chunk.quarantine()]
    pairs = (zip(table["id"].to_pylist(), table["key"].to_pylist(), strict=True) for table in tables)
    return dict(chain.from_iterable(pairs))


def _key_changed(id: int, old: str | None, new: str | None) -> str:
    if old is None:
        return f"item {id} ({new!r}) is new"
    return f"item {id} ({old!r}) is gone" if new is None else f"item {id} is {new!r}, was {old!r}"


def _files_changed(before: Stamp, now: Stamp) -> str | None:
    """The number of files or their size, if it changed, in words."""
    if now.files != before.files:
        return f"{_count(now.files, 'file')}, was {before.files:,}"
    return f"{_count(now.bytes, 'byte')}, was {before.bytes:,}" if now.bytes != before.bytes else None


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)


def _named(unit: Unit) -> str:
    """The first keys of a unit."""
    named = ", ".join(repr(key) for key in islice(unit.keys, NAMED_KEYS))
    return named + (", ..." if len(unit.keys) > NAMED_KEYS else "")
