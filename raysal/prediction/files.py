"""The files of a folder of predictions, and the one way to write and to read them.

    predict.json                the pool, the head and the options of the job (sealed)
    head.safetensors            the head, so that the job can be finished whatever labels came since
    predictions/00000.parquet   one row for each item of the pool's chunk of that number, in id order
    commits/00000.json          the number of rows, and the bytes and sha256 of the file (sealed)

A chunk counts as predicted if and only if its commit record exists. The first columns are `id` and `key`. The next
ones depend on what the head predicts:

    classes   class, probability (of that class)
    labels    labels, label_probabilities (lists: those above 1/2, the likeliest first)
    numbers   value, standard_deviation (of a label around the value: of the posterior and the noise together)
    nothing   none of these, where there is no head

With classes or labels, `top_classes` and `top_probabilities` hold the likeliest ones. With `top = "all"`, the column
`probabilities` holds those of all classes instead, in the order of `classes` in predict.json. The next columns are the
scores, each under its name; `target_probability` and `target_log_odds` are the scores `probability` and `log_odds` of
the classes looked for, which `options` in predict.json names. The last column is `novelty`, where it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.commits import Parts, Staged, stage_file
from raysal.errors import Damaged, FingerprintMismatch, PoolError, RunError
from raysal.models.head import Head
from raysal.prediction.heads import ALL, KEPT, keep_head
from raysal.store import LOCK, TEMPORARY, read_sealed, remove_temporaries, write_sealed

VERSION = 1
MANIFEST, FILES, COMMITS = "predict.json", "predictions", "commits"
USE_ANOTHER = "use another directory for --out"
"""The fix where a directory holds other files or other predictions."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a folder of predictions holds, as predict.json records it. The same plan makes the same bytes."""

    pool: str
    """fingerprint"""
    items: int
    """items with a vector: all of them are predicted"""
    quarantined: int
    """items without a vector: none of them is"""
    chunks: int
    chunk_rows: int
    encoder: str
    """fingerprint"""
    head: str | None
    """digest; None where there is no head, and only novelty"""
    head_version: int | None
    link: str | None
    """name of the head's likelihood"""
    classes: tuple[str, ...]
    options: Mapping[str, Any]
    """of a head: predictive, top, uncertainty, draws, seed, and target where one is named; novelty where asked for"""
    version: int = VERSION
    head_from: str | None = None
    """whose head it is, for people: of which round, or of all labels there were"""
    labels_digest: str | None = None
    """digest of the labels behind the head; None where they are not known"""

    @classmethod
    def read(cls, out: Path) -> Plan:
        """Read the plan of a folder.

        Args:
            out: the folder of predictions.

        Returns:
            The plan in its predict.json.

        Raises:
            PoolError: nothing was predicted there, or a newer version did it.
            Damaged: the file was altered, or is missing beside commit records.
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
        """Refuse a folder that was begun with another plan.

        Args:
            out: the folder of predictions, for the error.
            begun: the plan that its predict.json records.

        Raises:
            FingerprintMismatch: it is of another pool or head.
            RunError: it was begun with other options, over a pool with other chunks, or when other labels were there.
        """
        if begun.pool == self.pool and begun.head != self.head and begun.head_from == self.head_from == ALL:
            problem = "is of all labels there were when it began, and those of now make another head"
            raise RunError(out, problem, USE_ANOTHER)
        for name, what in (("pool", "the pool's fingerprint"), ("head", "the head's digest")):
            if getattr(begun, name) != getattr(self, name):
                raise FingerprintMismatch(out, what, getattr(begun, name), getattr(self, name), USE_ANOTHER)
        if (begun.chunks, begun.chunk_rows) != (self.chunks, self.chunk_rows):
            raise RunError(out, f"was begun over a pool of {begun.chunks} chunks, not {self.chunks}", USE_ANOTHER)
        for name in {**begun.options, **self.options}:
            was, now = begun.options.get(name), self.options.get(name)
            if was != now:
                raise RunError(out, f"was begun with {name} {was!r}, now {now!r}", USE_ANOTHER)


def check_place(out: Path) -> None:
    """Refuse a directory that holds other files.

    Args:
        out: where predictions are to be written; it need not exist.

    Raises:
        PoolError: the directory holds something that is not a folder of predictions.
    """
    if not out.is_dir() or (out / MANIFEST).exists():
        return
    ours = {LOCK, FILES, COMMITS, *((KEPT,) if any((out / COMMITS).glob("*.json")) else ())}
    other = sorted(e.name for e in out.iterdir() if e.name not in ours and not e.name.startswith(TEMPORARY))
    if other:
        raise PoolError(out, f"holds something else ({other[0]})", USE_ANOTHER)


def stage(out: Path, index: int, table: pa.Table) -> Staged:
    """Write the predictions of a chunk under a temporary name. Any process may do so, beside the data.

    Args:
        out: the folder of predictions.
        index: the chunk's number in the pool.
        table: its rows.

    Returns:
        What the driver needs to commit the file.
    """
    file = stage_file(out, prediction_file(index), lambda temporary: pq.write_table(table, temporary))
    return Staged(index, table.num_rows, (file,))


class PredictionWriter:
    """The one writer of a folder of predictions: it begins or resumes the folder, and commits staged chunks."""

    def __init__(self, out: Path, plan: Plan, head: Head | None) -> None:
        """Begin a folder, or resume one of the same plan.

        Args:
            out: the folder of predictions.
            plan: what it is to hold.
            head: that of the plan.

        Raises:
            FingerprintMismatch: it is of another pool or head.
            RunError: it was begun with other options, or when other labels were there.
            Damaged: its predict.json, a record or a committed file is not as it was written.
            OSError: it cannot be written.
        """
        self.out, self.parts = out, parts_of(out)
        self.parts.begin()
        remove_temporaries(out, MANIFEST)
        remove_temporaries(out, KEPT)
        some = any((out / COMMITS).glob("*.json"))
        begun = Plan.read(out) if some or (out / MANIFEST).exists() else None
        if begun is None or not (some or begun.head is None or (out / KEPT).exists()):  # killed before it kept the head
            write_sealed(out / MANIFEST, asdict(plan))
        else:
            plan.check_same(out, begun)
        if head is not None and not (out / KEPT).exists():
            keep_head(out, head)
        self.committed = self.parts.committed(plan.chunks)

    def remove_leftovers(self) -> None:
        """Delete what an interrupted writer left."""
        self.parts.remove_leftovers()

    def commit(self, staged: Staged) -> None:
        """Give a staged file its name, then write its record.

        Args:
            staged: what `stage` returned.

        Raises:
            Damaged: the staged file is gone.
        """
        self.parts.commit(staged)
        self.committed[staged.part] = staged.rows


def unfinished(out: Path) -> Plan | None:
    """The plan of an interrupted job.

    Args:
        out: the folder of predictions; it need not exist.

    Returns:
        The plan; None where nothing was begun, or all is done.

    Raises:
        PoolError: a newer version began it.
        Damaged: the file was altered.
    """
    if not (out / MANIFEST).exists():
        return None
    plan = Plan.read(out)
    return plan if parts_of(out).missing(plan.chunks) else None


class Predictions:
    """A finished folder of predictions. Before it reads a file, it compares the file with its record."""

    def __init__(self, path: str | Path) -> None:
        """Open a folder.

        Args:
            path: the folder of predictions.

        Raises:
            PoolError: nothing was predicted there, or the job has not finished.
            Damaged: predict.json is not as it was written.
        """
        self.path = Path(path)
        self.plan = Plan.read(self.path)
        self.parts = parts_of(self.path)
        missing = len(self.parts.missing(self.plan.chunks))
        if missing:
            problem = f"{self.plan.chunks - missing} of {self.plan.chunks} chunks are predicted"
            raise PoolError(self.path, problem, "run the same `raysal predict` again to finish it")

    def __len__(self) -> int:
        return self.plan.items

    def tables(self) -> Iterator[pa.Table]:
        """Read the predictions chunk by chunk. Memory for one chunk.

        Yields:
            The rows of a chunk, in id order.

        Raises:
            Damaged: a file or its record is not as it was written.
        """
        for index in range(self.plan.chunks):
            self.parts.check(index)
            # Not `read_table`: it would read a folder named "a=b" in the path as a column.
            with pq.ParquetFile(self.path / prediction_file(index)) as file:
                yield file.read()

    def table(self) -> pa.Table:
        """Read all predictions into one table.

        Returns:
            One row for each item, in id order. Memory for all of them.

        Raises:
            Damaged: a file or its record is not as it was written.
        """
        return pa.concat_tables(list(self.tables()))


def prediction_file(index: int) -> str:
    """Relative path of a chunk's predictions."""
    return f"{FILES}/{index:05d}.parquet"


def parts_of(out: Path) -> Parts:
    """The chunks of a folder of predictions."""
    record = f"{COMMITS}/{{:05d}}.json"
    return Parts(out, (f"{FILES}/{{:05d}}.parquet",), record, f"delete {record} and predict again")
