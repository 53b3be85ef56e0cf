"""Read a run directory: its config, its rounds, its closing record and its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from raysal.config import RunConfig
from raysal.errors import RunError
from raysal.labels import Ledger, State
from raysal.models.head import Head
from raysal.models.likelihood import Likelihood
from raysal.models.trainers import TRAINERS
from raysal.pool import Pool
from raysal.rounds.binding import check_pool, own_pool
from raysal.rounds.directory import EMBEDDING, Record, RunDir
from raysal.rounds.training_labels import count_outputs
from raysal.store import read_sealed


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
        """The strategy's name."""
        return self.config.select.name

    @cached_property
    def likelihood(self) -> Likelihood:
        """What its labels are."""
        return self.config.update.trainer.build("update.trainer", TRAINERS).likelihood

    def batch(self, round: int) -> pa.Table:
        """Read the batch of a round.

        Args:
            round: its number.

        Returns:
            Columns id, key, rank, score, reason, strategy, head_version.

        Raises:
            Damaged: the file is missing or unreadable.
        """
        return RunDir(self.path).batch(round).table

    def newest_head(self) -> Head | None:
        """The head of the newest record that has one; None before the first."""
        for record in reversed(self.records):
            if record["head_version"] is not None:
                return RunDir(self.path).head(None if record is self.final else record["round"])
        return None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the ledger holds."""

    classes: Mapping[str, str]
    """the label of each labeled item by key, as people read it (numbers with six digits)"""
    counts: Mapping[State, int]
    """how many items are in each state"""
    given: Mapping[str, int] = field(default_factory=dict)
    """how many items have each class; an item of several labels counts for each; empty for numbers"""
    pool: str | None = None
    """fingerprint of the pool that the labels are of; None where the ledger does not say"""
    ids: Mapping[str, int | None] = field(default_factory=dict)
    """the id of each item that has events, by key; None where the pool does not have it"""

    def id_of(self, key: str, id: int, pool: str) -> int | None:
        """The id that an item of a batch has now.

        Args:
            key: the item's key.
            id: its id when the batch was chosen.
            pool: fingerprint of the pool that the batch was chosen from.

        Returns:
            The id; None if the pool of now does not have the item.
        """
        return id if self.pool in (None, pool) else self.ids.get(key)


def read_arm(run: Path) -> Arm:
    """Read the records of an arm.

    Args:
        run: the run directory.

    Returns:
        The arm.

    Raises:
        RunError: no run is there.
        Damaged: a record is missing or was altered.
    """
    there = RunDir(run)
    config = there.config()
    if config is None:
        raise RunError(run, "no run is there", "start one with `raysal run CONFIG --out RUN`")
    rounds = [there.record(round) for round in range(there.rounds)]
    embedding = run / EMBEDDING
    if rounds and embedding.exists():  # the pool is embedded once, before the first round
        rounds[0]["seconds"] = {"embed": read_sealed(embedding)["seconds"], **rounds[0]["seconds"]}
    return Arm(path=run, config=config, rounds=tuple(rounds), final=there.final())


def read_control(run: Path) -> Arm | None:
    """The control arm of a run; None where it has none, or it has not begun."""
    control = RunDir(run).control
    return read_arm(control.path) if control.config() is not None else None


def read_answers(arm: Arm) -> Answers:
    """The labels of an arm as they are now; no labels where there is no ledger yet."""
    path = RunDir(arm.path).ledger
    if not path.exists():
        return Answers(classes={}, counts={})
    with Ledger(path, create=False) as ledger:
        items, likelihood = ledger.labels(), arm.likelihood
        return Answers(
            classes={item.key: likelihood.shown(item.label) for item in items},
            counts=ledger.counts(),
            pool=ledger.pool,
            ids=ledger.known_ids(),
            given=count_outputs(items, likelihood) if likelihood.discrete else {},
        )


def pool_of(arm: Arm) -> Pool:
    """Open the pool that the rounds were chosen from.

    Args:
        arm: the run's records.

    Returns:
        The pool.

    Raises:
        PoolError: it cannot be opened.
        Damaged: it was altered.
        FingerprintMismatch: another pool lies there now.
    """
    pool, run = own_pool(arm.config), RunDir(arm.path)
    if run.has_ledger:
        with run.open_ledger() as ledger:
            check_pool(run, ledger, pool)
    return pool
