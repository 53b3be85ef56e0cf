"""The embed job over a stream of items: what was begun is finished, the stream is written down, and embedded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysal.embedding.base import Encoder
from raysal.embedding.beginning import check_place, stream_or_nothing
from raysal.embedding.job import EmbedReport, embed
from raysal.errors import FingerprintMismatch, PoolIncomplete
from raysal.pool import Manifest, Pool
from raysal.pool.growth import read_begun
from raysal.pool.layout import MANIFEST
from raysal.sources.base import Source
from raysal.sources.batches import Batches
from raysal.sources.spilled import Spilled, spill
from raysal.store import check_kind, locked


def embed_batches(batches: Batches, encoder_of: Callable[[Source], Encoder], out: Path, **options: Any) -> EmbedReport:
    """Embed a stream into a pool, or let a pool of a stream take in what is new or other in this one.

    A job that was stopped while it embedded is finished first, with what was written down: so it ends as one that was
    not stopped, whatever the stream gives now. One that was stopped while it wrote goes on behind what is there. Of a
    stream that is refused nothing stays.

    Args:
        batches: the stream. It is run through once, in this process.
        encoder_of: the encoder for a source.
        out: the pool directory.
        options: as `raysal.embedding.job.embed` has them.

    Returns:
        What the last job did.

    Raises:
        FingerprintMismatch: the pool is not of a stream.
        SourceError, DuplicateKeys: as `raysal.sources.spilled.spill`.
        RaysalError: as `raysal.embedding.job.embed`.
    """
    out = out.absolute()
    check_kind(out, MANIFEST)
    check_place(out)
    if (out / MANIFEST).exists():
        name = str(Manifest.read(out).source["name"])
        if name != Spilled.__name__:
            fix = "name the pool of a stream, or another directory"
            raise FingerprintMismatch(out, "the source", name, "a stream", fix)
        if _is_begun(out):
            begun = Spilled.of(out, batches)
            embed(begun, encoder_of(begun), out, **options)
    with stream_or_nothing(out):
        out.mkdir(parents=True, exist_ok=True)
        with locked(out, "pool"):
            spill(out, batches)
        source = Spilled.of(out, batches)
        return embed(source, encoder_of(source), out, **options)


def _is_begun(out: Path) -> bool:
    """Whether a job over a pool is not finished."""
    try:
        Pool(out)
    except PoolIncomplete:
        return True
    return read_begun(out) is not None
