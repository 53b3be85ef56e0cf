"""The embed job: a source and an encoder to a committed pool, here or on Ray. An interrupted job is resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from raysal.defaults import BATCH_SIZE, DECODE_THREADS, MAX_CHUNK_ROWS, MAX_PASSED_OVER, MAX_QUARANTINE
from raysal.embedding.base import Encoder
from raysal.embedding.beginning import begun_or_nothing, check_place
from raysal.embedding.changes import FileSource, FirstSpans
from raysal.embedding.devices import check_device, devices_of, on_device
from raysal.embedding.file_hashes import TABLE, hashed
from raysal.embedding.growing import can_grow, grow
from raysal.embedding.limits import check_lost
from raysal.embedding.measures import as_measures, check_carried
from raysal.embedding.origin import (
    Progress,
    check_contents,
    check_listing,
    check_unchanged,
    no_progress,
    remember,
    stamp_of,
)
from raysal.embedding.precision import check_precision
from raysal.embedding.ranges import check_arguments
from raysal.embedding.recorded import (
    check_encoder,
    encoder_for_source,
    encoder_record,
    manifest_for,
    with_absolute_paths,
)
from raysal.embedding.sample import rounding_for
from raysal.embedding.working import Work, commit_units
from raysal.pool import PoolWriter
from raysal.pool.key_index import extend_by_records
from raysal.pool.layout import MANIFEST, Manifest, check_blurred, measures_in, scale_in, write_passed_over
from raysal.pool.place import directory_of, files_of
from raysal.scale import AUTO, as_scale
from raysal.sources import check_keys
from raysal.sources.base import OfFiles, PassesOver, Source
from raysal.sources.begun import listed_for
from raysal.sources.keys import source_name
from raysal.sources.listed_once import listed_once
from raysal.store import check_kind
from raysal.types import Check, Metric, PassedOver, Stamp

CHUNK_ROWS = {"vector": MAX_CHUNK_ROWS, "image": 1024, "sound": 1024, "text": 1024}
"""Items in one chunk if the caller does not say, by modality."""


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """What a job did."""

    items: int
    """in the whole pool, with the quarantined ones"""
    quarantined: int
    """in the whole pool"""
    chunks: int
    """in the whole pool"""
    resumed: int
    """chunks that were committed before"""
    embedded: int
    """items that this job did itself"""
    checked: int
    """chunks committed before that were read again and found to be the same, because the source may have changed"""
    scale: float
    """given vectors were multiplied by it; see `raysal.scale`"""
    seconds: float
    """from the first unit issued to the last commit; without the time this process takes to load the model"""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """{suffix: files that the source left out}"""
    generation: int = 0
    """of the pool"""
    added: int = 0
    """items that are new in a pool that was finished before"""
    replaced: int = 0
    """items of it that changed, and that new ones stand for"""
    gone: int = 0
    """files that it took in and that are not in the source any more, and whose items no other file has: they stay"""

    @property
    def items_per_second(self) -> float:
        """Items embedded by this job, per second."""
        return self.embedded / self.seconds if self.seconds else 0.0


@listed_once()
def embed(
    source: Source,
    encoder: Encoder,
    out: str | Path,
    *,
    batch_size: int = BATCH_SIZE,
    chunk_rows: int = 0,
    workers: int = 0,
    decode_threads: int = DECODE_THREADS,
    max_quarantine: float = MAX_QUARANTINE,
    max_passed_over: float = MAX_PASSED_OVER,
    backend: Literal["local", "ray"] = "local",
    threads: int = 0,
    address: str | None = None,
    device: str = "cpu",
    metric: Metric = "cosine",
    scale: float | str = AUTO,
    check: Check = "fast",
    measures: Sequence[str] | None = None,
    report: Progress = no_progress,
    checking: Progress = no_progress,
) -> EmbedReport:
    """Embed every item of a source into a pool directory.

    A pool that was begun is resumed: committed chunks are not done again. With equal batch size and threads, the
    finished pool has the same bytes as one made without a stop, except for the attempt in a commit record. If the
    source may have changed since, what is committed is read again first, and compared (`raysal.embedding.origin`).
    A batch that does not fit into memory is halved, with a `MemoryWarning`; then equal bytes need equal memory, too.

    Memory: two chunks in this process, where one is written while the next is embedded; one in a worker of Ray; and 8
    bytes an item while keys are checked.

    Args:
        source: lists and reads the items.
        encoder: turns them into vectors.
        out: the pool directory to make or to finish, or its URL.
        batch_size: items in one call of the model.
        chunk_rows: items committed together; 0 is 65536 for vectors, 1024 otherwise.
        workers: Ray workers; 0 is what the cluster has room for.
        decode_threads: threads that decode ahead of the model, in each process.
        max_quarantine: share of the items that may be quarantined.
        max_passed_over: share of the files that look like items that may be passed over.
        backend: this process, or Ray. Ray's workers must see `out` and the source under the same paths.
        threads: CPU threads of a model; 0 is torch's own choice here, and an even share with Ray.
        address: the Ray cluster to join.
        device: where the model runs, as `cpu`. `cuda` is all GPUs of this machine, with Ray one for each worker;
            `cuda:0,cuda:2` is some of them. The bytes do not depend on how many there are, if they are alike.
        metric: what "near" means in this pool from now on.
        scale: the power of two that vectors are multiplied by before they become float16. With `auto`, a sample of
            ready vectors decides, it is 1 for those of a model, and a pool that was begun keeps its own.
        check: how it is found out what changed since it was embedded: `fast` compares the sizes and times of files;
            `hash` reads each file, and compares its sha256 with the one that was recorded when it was taken in.
            Where none was, contents are compared, as of a file that was touched, and it is recorded.
        measures: what is measured of each picture or text, as columns of the pool (`raysal.embedding.measures`). None
            is what the pool was begun with, and none in a new one.
        report: called with (items done, items in all) at the start and after every commit.
        checking: called with (items read, items to read) while committed items are compared with the source, and with
            (files read, 0) while these are hashed.

    Returns:
        What the job did.

    Raises:
        QuarantineExceeded: more than `max_quarantine` of the items are quarantined. The pool is committed.
        PassedOverExceeded: more than `max_passed_over` of what looks like an item was passed over; likewise.
        VectorsBlurred: half of the vectors differ by less than float16 can tell. The pool is committed.
        ConfigError: an argument is out of range, the scale is no power of two, the CPU lacks that precision, or such
            items have no such measure.
        UnknownName: there is no such backend, metric, check or measure.
        EncoderError: the encoder does not take such items, or fails on all of them.
        SourceError: the source cannot be listed, is empty, repeats a key, or changed while it was read.
        FingerprintMismatch: `out` holds a pool of another encoder.
        SourceChanged: `out` holds a pool of another source, or the source has other contents now.
        PoolError: `out` was begun with another chunk size, metric or scale, with other measures, or by a newer version;
            or it is no pool, and holds other files.
        Damaged: a file in `out` was altered or is missing.
        RunError: another process is writing this pool, or `out` is the directory of a run or of predictions.
    """
    shares = {"max_quarantine": max_quarantine, "max_passed_over": max_passed_over}
    check_arguments(batch_size, chunk_rows, workers, decode_threads, shares, threads, backend, metric, check)
    asked = as_scale(scale)
    work = Work(
        batch_size=batch_size,
        decode_threads=decode_threads,
        workers=workers,
        backend=backend,
        threads=threads,
        address=address,
    )
    pool = directory_of(out).absolute()
    check_kind(pool, MANIFEST)  # before a long listing
    check_place(pool)
    source = listed_for(pool, with_absolute_paths(source))
    encoder = encoder_for_source(encoder, source, device)
    device = getattr(encoder, "device", "cpu")
    if backend == "local":
        work = replace(work, devices=devices_of(device))
        for one in work.devices:
            check_device(one)
        encoder = on_device(encoder, work.devices[0])
        check_precision(getattr(encoder, "precision", "float32"), work.devices[0])
    else:
        work = replace(work, devices=(device,))
        encoder = on_device(encoder, "cpu")  # the driver's own: it may have no GPU
    wanted = as_measures(measures, source.modality)
    if isinstance(carry := getattr(source, "carry", ()), tuple):  # of others each item is looked at
        check_carried(carry, wanted or (), source_name(source))
    rows = chunk_rows or CHUNK_ROWS[source.modality]
    dim = encoder.dim  # loads the model: a missing package should show before a long listing
    stamp = stamp_of(source)  # before anything is read, so that a change after this moment is found
    if can_grow(pool, source):
        begun = Manifest.read(pool)
        same: dict[str, Any] = {
            "dim": dim,
            "encoder": encoder_record(encoder),
            "metric": metric,
            "chunk_rows": chunk_rows,
        }
        same |= {"scale": begun.scale if asked is None else asked}
        same |= {"measures": begun.measures if wanted is None else wanted}
        if not chunk_rows:
            same["chunk_rows"] = begun.chunk_rows
        with files_of(pool).writing():
            check_encoder(pool, encoder)
            PoolWriter(
                pool, replace(begun, **same)
            )  # refuses another encoder, metric, chunk size or scale, and other measures
            return _grown(pool, cast(FileSource, source), encoder, stamp, work, report, checking, check, shares)
    spans = FirstSpans(source)
    items, chunks = check_keys(source, rows, spans.look)
    passed = source.passed_over() if isinstance(source, PassesOver) else PassedOver()
    with begun_or_nothing(pool):  # a second writer would remove the files that this one has staged
        rounding = rounding_for(source, encoder, scale_in(pool) if asked is None else asked)
        wanted = measures_in(pool) if wanted is None else wanted
        manifest = manifest_for(source, encoder, dim, items, chunks, rows, metric, rounding.scale, wanted)
        check_listing(pool, manifest, source)
        check_encoder(pool, encoder)
        writer = PoolWriter(pool, manifest)
        checked = check_contents(pool, manifest, writer.committed, source, stamp, checking, trusted=check == "fast")
        files_of(pool).delete([TABLE])  # the next line says what the pool takes in from now on
        files = source.files() if isinstance(source, OfFiles) else ()
        how = hashed(files, checking) if check == "hash" else ((file, None) for file in files)
        spans.write(pool, how, hashed=check == "hash")
        remember(pool, stamp)
        if passed.taken or passed.counts:  # the source looked through a folder
            write_passed_over(pool, passed)
        resumed = len(writer.committed)
        already = _items_done(writer)
        report(already, items)
        started = time.perf_counter()
        todo = (unit for unit in source.units(rows) if unit.index not in writer.committed) if resumed < chunks else ()
        new = commit_units(
            iter(todo), source, encoder, writer, rounding, work, lambda: report(_items_done(writer), items)
        )
        if new or checked:
            check_unchanged(source, stamp)
        extend_by_records(pool, [writer.committed[index] for index in sorted(writer.committed)], dim)
    quarantined = sum(record["quarantined"] for record in writer.committed.values())
    check_lost(pool, quarantined, items, passed, **shares)
    check_blurred(pool, writer.committed.values())
    return EmbedReport(
        items=items,
        quarantined=quarantined,
        chunks=chunks,
        resumed=resumed,
        embedded=items - already,
        checked=checked,
        scale=rounding.scale,
        seconds=time.perf_counter() - started,
        passed_over=passed.counts,
    )


def _grown(
    out: Path,
    source: FileSource,
    encoder: Encoder,
    stamp: Stamp | None,
    work: Work,
    report: Progress,
    checking: Progress,
    check: Check,
    shares: Mapping[str, float],
) -> EmbedReport:
    """Let a finished pool take in what is new, and say what it is now."""
    passed = source.passed_over() if isinstance(source, PassesOver) else PassedOver()
    done = grow(out, source, encoder, stamp, work, report, checking, check)
    if passed.taken or passed.counts:
        write_passed_over(out, passed)
    pool = done.pool
    check_lost(out, done.quarantined, done.items, PassedOver(), **shares)  # many new ones are few of a large pool
    check_lost(out, pool.quarantined, pool.manifest.items, passed, **shares)
    pool.check_blurred()
    return EmbedReport(
        items=pool.manifest.items,
        quarantined=pool.quarantined,
        chunks=len(pool.chunks),
        resumed=len(pool.chunks) - done.chunks,
        embedded=done.embedded,
        checked=done.checked,
        scale=pool.scale,
        seconds=done.seconds,
        passed_over=passed.counts,
        generation=pool.generation,
        added=done.added,
        replaced=done.replaced,
        gone=done.gone,
    )


def _items_done(writer: PoolWriter) -> int:
    """Items of the committed chunks, with the quarantined ones."""
    return sum(record["rows"] + record["quarantined"] for record in writer.committed.values())
