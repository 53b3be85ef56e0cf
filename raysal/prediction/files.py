"""Predictions at rest: what lies where in a folder of them, and the one way to write and to read it.

    predict.json                what was predicted of which pool, by which head, how (sealed)
    predictions/00000.parquet   one row for each item of the pool's chunk of that number, in id order
    commits/00000.json          rows, and the bytes and sha256 of the file (sealed)

A chunk is there if and only if its commit record is. The columns are `id` and `key`, then by what the head predicts:

    classes   class, probability (of that class)
    labels    labels, label_probabilities (lists: those above 1/2, the likeliest first)
    numbers   value, standard_deviation (of a label around it: of the posterior and of the noise)

and with classes or labels the likeliest of them as `top_classes` and `top_probabilities`, or with `top = "all"` every
one's as `probabilities`, in the order of `classes` in predict.json; then a column for each uncertainty, named as its
score.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.errors import Damaged, FingerprintMismatch, PoolError, RunError
from raysal.store import (
    LOCK,
    TEMPORARY,
    check_bytes,
    check_size,
    fsync_path,
    read_sealed,
    remove_temporaries,
    sha256_of,
    temporary_name,
    write_sealed,
)

VERSION = 1
MANIFEST, FILES, COMMITS = "predict.json", "predictions", "commits"
ANEW = "use another directory for --out"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a folder of predictions holds: the same plan makes the same bytes."""

    pool: str
    """fingerprint"""
    items: int
    """with a vector, each of which is predicted"""
    quarantined: int
    """without one, which are not"""
    chunks: int
    chunk_rows: int
    encoder: str
    """fingerprint"""
    head: str
    """digest"""
    head_version: int
    link: str
    """name of the head's likelihood"""
    classes: tuple[str, ...]
    options: Mapping[str, Any]
    """predictive, top, uncertainty, draws, seed"""
    version: int = VERSION

    @classmethod
    def read(cls, out: Path) -> Plan:
        """
        Raises:
            PoolError: nothing was predicted there, or by a newer version.
            Damaged: the file was altered.
        """
        path = out / MANIFEST
        if not path.exists():
            if any((out / COMMITS).glob("*.json")):
                raise Damaged(path, "the file is missing", "restore it from a copy, or predict anew")
            raise PoolError(out, "holds no predictions", "make them with `raysal predict POOL --out DIRECTORY`")
        record = read_sealed(path, "restore it from a copy, or predict anew")
        if record.get("version") != VERSION:
            raise PoolError(path, f"version {record.get('version')}, this raysal reads {VERSION}", "update raysal")
        try:
            return cls(**{**record, "classes": tuple(record["classes"])})
        except (TypeError, KeyError) as error:
            raise Damaged(path, f"not a plan of predictions ({error})", "predict anew") from None

    def check_same(self, out: Path, begun: Plan) -> None:
        """
        Raises:
            FingerprintMismatch, RunError: what was `begun` in `out` is of another pool, head or option.
        """
        for name, what in (("pool", "the pool's fingerprint"), ("head", "the head's digest")):
            if getattr(begun, name) != getattr(self, name):
                raise FingerprintMismatch(out, what, getattr(begun, name), getattr(self, name), ANEW)
        if (begun.chunks, begun.chunk_rows) != (self.chunks, self.chunk_rows):
            raise RunError(out, f"was begun over a pool of {begun.chunks} chunks, not {self.chunks}", ANEW)
        for name, value in self.options.items():
            if begun.options.get(name) != value:
                raise RunError(out, f"was begun with {name} {begun.options.get(name)!r}, now {value!r}", ANEW)


def check_place(out: Path) -> None:
    """
    Raises:
        PoolError: the directory holds something else, so that predictions would lie among it.
    """
    if not out.is_dir() or (out / MANIFEST).exists():
        return
    ours = {LOCK, FILES, COMMITS}
    other = sorted(e.name for e in out.iterdir() if e.name not in ours and not e.name.startswith(TEMPORARY))
    if other:
        raise PoolError(out, f"holds something else ({other[0]})", ANEW)


class Staged(NamedTuple):
    """A chunk's file, complete under a temporary name; it counts for nothing until committed."""

    chunk: int
    rows: int
    temporary: str
    bytes: int
    sha256: str


def stage(out: Path, index: int, table: pa.Table) -> Staged:
    """Write the predictions of a chunk under a temporary name. Runs beside the data, in any process."""
    final = out / prediction_file(index)
    temporary = temporary_name(final, f"-{os.urandom(4).hex()}")
    try:
        pq.write_table(table, temporary)
        fsync_path(temporary)
        return Staged(index, table.num_rows, temporary.name, temporary.stat().st_size, sha256_of(temporary))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class PredictionWriter:
    """The one writer of a folder of predictions: begins or resumes it, and commits staged chunks."""

    def __init__(self, out: Path, plan: Plan) -> None:
        """
        Raises:
            FingerprintMismatch, RunError: the folder is of another pool, head or option.
            Damaged: its manifest, a record or a committed file is not as it was written.
            OSError: it cannot be written.
        """
        self.out, self.plan = out, plan
        for folder in (FILES, COMMITS):
            (out / folder).mkdir(parents=True, exist_ok=True)
        self.remove_leftovers()
        if (out / MANIFEST).exists() or any((out / COMMITS).glob("*.json")):
            plan.check_same(out, Plan.read(out))
        else:
            write_sealed(out / MANIFEST, asdict(plan))
        self.committed = dict(_records(out, plan.chunks))

    def remove_leftovers(self) -> None:
        """Delete what an interrupted writer left."""
        for folder in (self.out / FILES, self.out / COMMITS):
            remove_temporaries(folder)
        remove_temporaries(self.out, MANIFEST)

    def commit(self, staged: Staged) -> None:
        """Give a staged file its name, then write its record.

        Raises:
            Damaged: the staged file is gone.
        """
        final = self.out / prediction_file(staged.chunk)
        source = final.with_name(staged.temporary)
        if not source.exists():
            raise Damaged(source, "a staged file is gone", "run the same command again")
        os.replace(source, final)
        fsync_path(final.parent)
        entry = {"bytes": staged.bytes, "sha256": staged.sha256}
        record = {"index": staged.chunk, "rows": staged.rows, "files": {prediction_file(staged.chunk): entry}}
        write_sealed(self.out / commit_file(staged.chunk), record)
        self.committed[staged.chunk] = staged.rows


class Predictions:
    """A finished folder of predictions. Every read compares a file with its record first."""

    def __init__(self, path: str | Path) -> None:
        """
        Raises:
            PoolError: nothing was predicted there, or it was not finished.
            Damaged: a file is not as it was written.
        """
        self.path = Path(path)
        self.plan = Plan.read(self.path)
        missing = sum(not (self.path / commit_file(index)).exists() for index in range(self.plan.chunks))
        if missing:
            problem = f"{self.plan.chunks - missing} of {self.plan.chunks} chunks are predicted"
            raise PoolError(self.path, problem, "run the same `raysal predict` again to finish it")

    def __len__(self) -> int:
        return self.plan.items

    def tables(self) -> Iterator[pa.Table]:
        """The predictions chunk by chunk, in id order."""
        for index in range(self.plan.chunks):
            _intact(self.path, index)
            # Not `read_table`: that would take a folder called "a=b" on the way for a column.
            with pq.ParquetFile(self.path / prediction_file(index)) as file:
                yield file.read()

    def table(self) -> pa.Table:
        """All of them. Memory for the whole."""
        return pa.concat_tables(list(self.tables()))


def prediction_file(index: int) -> str:
    """Relative path of a chunk's predictions."""
    return f"{FILES}/{index:05d}.parquet"


def commit_file(index: int) -> str:
    """Relative path of a chunk's commit record."""
    return f"{COMMITS}/{index:05d}.json"


def _records(out: Path, chunks: int) -> Iterator[tuple[int, int]]:
    """(chunk, rows) of what is committed, its bytes compared with the record."""
    for index in range(chunks):
        if (out / commit_file(index)).exists():
            yield index, _intact(out, index)


def _intact(out: Path, index: int) -> int:
    """The rows of a committed chunk. Raises: Damaged: its file or record is not as it was written."""
    fix = f"delete {commit_file(index)} and predict again"
    record, path = read_sealed(out / commit_file(index), fix), out / prediction_file(index)
    entry = record.get("files", {}).get(prediction_file(index))
    if record.get("index") != index or entry is None:
        raise Damaged(out / commit_file(index), "not the record of this chunk", fix)
    check_size(path, entry["bytes"], fix)
    check_bytes(path, entry["sha256"], fix)
    return int(record["rows"])
