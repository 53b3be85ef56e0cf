"""The export job: chosen items with their media, shard by shard. An interrupted job is resumed.

A shard ends after so many items, or before the item whose media would make it too large. So where a shard begins
depends on all before it; the record of each says how many items it took. The files depend on pool, choice, options and
media alone. Memory: an item, and what is noted of a shard; of Parquet a row group; and the ids that are chosen.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.arrow_values import array_of, numbers_of, taken
from raysal.buckets import is_url
from raysal.commits import Parts, Staged, stage_file
from raysal.errors import BadItem, ConfigError, MediaLost
from raysal.exporting.base import Entry, Noted, Shard, index_table
from raysal.exporting.chosen import Chosen
from raysal.exporting.destination import InBucket, OnDisk
from raysal.exporting.finish import Totals, finish
from raysal.exporting.folders import JOURNAL, FileShard, take_away_begun
from raysal.exporting.lance_table import lance_shard, uncompressed
from raysal.exporting.layout import DATA, INDEX, WORK, Plan, begin, committed_parts
from raysal.exporting.media import MediaReader
from raysal.exporting.options import WITH_VECTORS, Options
from raysal.exporting.tables import FILE, CsvShard, parquet_shard, table_schema
from raysal.exporting.tar import TarShard
from raysal.pool.given import export_type, in_given_units
from raysal.sources.base import Source
from raysal.sources.folder import Folder
from raysal.store import remove_temporaries
from raysal.types import Report, no_report

NAMED = 100
"""Lost items that a report names."""
ROWS = 256
"""Items whose columns are taken out of a chunk at a time."""
Row = tuple[Entry, BadItem | None]


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What a job did."""

    out: str
    form: str
    """of `raysal.exporting.FORMS`"""
    items: int
    """that were chosen"""
    exported: int
    """of them"""
    lost: int
    """of them, without media; `lost.csv` names them"""
    shards: int
    bytes: int
    """of the media"""
    resumed: int
    """shards that were there"""
    made: bool
    """whether there was anything to do"""
    left_out: dict[str, int] = field(default_factory=dict)
    """{state: items of the run} that have an answer and were not chosen: disputed, or absent from the pool"""


def export_pool(
    chosen: Chosen,
    out: Path | str,
    options: Options,
    *,
    source: Source | None = None,
    max_lost: float = 0.0,
    report: Report | None = None,
) -> ExportReport:
    """Write chosen items of a pool into a directory, go on with an export that was interrupted, or find it there.

    Cost: one reading of the pool's items, and of the media that are chosen.

    Args:
        chosen: the items.
        out: the directory to make or to finish, or a URL in a bucket.
        options: the form, and how it is cut.
        source: where the media are; needed for forms with media.
        max_lost: share of the items, in [0, 1], that may lack their media.
        report: called with (`export`, items done, items in all).

    Returns:
        What the job did.

    Raises:
        MediaLost: more than `max_lost` of the items have no media. The rest is there.
        RunError: the directory was begun with other arguments, or another process is at work on it.
        PoolError: the directory holds something else.
        ConfigError: the options do not go with the pool or the form.
        UnknownName: there is no such form.
        MissingExtra: lance is asked for, and not installed.
        SourceError: the source cannot be listed, or was written while it was read.
        Damaged: a file in the directory is not as it was written.
        OSError: the disk is full; to run it again goes on.
    """
    pool, report = chosen.pool, report or no_report
    destination = InBucket(out) if isinstance(out, str) else OnDisk(out.absolute())
    out = destination.directory
    if not 0 <= max_lost <= 1:
        raise ConfigError("max_lost", f"{max_lost} is not a share", "use a number from 0 to 1")
    options.check(pool)
    check_labels(chosen, options)
    has_files = isinstance(source, Folder) and not is_url(source.path)
    if options.form == "links" and not options.copy and not has_files:
        problem = "its items are no files of their own, to which links could lead"
        raise ConfigError(pool.path, problem, "add --copy (Python: copy=True) for a file of each")
    plan = Plan(pool=pool.fingerprint, choice=chosen.record, options=options.record(), items=chosen.count)
    resumed = 0
    with destination.writing(options):
        made = not begin(out, plan, destination.place)
        destination.begun()
        if made:
            reader = None
            if options.needs_media(pool):
                assert source is not None
                reader = MediaReader(pool, source)
            schema = schema_of(chosen, options)
            resumed = _make(chosen, out, options, schema, reader, report, destination.parts(options))
            totals = finish(chosen, out, plan, options, schema)
        else:
            totals = destination.check_finished(options)
        destination.finished()
    return _answer(chosen, destination.place, options, totals, resumed, made, max_lost)


def _answer(
    chosen: Chosen, out: str, options: Options, totals: Totals, resumed: int, made: bool, max_lost: float
) -> ExportReport:
    """The report, or the error that too much was lost."""
    if totals.lost > max_lost * totals.items:
        raise MediaLost(out, totals.items, totals.lost, totals.some_lost, max_lost)
    return ExportReport(
        out=out,
        form=options.form,
        items=totals.items,
        exported=totals.items - totals.lost,
        lost=totals.lost,
        shards=totals.shards,
        bytes=totals.bytes,
        resumed=resumed,
        made=made,
        left_out=dict(chosen.left_out),
    )


def check_labels(chosen: Chosen, options: Options) -> None:
    """Refuse labels that a form cannot hold.

    Raises:
        ConfigError: coco is asked for, and the labels are numbers.
    """
    if options.form == "coco" and not chosen.likelihood.discrete:
        raise ConfigError("as", "coco holds classes, and the labels of the run are numbers", "export as parquet or csv")


def _make(
    chosen: Chosen,
    out: Path,
    options: Options,
    schema: pa.Schema,
    reader: MediaReader | None,
    report: Report,
    parts: Parts,
) -> int:
    """Write the shards that are missing; returns how many were there."""
    parts.begin()
    (out / DATA).mkdir(exist_ok=True)
    remove_temporaries(out / WORK)
    committed = committed_parts(out, parts)
    take_away_begun(out / DATA, out / WORK, committed)
    done = number = 0
    report("export", sum(committed.values()), chosen.count)
    while done < chosen.count:
        if number in committed:
            done, number = done + committed[number], number + 1
            continue
        with closing(rows_of(chosen, options, reader, done)) as rows:
            held: Row | None = None
            while done < chosen.count and number not in committed:
                staged, held = _stage(number, rows, held, chosen, out, options, schema)
                parts.commit(staged)
                (out / WORK / JOURNAL.format(number)).unlink(missing_ok=True)
                done, number = done + staged.rows, number + 1
                report("export", done, chosen.count)
    if reader is not None:
        reader.check_unchanged()
    return len(committed)


def schema_of(chosen: Chosen, options: Options) -> pa.Schema:
    """The columns of an export; of Parquet and Lance with media and vectors."""
    facts, pool = chosen.facts_schema(), chosen.pool
    if options.form not in WITH_VECTORS:
        return facts
    numbers = export_type(pool.scale)
    vector = pa.field("vector", pa.list_(pa.from_numpy_dtype(numbers), pool.dim)) if options.vectors else None
    kind = pa.large_binary() if options.form == "lance" else FILE
    modality = pool.manifest.modality
    column = {"image": "image", "sound": "audio"}.get(modality)
    schema = table_schema(facts, None if column is None else pa.field(column, kind), modality == "text", vector)
    return uncompressed(schema) if options.form == "lance" else schema


def rows_of(chosen: Chosen, options: Options, reader: MediaReader | None, start: int) -> Generator[Row, None, None]:
    """The chosen items, one after the other.

    Args:
        chosen: the items.
        options: what of them is wanted.
        reader: reads their media; None for none.
        start: how many to leave out.

    Yields:
        Each item, and why its media are lost where they are.
    """
    names = {"id": "id", "key": "key", "uri": "uri"} | {own: field.name for own, field in chosen.carried.items()}
    numbers = export_type(chosen.pool.scale)
    for chunk, rows, places in chosen.parts(start):
        items = chunk.items(list(names))
        vectors = chunk.vectors() if options.vectors else None
        keys = taken(items["key"].combine_chunks(), rows).to_pylist()
        media = None if reader is None else reader.read(chunk, numbers_of(items["id"])[rows], keys)
        for low in range(0, len(rows), ROWS):
            some = rows[low : low + ROWS]
            given = None if vectors is None else in_given_units(vectors[some], chosen.pool.scale, numbers)
            for at, row in enumerate(items.take(array_of(some, pa.int64())).to_pylist()):
                place = places.start + low + at
                found = None if media is None else next(media)
                yield (
                    Entry(
                        id=row.pop("id"),
                        key=row.pop("key"),
                        uri=row.pop("uri"),
                        said={name: values[place] for name, values in chosen.said.items()},
                        carried={names[name]: value for name, value in row.items()},
                        media=None if isinstance(found, BadItem) else found,
                        vector=None if given is None else given[at],
                    ),
                    found if isinstance(found, BadItem) else None,
                )


def _stage(
    number: int,
    rows: Iterator[Row],
    held: Row | None,
    chosen: Chosen,
    out: Path,
    options: Options,
    schema: pa.Schema,
) -> tuple[Staged, Row | None]:
    """Write one shard under temporary names.

    Args:
        number: of the shard.
        rows: the items that are left.
        held: the one that did not fit into the shard before.
        chosen: the items.
        out: the directory.
        options: the form, and how it is cut.
        schema: columns of the export.

    Returns:
        What is to be committed, and the item that did not fit.
    """
    noted: list[dict[str, Any]] = []
    rest = held

    def fill(shard: Shard) -> None:
        try:
            take(shard)
        except BaseException:
            with suppress(Exception):
                shard.close()
            raise
        shard.close()

    def take(shard: Shard) -> None:
        nonlocal rest
        size = 0
        while len(noted) < options.shard_items and (row := rest or next(rows, None)) is not None:
            entry, lost = rest = row
            own = 0 if entry.media is None else len(entry.media.content)
            if noted and size + own > options.shard_bytes:
                break
            rest, found = None, Noted(None)
            if lost is None:
                try:
                    found = shard.add(entry)
                except BadItem as error:
                    lost = error
            noted.append(_noted(entry, found, lost, name))
            size += own if lost is None else 0

    suffix, files = options.suffix, []
    name = None if suffix is None else f"{DATA}/{number:05d}{suffix}"
    if name is None:
        fill(_files(chosen, out, options, number))
    else:
        files.append(stage_file(out, name, lambda path: fill(_shard(path, options, schema))))
    table = index_table(noted)
    files.append(stage_file(out, INDEX.format(number), lambda path: pq.write_table(table, path)))
    return Staged(number, len(noted), tuple(files)), rest


def _shard(path: Path, options: Options, schema: pa.Schema) -> Shard:
    """A shard that is one file."""
    if options.form == "webdataset":
        return TarShard(path)
    if options.form == "csv":
        return CsvShard(path, schema.names)
    return lance_shard(path, schema) if options.form == "lance" else parquet_shard(path, schema)


def _files(chosen: Chosen, out: Path, options: Options, number: int) -> Shard:
    """A shard that is files of a folder."""
    links = options.form == "links"
    return FileShard(
        out / DATA,
        out / WORK,
        number,
        links=links and not options.copy,
        classes=links and "label" in chosen.said and chosen.likelihood.discrete,
        measure=not links,
    )


def _noted(entry: Entry, found: Noted, lost: BadItem | None, shard: str | None) -> dict[str, Any]:
    """What is noted of an item."""
    media = None if lost is not None else entry.media
    return {
        "key": entry.key,
        "id": entry.id,
        "label": entry.label,
        "uri": entry.uri,
        "shard": None if lost is not None else shard,
        "member": found.member,
        "bytes": None if media is None else len(media.content),
        "sha256": None if media is None else media.sha256,
        "width": found.width,
        "height": found.height,
        "lost": None if lost is None else lost.problem,
    }
