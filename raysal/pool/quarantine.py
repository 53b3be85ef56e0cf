"""The items of a pool that could not be embedded, and why: all of them, and how many for each reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raysal.errors import ConfigError
from raysal.pool.chunk import Chunk
from raysal.pool.committed import committed_chunks, quarantined_in
from raysal.pool.layout import QUARANTINE_SCHEMA
from raysal.store import Written, write_output
from raysal.tables import kind_of, write_tables

NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
"""What differs from item to item in errors of one reason: sizes, offsets, values."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Items that were lost alike."""

    items: int
    stage: str
    """`decode`, or `encode`"""
    error: str
    """of the first of them"""


@dataclass(frozen=True, kw_only=True)
class Quarantine:
    """What a pool lost."""

    items: int
    """in the chunks that are committed, those that were lost included"""
    quarantined: int
    """of them"""
    reasons: tuple[Reason, ...]
    """the most frequent first"""
    rows: tuple[dict[str, Any], ...]
    """id, key, stage, error of the first ones, in the order of the source"""


def quarantine_of(pool: Path, *, stage: str | None = None, k: int = 20) -> Quarantine:
    """Read what a pool lost, also while it is yet to be finished. Memory for the reasons and k items.

    Args:
        pool: the directory.
        stage: only what was lost there; it must be a stage that lost something.
        k: how many items are listed.

    Returns:
        The counts, the reasons and the first items.

    Raises:
        ConfigError: nothing was lost in that stage.
        PoolError: the directory is no pool.
        Damaged: a file was altered.
    """
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    rows: list[dict[str, Any]] = []
    for row in _rows(pool, stage):
        reason = row["stage"], NUMBER.sub("…", row["error"].replace(row["key"] or "\0", "…"))
        counts[reason] += 1
        first.setdefault(reason, row["error"])
        if len(rows) < k:
            rows.append(row)
    committed = committed_chunks(pool)
    return Quarantine(
        items=sum(chunk.rows for chunk in committed.chunks) + quarantined_in(committed),
        quarantined=counts.total(),
        reasons=tuple(
            Reason(items=items, stage=reason[0], error=first[reason]) for reason, items in counts.most_common()
        ),
        rows=tuple(rows),
    )


def write_quarantine(
    pool: Path,
    out: Path,
    *,
    stage: str | None = None,
    overwrite: bool = False,
    disposable: Callable[[Path], bool] | None = None,
) -> tuple[int, Written]:
    """Write what a pool lost as id, key, stage, error: completely or not at all. Memory for one chunk's losses.

    Args:
        pool: the directory.
        out: a file with an extension of `raysal.tables.KINDS`.
        stage: only what was lost there.
        overwrite: replace the file that is there; it is kept as `NAME.1`, `NAME.2` ...
        disposable: as for `raysal.store.write_output`.

    Returns:
        The number of items, and what became of the file that was there.

    Raises:
        ConfigError: the file has another suffix; or nothing was lost in that stage.
        OutputExists: another file is there, and `overwrite` is false.
        PoolError: the directory is no pool.
        Damaged: a file of the pool was altered.
    """
    kind = kind_of(out)
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        count = write_tables(temporary, kind, QUARANTINE_SCHEMA, _tables(pool, stage))

    written = write_output(out, write, overwrite=overwrite, disposable=disposable)
    return count, written


def lost_among(pool: Path, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Which of some keys a pool lost. It reads the quarantine of the chunks that lost something.

    Args:
        pool: the directory.
        keys: of items, of this pool or not.

    Returns:
        {key: the stage, and the error}.

    Raises:
        PoolError: the directory is no pool.
        Damaged: a file was altered.
    """
    wanted = set(keys)
    return {row["key"]: (row["stage"], row["error"]) for row in _rows(pool, None) if row["key"] in wanted}


def ids_of_lost(chunks: Iterable[Chunk], records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The ids of all that some chunks lost, by key. It reads the quarantine of those that lost something."""
    some = (chunk.quarantine() for chunk, record in zip(chunks, records, strict=True) if record["quarantined"])
    return {row["key"]: row["id"] for table in some for row in table.select(["key", "id"]).to_pylist()}


def _rows(pool: Path, stage: str | None) -> Iterator[dict[str, Any]]:
    """What a pool lost, row by row."""
    return (row for table in _tables(pool, stage) for row in table.to_pylist())


def _tables(pool: Path, stage: str | None) -> Iterator[pa.Table]:
    """What a pool lost, chunk by chunk. Chunks that lost nothing are not read."""
    committed = committed_chunks(pool)
    seen, found = set(), False
    for record, chunk in zip(committed.records.values(), committed.chunks, strict=True):
        if not record["quarantined"]:
            continue
        lost = chunk.quarantine()
        seen |= set(lost["stage"].to_pylist())
        if stage is not None:
            lost = lost.filter(pc.equal(lost["stage"], stage))
        if lost.num_rows:
            found = True
            yield lost.cast(QUARANTINE_SCHEMA)
    if seen and not found:
        raise ConfigError("stage", f"nothing was lost in {stage!r}", f"use one of: {', '.join(sorted(seen))}")
