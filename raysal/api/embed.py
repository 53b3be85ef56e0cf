"""`raysal.embed`: make a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as _short
from typing import TYPE_CHECKING, Any

from raysal.arguments import Backend, Part, as_place, has_methods
from raysal.config import Choice, choice
from raysal.defaults import BATCH_SIZE, DECODE_THREADS, MAX_PASSED_OVER, MAX_QUARANTINE
from raysal.errors import ConfigError, EncoderError
from raysal.pool import Pool, open_pool
from raysal.scale import AUTO
from raysal.types import Check, Metric

if TYPE_CHECKING:
    from raysal.embedding.base import Encoder
    from raysal.sources.base import Source
    from raysal.sources.batches import Batches


def embed(
    source: str | Path | Sequence[str | Path] | Mapping[str, Any] | Choice | Source | Batches | None = None,
    encoder: Part | Encoder | None = None,
    *,
    out: str | Path,
    batch_size: int = BATCH_SIZE,
    chunk_rows: int = 0,
    workers: int = 0,
    decode_threads: int = DECODE_THREADS,
    max_quarantine: float = MAX_QUARANTINE,
    max_passed_over: float = MAX_PASSED_OVER,
    backend: Backend = "local",
    threads: int = 0,
    address: str | None = None,
    device: str = "cpu",
    metric: Metric = "cosine",
    scale: float | str = AUTO,
    check: Check = "fast",
    measures: Sequence[str] | None = None,
    items: Any = None,
) -> Pool:
    """The pool of a source's items, embedded; a job that was stopped goes on where it stopped.

    The finished pool has the same bytes as one made without a stop, batch size and threads being the same. A batch that
    does not fit into memory is halved, with a `MemoryWarning`. Memory: two chunks in this process, one in a worker of
    Ray, and 8 bytes an item while keys are checked.

    Args:
        source: a path (a folder of images, a table, a text file) or a list of several, a mapping such as
            `{"name": "table", "path": ..., "vector_column": ...}`, or a source such as `raysal.sources.Memory(...)`,
            which takes arrays, tensors, sparse matrices, Series and frames by position. `raysal.sources.Batches(...)`
            is a stream of items whose columns have other names.
        encoder: a name, a mapping with `name`, or an encoder. Ready vectors need none;
            `{"name": "precomputed", "origin": NAME}` names the model that made them.
        out: the pool directory, or its URL, such as `s3://bucket/pool`.
        batch_size: items in one pass of the model; 64 by default.
        chunk_rows: items committed together; 0 is 65536 for ready vectors and 1024 otherwise.
        workers: Ray workers; 0 is one per CPU.
        decode_threads: threads that decode images, in each process; 2 by default.
        max_quarantine: share of the items, in [0, 1], that may be quarantined; 0.01 by default.
        max_passed_over: share of the files that look like items, in [0, 1], that the source may leave out; 0.1 by
            default. What it left out is in the pool's `info().passed_over`.
        backend: this process, or Ray, whose workers must see `out` and the source under the same paths.
        threads: CPU threads of a model; 0 is torch's own choice here, and an even share with Ray.
        address: a Ray cluster; by default one is started on this machine.
        device: `cpu`; `cuda`, which is every GPU of this machine, or with Ray one for each worker; `cuda:1`; or several
            as `cuda:0,cuda:2` (has not run on a GPU).
        metric: what neighbours in this pool are found by, from now on.
        scale: the power of two, as a number or `2^N`, that vectors are multiplied by before they become float16.
            Exports, distances and queries have the given magnitude all the same. With `auto`, a sample of ready vectors
            decides, it is 1 for those of a model, and a pool that was begun keeps its own.
        check: how a pool that is there finds what changed: `fast` by the sizes and times of files, `hash` by the sha256
            of their bytes, which reads them all; see docs/pools.md.
        measures: names of measures of quality, which become columns of the pool, such as `["sharpness", "pixels"]` of
            pictures or `["words", "repetition"]` of texts; `["all"]` is all of them. By default what the pool was begun
            with, and none in a new one. docs/encoders.md lists them.
        items: in place of a source, a stream of items: an iterable of Arrow tables, mappings of columns or items, a
            callable that gives one, or a `ray.data.Dataset`. It has a column `key`, and is written down in the pool's
            folder `source`; see docs/sources.md.

    Returns:
        The open pool.

    Raises:
        ConfigError: an argument is of the wrong type or out of range.
        QuarantineExceeded: more than `max_quarantine` of the items are quarantined; the pool is there.
        PassedOverExceeded: more than `max_passed_over` of what looks like an item was left out; the pool is there.
        VectorsBlurred: half of the vectors differ by less than float16 can tell; the pool is there.
        EncoderError: the encoder does not take such items, or fails on all of them.
        SourceError: the source cannot be listed, is empty, repeats a key, or changed while it was read.
        FingerprintMismatch: `out` holds the pool of another encoder or source, or of one that has changed since.
        UserError: as its other kinds say.
    """
    from raysal.embedding.job import embed as run_job
    from raysal.sources import Batches, check_apart
    from raysal.sources.listed_once import listed_once

    out = as_place("out", out)
    if (source is None) == (items is None):
        raise ConfigError("source", "name either a source or items", "pass one of them")
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "chunk_rows": chunk_rows,
        "workers": workers,
        "decode_threads": decode_threads,
        "max_quarantine": max_quarantine,
        "max_passed_over": max_passed_over,
        "backend": backend,
        "threads": threads,
        "address": address,
        "device": device,
        "metric": metric,
        "scale": scale,
        "check": check,
        "measures": measures,
    }
    stream = source if isinstance(source, Batches) else Batches(items=items) if items is not None else None
    if stream is not None:
        if isinstance(out, str):
            problem = f"{out} is in a bucket, and a stream is written down in the folder of its pool"
            raise ConfigError("out", problem, "name a directory, and copy the pool into the bucket when it is done")
        from raysal.embedding.streamed import embed_batches

        embed_batches(stream, lambda found: encoder_of(encoder, found), out, **options)
        return open_pool(out)
    assert source is not None
    assert not isinstance(source, Batches)
    if isinstance(source, str | Path | Sequence):
        check_apart(source, out)
    with listed_once():
        found = source_of(source)
        run_job(found, encoder_of(encoder, found), out, **options)
    return open_pool(out)


def source_of(source: str | Path | Sequence[str | Path] | Mapping[str, Any] | Choice | Source) -> Source:
    """A source as it is, made from its config, or found by what lies at a path.

    Args:
        source: a path or a list of them, a mapping with `name`, a `Choice`, or a source.

    Returns:
        The source.

    Raises:
        ConfigError: it is none of these.
        SourceError: nothing lies at the path, or something of no known kind.
    """
    from raysal.sources import SOURCES, detect_source

    if isinstance(source, str | Path | Sequence):
        return detect_source(source)
    if isinstance(source, Mapping | Choice):
        return choice(source, "source").build("source", SOURCES)
    if not has_methods(source, "fingerprint", "units", "read"):
        raise ConfigError("source", f"{_short(source)} is no source", "pass a path, a mapping with `name`, or a source")
    return source


def encoder_of(encoder: Part | Encoder | None, source: Source | None) -> Encoder:
    """An encoder as it is or made from its config; for a source of vectors none is needed.

    Args:
        encoder: a name, a mapping with `name`, a `Choice`, or an encoder; without one, `precomputed`.
        source: what is to be embedded; None if an encoder is named.

    Returns:
        The encoder.

    Raises:
        EncoderError: none is named, and the source gives no vectors.
        ConfigError: it is neither a name, nor a config, nor an encoder.
    """
    from raysal.embedding import ENCODERS

    if encoder is None:
        assert source is not None
        if source.modality != "vector":
            examples = {"image": "efficientnet_lite0", "sound": "spectrogram:efficientnet_lite0"}
            example = examples.get(source.modality, "sentence:all-MiniLM-L6-v2")
            raise EncoderError(
                "encoder", f"none is named, and the source gives {source.modality}s", f"for example {example}"
            )
        encoder = "precomputed"
    if isinstance(encoder, str | Mapping | Choice):
        return choice(encoder, "encoder").build("encoder", ENCODERS)
    if not has_methods(encoder, "fingerprint", "prepare", "encode"):
        raise ConfigError(
            "encoder", f"{_short(encoder)} is no encoder", "pass a name, a mapping with it, or an encoder"
        )
    return encoder
