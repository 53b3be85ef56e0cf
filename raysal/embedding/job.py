"""The embed job: a source and an encoder to a committed pool, here or on Ray. An interrupted job is resumed."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from raysal.defaults import BATCH_SIZE, DECODE_THREADS, MAX_CHUNK_ROWS, MAX_PASSED_OVER, MAX_QUARANTINE
from raysal.embedding import ENCODERS
from raysal.embedding.base import Encoder
from raysal.embedding.limits import check_lost
from raysal.embedding.precomputed import Precomputed
from raysal.embedding.ranges import check_arguments
from raysal.embedding.rounding import Rounding
from raysal.embedding.sample import rounding_for
from raysal.embedding.unit import embed_unit
from raysal.errors import EncoderError, FingerprintMismatch, SourceError
from raysal.pool import ChunkStage, Manifest, PoolWriter, StagedChunk
from raysal.pool.layout import KINDS, MANIFEST, check_blurred, scale_in, write_passed_over
from raysal.registry import Registry
from raysal.scale import AUTO, as_scale
from raysal.sources import SOURCES, check_keys
from raysal.sources.base import PassesOver, Source, VectorSource
from raysal.sources.begun import as_begun, listed_for
from raysal.store import check_kind, locked, remove_temporaries
from raysal.types import Metric, PassedOver, Unit

CHUNK_ROWS = {"vector": MAX_CHUNK_ROWS, "image": 1024, "text": 1024}
"""Items in one chunk if the caller does not say, by modality."""

Progress = Callable[[int, int], None]
"""Called with (items done, items in all) at the start and after every commit."""


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
    scale: float
    """given vectors were multiplied by it; see `raysal.scale`"""
    seconds: float
    """from the first unit issued to the last commit; without the time this process takes to load the model"""
    passed_over: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """{suffix: files that the source left out}"""

    @property
    def items_per_second(self) -> float:
        """Items embedded by this job, per second."""
        return self.embedded / self.seconds if self.seconds else 0.0


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
    report: Progress | None = None,
) -> EmbedReport:
    """Embed every item of a source into a pool directory.

    A pool that was begun is resumed: committed chunks are not done again. With equal batch size and threads, the
    finished pool has the same bytes as one made without a stop, except for the attempt in a commit record.

    Memory: one chunk per process, and 8 bytes an item while keys are checked.

    Args:
        source: lists and reads the items.
        encoder: turns them into vectors.
        out: the pool directory to make or to finish.
        batch_size: items in one call of the model.
        chunk_rows: items committed together; 0 is 65536 for vectors, 1024 otherwise.
        workers: Ray workers; 0 is what the cluster has room for.
        decode_threads: threads that decode ahead of the model, in each process.
        max_quarantine: share of the items that may be quarantined.
        max_passed_over: share of the files that look like items that may be passed over.
        backend: this process, or Ray. Ray's workers must see `out` and the source under the same paths.
        threads: CPU threads of a model; 0 is torch's own choice here, and an even share with Ray.
        address: the Ray cluster to join.
        device: where the model runs, as `cpu` or `cuda`.
        metric: what "near" means in this pool from now on.
        scale: the power of two that vectors are multiplied by before they become float16. With `auto`, a sample of
            ready vectors decides, it is 1 for those of a model, and a pool that was begun keeps its own.
        report: called with (items done, items in all) at the start and after every commit.

    Returns:
        What the job did.

    Raises:
        QuarantineExceeded: more than `max_quarantine` of the items are quarantined. The pool is committed.
        PassedOverExceeded: more than `max_passed_over` of what looks like an item was passed over; likewise.
        VectorsBlurred: half of the vectors differ by less than float16 can tell. The pool is committed.
        ConfigError: an argument is out of range, or the scale is no power of two.
        UnknownName: there is no such backend or metric.
        EncoderError: the encoder does not take such items, or fails on all of them.
        SourceError: the source cannot be listed, is empty, or repeats a key.
        FingerprintMismatch: `out` holds a pool of another source or encoder.
        PoolError: `out` was begun with another chunk size, metric or scale, or by a newer version.
        Damaged: a file in `out` was altered or is missing.
        RunError: another process is writing this pool, or `out` is the directory of a run or of predictions.
    """
    shares = {"max_quarantine": max_quarantine, "max_passed_over": max_passed_over}
    check_arguments(batch_size, chunk_rows, workers, decode_threads, shares, threads, backend, metric)
    asked = as_scale(scale)
    pool = Path(out).absolute()
    check_kind(pool, MANIFEST)  # before a long listing
    source = listed_for(pool, _with_absolute_paths(source))
    encoder = encoder_for_source(encoder, source, device)
    rows = chunk_rows or CHUNK_ROWS[source.modality]
    dim = encoder.dim  # loads the model: a missing package should show before a long listing
    items, chunks = check_keys(source, rows)
    passed = source.passed_over() if isinstance(source, PassesOver) else PassedOver()
    pool.mkdir(parents=True, exist_ok=True)
    with locked(pool, "pool"):  # a second writer would remove the files that this one has staged
        rounding = rounding_for(source, encoder, scale_in(pool) if asked is None else asked)
        writer = PoolWriter(pool, manifest_for(source, encoder, dim, items, chunks, rows, metric, rounding.scale))
        if passed.taken or passed.counts:  # the source looked through a folder
            write_passed_over(pool, passed)
        resumed = len(writer.committed)
        already = _items_done(writer)
        report = report or _no_report
        report(already, items)
        started = time.perf_counter()
        todo = (unit for unit in source.units(rows) if unit.index not in writer.committed)
        first = next(todo, None) if resumed < chunks else None
        if first is not None:
            units = chain([first], todo)
            stage = ChunkStage(pool, dim)
            if backend == "local":
                results = _embed_here(units, source, encoder, stage, rounding, batch_size, decode_threads, threads)
            else:
                from raysal.embedding.ray_job import embed_on_ray

                results = embed_on_ray(
                    units,
                    source,
                    encoder,
                    stage,
                    rounding,
                    batch_size=batch_size,
                    decode_threads=decode_threads,
                    workers=workers,
                    max_workers=chunks - resumed,
                    threads=threads,
                    address=address,
                    device=getattr(encoder, "device", "cpu"),
                )
            try:
                with closing(results):
                    for staged in results:
                        writer.commit(staged)
                        report(_items_done(writer), items)
            finally:
                # Files that a killed worker had begun. A worker that still runs loses files that nobody waits for.
                for kind in KINDS:
                    remove_temporaries(pool / kind)
    quarantined = sum(record["quarantined"] for record in writer.committed.values())
    check_lost(pool, quarantined, items, passed, **shares)
    check_blurred(pool, writer.committed.values())
    return EmbedReport(
        items=items,
        quarantined=quarantined,
        chunks=chunks,
        resumed=resumed,
        embedded=items - already,
        scale=rounding.scale,
        seconds=time.perf_counter() - started,
        passed_over=passed.counts,
    )


def encoder_for_source(encoder: Encoder, source: Source, device: str = "cpu") -> Encoder:
    """Fill in the fields of an encoder that the source and the job decide.

    Args:
        encoder: as the user asked for it.
        source: `precomputed` takes its length of a vector from it.
        device: replaces the encoder's own device unless it is "cpu".

    Returns:
        The encoder, or a changed copy of it.

    Raises:
        EncoderError: the encoder takes another kind of item than the source gives, or the source has no vector.
    """
    if encoder.modality != source.modality:
        raise EncoderError(
            _name(encoder, ENCODERS),
            f"takes {encoder.modality}s, the source gives {source.modality}s",
            "choose another encoder",
        )
    if isinstance(encoder, Precomputed) and encoder.dim == 0 and isinstance(source, VectorSource):
        dim = source.vector_dim()
        if dim == 0:
            raise EncoderError("precomputed", "the source has no vector of length 1 or more", "check the column")
        return dataclasses.replace(encoder, dim=dim)
    if device != "cpu" and any(field.name == "device" for field in dataclasses.fields(encoder)):  # type: ignore[arg-type]
        changed: Encoder = dataclasses.replace(encoder, device=device)  # type: ignore[type-var]
        return changed
    return encoder


def manifest_for(
    source: Source, encoder: Encoder, dim: int, items: int, chunks: int, rows: int, metric: Metric, scale: float = 1.0
) -> Manifest:
    """The manifest of the pool that a source and an encoder make.

    Args:
        source: where the items come from.
        encoder: what makes their vectors.
        dim: length of a vector.
        items: items in the source's listing.
        chunks: chunks they are cut into.
        rows: items of a chunk.
        metric: what "near" means in the pool.
        scale: of the vectors.

    Returns:
        The manifest; equal arguments give an equal one.
    """
    name, config = _encoder_config(encoder)
    return Manifest(
        dim=dim,
        modality=source.modality,
        items=items,
        chunks=chunks,
        chunk_rows=rows,
        encoder={
            "name": name,
            "config": config,
            "fingerprint": encoder.fingerprint(),
            "preprocessing": dict(encoder.preprocessing()),
        },
        source={
            "name": _name(source, SOURCES),
            "config": _config(source),
            "fingerprint": source.fingerprint(),
        },
        metric=metric,
        scale=scale,
    )


def check_origin(pool: Path, begun: Manifest, source: Source, encoder: Encoder) -> None:
    """Refuse a pool that was not made of this source by this encoder. Loads no weights; the source may be gone.

    Names and fields are compared with the manifest. A source with other fields counts as the same where it exists and
    has the recorded fingerprint: it was moved. Where it does not exist, only its paths may differ. A change behind
    equal fields is not looked for: the pool stays what it was.

    Args:
        pool: the pool directory, for the error.
        begun: the manifest found there.
        source: the source that the caller names now.
        encoder: the encoder that the caller names now.

    Raises:
        FingerprintMismatch: they differ; the error names the field.
    """
    fix = "name what the pool was made of, or another pool directory"
    if isinstance(encoder, Precomputed) and encoder.dim == 0:
        encoder = dataclasses.replace(encoder, dim=begun.dim)
    name, config = _encoder_config(encoder)
    _check_fields(pool, "encoder", begun.encoder, name, config, fix)
    source = _with_absolute_paths(source)
    name = _name(source, SOURCES)
    if name == begun.source["name"]:
        source = as_begun(source, begun.source.get("config", {}))
    config = _config(source)
    try:
        _check_fields(pool, "source", begun.source, name, config, fix)
    except FingerprintMismatch:
        if name != begun.source["name"]:
            raise
        try:
            found = source.fingerprint()
        except SourceError:
            places = {field.name for field in dataclasses.fields(source) if "Path" in str(field.type)}  # type: ignore[arg-type]
            fields = {field: value for field, value in config.items() if field not in places}
            _check_fields(pool, "source", begun.source, name, fields, fix)
        else:
            expected = begun.source["fingerprint"]
            if found != expected:
                raise FingerprintMismatch(pool, "the source's fingerprint", expected, found, fix) from None


def _check_fields(
    pool: Path, what: str, recorded: Mapping[str, Any], name: str, config: Mapping[str, Any], fix: str
) -> None:
    if name != recorded["name"]:
        raise FingerprintMismatch(pool, f"the {what}", str(recorded["name"]), name, fix)
    begun = recorded.get("config", {})
    for field, value in json.loads(json.dumps(config)).items():  # the manifest holds tuples as lists
        if field in begun and begun[field] != value:
            raise FingerprintMismatch(pool, f"the {what}'s {field}", str(begun[field]), str(value), fix)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads in this process inside the block; 0 changes nothing."""
    if count == 0:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _embed_here(
    units: Iterator[Unit],
    source: Source,
    encoder: Encoder,
    stage: ChunkStage,
    rounding: Rounding,
    batch_size: int,
    decode_threads: int,
    threads: int,
) -> Generator[StagedChunk]:
    with torch_threads(threads if source.modality != "vector" else 0):
        for unit in units:
            yield embed_unit(
                source, encoder, unit, stage, batch_size=batch_size, decode_threads=decode_threads, rounding=rounding
            )


def _items_done(writer: PoolWriter) -> int:
    """Items of the committed chunks, with the quarantined ones."""
    return sum(record["rows"] + record["quarantined"] for record in writer.committed.values())


def _no_report(done: int, total: int) -> None:
    """Report to nobody."""


def _name(part: object, registry: Registry[Any]) -> str:
    """The registered name of a part, or the name of its class."""
    return registry.name_of(part) or type(part).__name__


def _encoder_config(encoder: Encoder) -> tuple[str, dict[str, Any]]:
    """(name, fields) of an encoder; its `arg` is in the name, after a colon."""
    name, config = _name(encoder, ENCODERS), _config(encoder)
    arg = config.pop("arg", None)
    return f"{name}:{arg}" if arg else name, config


def _config(part: Any) -> dict[str, Any]:
    """The recorded constructor fields of a part, as JSON-able values."""
    return {
        field.name: str(value) if isinstance(value := getattr(part, field.name), Path) else value
        for field in dataclasses.fields(part)
        if field.metadata.get("record", True)
    }


def _with_absolute_paths(source: Source) -> Source:
    """The source with absolute paths: workers of a cluster have another working directory."""
    paths = {
        field.name: value.absolute()
        for field in dataclasses.fields(source)  # type: ignore[arg-type]
        if isinstance(value := getattr(source, field.name), Path)
    }
    if not paths:
        return source
    changed: Source = dataclasses.replace(source, **paths)  # type: ignore[type-var]
    return changed
