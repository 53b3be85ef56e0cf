"""The items of a pool that could not be embedded, and why: all of them, and how many for each reason."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.errors import ConfigError
from raysal.pool.chunk import Chunk
from raysal.pool.layout import QUARANTINE_SCHEMA, Manifest, read_records
from raysal.store import write_file

NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
"""What differs from item to item in errors of one reason: sizes, offsets, values."""
ROWS_PER_WRITE = 65_536


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
    records = read_records(pool, Manifest.read(pool)).values()
    return Quarantine(
        items=sum(record["rows"] + record["quarantined"] for record in records),
        quarantined=counts.total(),
        reasons=tuple(
            Reason(items=items, stage=reason[0], error=first[reason]) for reason, items in counts.most_common()
        ),
        rows=tuple(rows),
    )


def write_quarantine(pool: Path, out: Path, *, stage: str | None = None) -> int:
    """Write what a pool lost as id, key, stage, error: completely or not at all. Memory for one chunk's losses.

    Args:
        pool: the directory.
        out: a .csv, .parquet or .jsonl file.
        stage: only what was lost there.

    Returns:
        The number of items.

    Raises:
        ConfigError: the file is there, or has another suffix; or nothing was lost in that stage.
        PoolError: the directory is no pool.
        Damaged: a file of the pool was altered.
    """
    writers = {".csv": _write_csv, ".parquet": _write_parquet, ".jsonl": _write_jsonl}
    if out.suffix.lower() not in writers:
        raise ConfigError(out, f"unknown extension {out.suffix!r}", f"use one of: {', '.join(writers)}")
    if out.exists():
        raise ConfigError(out, "is there already", "name another file")
    counted = 0

    def counting() -> Iterator[dict[str, Any]]:
        nonlocal counted
        for row in _rows(pool, stage):
            counted += 1
            yield row

    write_file(out, lambda temporary: writers[out.suffix.lower()](counting(), temporary))
    return counted


def _rows(pool: Path, stage: str | None) -> Iterator[dict[str, Any]]:
    """What a pool lost, row by row. Chunks that lost nothing are not read."""
    manifest = Manifest.read(pool)
    seen, found = set(), False
    for record in read_records(pool, manifest).values():
        if not record["quarantined"]:
            continue
        chunk = Chunk(pool=pool, index=record["index"], rows=record["rows"], dim=manifest.dim, files=record["files"])
        for row in chunk.quarantine().to_pylist():
            seen.add(row["stage"])
            if stage in (None, row["stage"]):
                found = True
                yield row
    if seen and not found:
        raise ConfigError("stage", f"nothing was lost in {stage!r}", f"use one of: {', '.join(sorted(seen))}")


def _write_csv(rows: Iterator[dict[str, Any]], out: Path) -> None:
    with open(out, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, QUARANTINE_SCHEMA.names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(rows: Iterator[dict[str, Any]], out: Path) -> None:
    with open(out, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(rows: Iterator[dict[str, Any]], out: Path) -> None:
    with pq.ParquetWriter(out, QUARANTINE_SCHEMA) as writer:
        while some := list(islice(rows, ROWS_PER_WRITE)):
            writer.write_table(pa.Table.from_pylist(some, schema=QUARANTINE_SCHEMA))
