"""What a run directory says about itself: its config, its rounds, its closing record, its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.config import RunConfig
from raysal.errors import Damaged, FingerprintMismatch, RunError
from raysal.label import Ledger, State
from raysal.pool import Pool, open_pool
from raysal.run import CONTROL, EMBEDDING
from raysal.session import BATCH, FINAL, HEAD, LEDGER, RECORD, ROUNDS, stored_config
from raysal.store import read_sealed
from raysal.update import Head

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm of a run: its directory, config and records."""

    path: Path
    config: RunConfig
    rounds: tuple[Record, ...]
    """round.json of each committed round, in order"""
    final: Record | None
    """the closing record; None while the run is not finished"""

    @property
    def records(self) -> tuple[Record, ...]:
        """The rounds, and the closing record if there is one."""
        return self.rounds if self.final is None else (*self.rounds, self.final)

    @property
    def strategy(self) -> str:
        """The selector's name."""
        return self.config.select.name

    def batch(self, round: int) -> pa.Table:
        """A round's batch: id, key, rank, score, reason, strategy, head_version.

        Raises:
            Damaged: the file is missing or unreadable.
        """
        path = _round(self.path, round) / BATCH
        try:
            return pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(path, f"cannot be read ({error})", "restore it from a copy") from None

    def newest_head(self) -> Head | None:
        """The head of the newest record that has one."""
        for record in reversed(self.records):
            if record["head_version"] is not None:
                folder = self.path / FINAL if record is self.final else _round(self.path, record["round"])
                return Head.load(folder / HEAD)
        return None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the ledger holds: the class of each labeled item, and how many items are in each state."""

    classes: Mapping[int, str]
    counts: Mapping[State, int]


def read_arm(run: Path) -> Arm:
    """The arm in a run directory.

    Raises:
        RunError: no run is there.
        Damaged: a record is missing or was altered.
    """
    config = stored_config(run)
    if config is None:
        raise RunError(run, "no run is there", "start one with `raysal run CONFIG --out RUN`")
    folder = run / ROUNDS
    count = sum(entry.name.isdigit() for entry in folder.iterdir()) if folder.is_dir() else 0
    closing = run / FINAL / RECORD
    rounds = [read_sealed(_round(run, round) / RECORD) for round in range(count)]
    embedding = run / EMBEDDING
    if rounds and embedding.exists():  # done once, before the first round
        rounds[0]["seconds"] = {"embed": read_sealed(embedding)["seconds"], **rounds[0]["seconds"]}
    return Arm(
        path=run,
        config=config,
        rounds=tuple(rounds),
        final=read_sealed(closing) if closing.exists() else None,
    )


def read_control(run: Path) -> Arm | None:
    """The control arm of a run, if it has begun."""
    path = run / CONTROL
    return read_arm(path) if stored_config(path) is not None else None


def read_answers(arm: Arm) -> Answers:
    """The labels of an arm as they stand now; none where there is no ledger yet."""
    path = arm.path / LEDGER
    if not path.exists():
        return Answers(classes={}, counts={})
    with Ledger(path, create=False) as ledger:
        return Answers(
            classes={item.id: item.label for item in ledger.labels()},
            counts=ledger.counts(),
        )


def pool_of(arm: Arm) -> Pool:
    """The pool the rounds were chosen from.

    Raises:
        PoolError, Damaged: it cannot be opened.
        FingerprintMismatch: another pool lies there now.
    """
    pool = open_pool(arm.config.pool)
    if arm.rounds and arm.rounds[0]["pool"] != pool.fingerprint:
        raise FingerprintMismatch(
            pool.path,
            "the pool's fingerprint",
            arm.rounds[0]["pool"],
            pool.fingerprint,
            "put the run's own pool there",
        )
    return pool


def _round(run: Path, round: int) -> Path:
    return run / ROUNDS / f"{round:04d}"
