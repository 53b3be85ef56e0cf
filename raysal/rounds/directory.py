"""What lies where in a run directory, and the one way to read it.

    run.json                     the config (sealed)
    ledger.sqlite                the labels: the only truth
    like.json                    the queries for what is looked for, as vectors (sealed; only where there are some)
    like/0.jpg                   the pictures among them
    embed.json                   what embedding took, where the run did it (sealed)
    rounds/0000/batch.parquet    the batch: id, key, rank, score, reason, strategy, head_version
    rounds/0000/head.safetensors the head that chose it (none before the first label)
    rounds/0000/round.json       how it was chosen, what it took, and the sha256 of the batch (sealed)
    rounds/0000/memory.safetensors what its narrower remembers for the next round (only where it does)
    final/                       head and round.json after the last labels, without a batch
    control/                     the random arm, if there is one: a run directory of its own

A round appears in one rename. Reading checks every byte: a flipped one names its file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.config import RunConfig, parse_config
from raysal.errors import Damaged, RunError, UserError
from raysal.labels import Ledger
from raysal.memory import Memory
from raysal.models.head import Head
from raysal.pool import Pool
from raysal.pool.place import place_of
from raysal.rounds.batch import Batch
from raysal.store import (
    LOCK,
    check_kind,
    is_locked,
    publish_directory,
    read_sealed,
    remove_temporaries,
    temporary_name,
    write_file,
    write_sealed,
)

RUN, LEDGER, ROUNDS, FINAL = "run.json", "ledger.sqlite", "rounds", "final"
BATCH, HEAD, RECORD, MEMORY = "batch.parquet", "head.safetensors", "round.json", "memory.safetensors"
EMBEDDING, LIKE, LIKE_FILES = "embed.json", "like.json", "like"
CONTROL = "control"
PARTS = (RUN, ROUNDS, FINAL, EMBEDDING, LIKE, LIKE_FILES, CONTROL)
"""What lies in a run directory beside the ledger's files and the lock."""
VERSION = 1
RESTORE = "restore it from a copy"
START = "start one with `raysal run CONFIG --out RUN`, or check the path"

Record = Mapping[str, Any]


@dataclass(frozen=True)
class RunDir:
    """A run directory, there or not yet."""

    path: Path

    @property
    def ledger(self) -> Path:
        """The file of the labels."""
        return self.path / LEDGER

    @property
    def control(self) -> RunDir:
        """The run directory of the random arm, there or not."""
        return RunDir(self.path / CONTROL)

    def config(self) -> RunConfig | None:
        """The config the run was begun with.

        Returns:
            The config; None if there is no run.

        Raises:
            Damaged: its run.json was altered, or is gone beside a ledger.
            RunError: its run.json is of another version.
        """
        path = self.path / RUN
        begun = self.ledger.exists()  # looked for first: another process may begin the run just now, and writes it last
        if not path.exists():
            if begun:
                raise Damaged(path, "the file is missing beside a ledger", RESTORE)
            return None
        record = read_sealed(path)
        if record.get("version") != VERSION:
            raise RunError(path, f"version {record.get('version')}, this raysal reads {VERSION}", "update raysal")
        return parse_config(record["config"])

    def require_config(self, fix: str | None = None) -> RunConfig:
        """The config of a run that must be there.

        Args:
            fix: what the error recommends where there is none.

        Returns:
            The config the run was begun with.

        Raises:
            RunError: no run is there.
            Damaged: its run.json was altered.
        """
        config = self.config()
        if config is None:
            raise RunError(self.path, "no run is there", fix or START)
        return config

    @property
    def has_ledger(self) -> bool:
        """Whether the ledger must be there: it is, or there are rounds. A reader opens it then, and makes none."""
        return self.ledger.exists() or self.rounds > 0

    def open_ledger(self) -> Ledger:
        """The run's labels; the file is made if there are neither labels nor rounds yet.

        Returns:
            The open ledger.

        Raises:
            Damaged: it is missing beside rounds, or was altered.
        """
        return Ledger(self.ledger, create=self.rounds == 0)

    def begin(self, config: RunConfig) -> None:
        """Make the directory and keep the config in it, unless it is there. From here on the run can be resumed.

        Raises:
            RunError: the directory is that of a pool, or of predictions, or holds files of other kinds.
        """
        check_kind(self.path, RUN)
        self._check_place()
        (self.path / ROUNDS).mkdir(parents=True, exist_ok=True)
        if not (self.path / RUN).exists():
            config = config.model_copy(update={"pool": place_of(config.pool)})
            write_sealed(self.path / RUN, {"config": config.model_dump(mode="json"), "version": VERSION})

    def _check_place(self) -> None:
        """Refuse to begin a run among files that are none of a run's. Configs and hidden files may be there."""
        if (self.path / RUN).exists() or not self.path.is_dir():
            return
        names = sorted(entry.name for entry in self.path.iterdir())
        others = [
            name for name in names if not (name.startswith((".", LEDGER)) or name in PARTS or name.endswith(".toml"))
        ]
        if others:
            some = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
            raise RunError(self.path, f"holds something else ({some})", "name a directory that is new or empty")

    @contextmanager
    def undone_if_refused(self) -> Iterator[None]:
        """Take back a run that is begun inside the block, if the block is refused before anything of it counts.

        A refusal is an error of the user's input. What counts is a round, and an event of the ledger.

        Yields:
            Once.

        Raises:
            UserError: that of the block.
        """
        made, begun = not self.path.exists(), not (self.path / RUN).exists()
        try:
            yield
        except UserError:
            if begun and (self.path / RUN).exists() and not is_locked(self.path) and self._is_blank():
                self._remove_blank(made)
            raise

    def _is_blank(self) -> bool:
        """Whether nothing was chosen or said yet, in the control arm neither."""
        if self.rounds or (self.path / FINAL).exists() or (self.control.path.exists() and not self.control._is_blank()):
            return False
        if not self.ledger.exists():
            return True
        with self.open_ledger() as ledger:
            return not any(ledger.counts().values())

    def _remove_blank(self, directory: bool = True) -> None:
        """Delete the files of a run in which nothing counts, and its directory, unless something else is there."""
        if self.control.path.exists():
            self.control._remove_blank()
        pictures = read_sealed(self.path / LIKE).get("pictures", {}) if (self.path / LIKE).exists() else {}
        for name in (*pictures, LEDGER, EMBEDDING, LIKE, LOCK, RUN):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):
            (self.path / LIKE_FILES).rmdir()
        with suppress(OSError):
            (self.path / ROUNDS).rmdir()
            if directory:
                self.path.rmdir()

    def remove_leftovers(self) -> None:
        """Delete what an interrupted writer of rounds left. For the one process that is at work on the run.

        Other files of the run have other writers, which may be at work now.
        """
        remove_temporaries(self.path / ROUNDS)
        remove_temporaries(self.path, FINAL)

    @property
    def rounds(self) -> int:
        """Rounds committed so far."""
        folder = self.path / ROUNDS
        return sum(entry.name.isdigit() for entry in folder.iterdir()) if folder.is_dir() else 0

    def record(self, round: int | None) -> dict[str, Any]:
        """How a round was chosen, or with None the closing record."""
        return read_sealed(self.folder(round) / RECORD)

    def batch(self, round: int) -> Batch:
        """A committed batch.

        Args:
            round: counted from 0.

        Returns:
            The batch.

        Raises:
            Damaged: it is missing, or is not, to the byte, what its round.json names.
        """
        content = _intact(self.folder(round) / BATCH, self.record(round)["batch_sha256"])
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            return Batch(round=round, table=file.read())

    def head(self, round: int | None) -> Head | None:
        """The head a round was chosen by.

        Args:
            round: counted from 0; None is the closing record.

        Returns:
            The head; None if the round had none.

        Raises:
            Damaged: it is not the head its record names.
        """
        folder = self.folder(round)
        record = read_sealed(folder / RECORD)
        if record["head_digest"] is None:
            return None
        head = Head.load(folder / HEAD)
        if head.digest() != record["head_digest"]:
            raise Damaged(folder / HEAD, "is not the head its round.json names", RESTORE)
        return head

    def memory(self, round: int) -> Memory | None:
        """What a round's narrower remembered.

        Args:
            round: counted from 0.

        Returns:
            The memory; None if the narrower has none.

        Raises:
            Damaged: it is missing, or is not, to the byte, what its round.json names.
        """
        path, expected = self.folder(round) / MEMORY, self.record(round).get("memory_sha256")
        return None if expected is None else Memory.load(_intact(path, expected))

    def final(self) -> dict[str, Any] | None:
        """The closing record; None if the run was not closed, or went on after it was."""
        path = self.path / FINAL / RECORD
        record = read_sealed(path) if path.exists() else None
        return record if record is not None and record["round"] == self.rounds else None

    def is_of(self, round: int, pool: Pool) -> bool:
        """Whether a round was chosen from this pool, so that its ids, its head and its memory speak of it.

        Args:
            round: counted from 0.
            pool: the pool that the run's labels are of now.

        Returns:
            False for the rounds before the labels were matched with this pool by key.
        """
        return bool(self.record(round)["pool"] == pool.fingerprint)

    def remember_pool(self, pool: str | Path) -> None:
        """Keep in the config where the pool is, in one step. The rest of the config stays as it is."""
        record = read_sealed(self.path / RUN)
        if record["config"]["pool"] != (place := place_of(pool)):
            record["config"]["pool"] = place
            write_sealed(self.path / RUN, record)

    def publish(
        self,
        round: int | None,
        record: Record,
        head: Head | None,
        table: pa.Table | None,
        memory: Memory | None = None,
    ) -> None:
        """Commit a round, or the closing record in place of an older one, in one rename.

        Args:
            round: counted from 0; None is the closing record.
            record: what round.json says; the digests of the other files are added.
            head: what chose the round.
            table: the batch; None for the closing record.
            memory: what the narrower remembers for the next round.
        """
        final = self.folder(round)
        temporary = temporary_name(final)
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        if table is not None:
            pq.write_table(table, temporary / BATCH)
            record = {**record, "batch_sha256": hashlib.sha256((temporary / BATCH).read_bytes()).hexdigest()}
        if memory is not None:
            (temporary / MEMORY).write_bytes(content := memory.dump())
            record = {**record, "memory_sha256": hashlib.sha256(content).hexdigest()}
        if head is not None:
            content = head.content()
            write_file(temporary / HEAD, lambda path: path.write_bytes(content))
        write_sealed(temporary / RECORD, record)
        if round is None and final.exists():
            os.rename(final, temporary_name(final, "-old"))  # swept on the next start, should this process die here
        publish_directory(temporary, final)
        shutil.rmtree(temporary_name(final, "-old"), ignore_errors=True)

    def folder(self, round: int | None) -> Path:
        """Where a round lies; None is the closing record."""
        return self.path / FINAL if round is None else self.path / ROUNDS / f"{round:04d}"


def _intact(path: Path, sha256: str) -> bytes:
    """The bytes of a file of a round.

    Args:
        path: the file.
        sha256: of its bytes, in hex, as its round.json says.

    Returns:
        All of them.

    Raises:
        Damaged: they cannot be read, or are not those its round.json names.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})", RESTORE) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Damaged(path, "its bytes do not match the sha256 in its round.json", RESTORE)
    return content
