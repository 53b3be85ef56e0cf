"""The beginning of a program of the fleet, and what of a ledger a head may learn: held-out items are in neither."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, fields
from heapq import nsmallest
from typing import Self

import numpy as np
from numpy.typing import NDArray

from raysal.config import RunConfig
from raysal.errors import ConfigError
from raysal.fleet import Fleet, exclude
from raysal.labels import Ledger
from raysal.labels.records import Changes, Labelled
from raysal.pool import Pool
from raysal.rng import item_uniform
from raysal.rounds.evaluation import HeldOut, hold_out


def start_program(fleet: Fleet, taken: NDArray[np.int64], held_out: HeldOut | None) -> int:
    """Reset the fleet and take out what must not be offered. One or two round trips.

    Args:
        fleet: the pool's partitions; whatever program was running ends.
        taken: ids int64 that have a label, wait for one, or were skipped.
        held_out: the items kept for the evaluation.

    Returns:
        How many items are left.
    """
    fleet.reset()
    if held_out is not None:
        fleet.each(hold_out, *held_out)
    return sum(fleet.each(exclude, taken))


@dataclass(frozen=True, kw_only=True)
class TrainingLabels:
    """The labels of a run that heads learn from. No label of a held-out item is among them, whoever told it and when.

    Everything that makes or moves a head reads the ledger through this. Which items are held out goes by their ids. So
    after the labels were matched with another pool, an item may be among them that a round had asked for: it trains,
    and measures nothing.
    """

    ledger: Ledger
    held_out: HeldOut | None
    votes: bool
    """whether disputed items train, with shares"""

    @classmethod
    def of(cls, ledger: Ledger, config: RunConfig) -> Self:
        """Those of a run with this ledger."""
        return cls(ledger=ledger, held_out=HeldOut.of(config), votes=config.update.disputed == "votes")

    @property
    def head_seq(self) -> int:
        """Number of the ledger's last event."""
        return self.ledger.head_seq

    def labels(self, upto: int, ids: NDArray[np.int64] | None = None) -> list[Labelled]:
        """The training set as it was after an event, or what of it these items are; see `Ledger.labels`."""
        items = self.ledger.labels(upto, ids, votes=self.votes)
        held = self._held(np.array([item.id for item in items], np.int64))
        return [item for item, out in zip(items, held, strict=True) if not out]

    def changed_since(self, seq: int, upto: int) -> Changes:
        """How the training set differs between two events; see `Ledger.changed_since`."""
        changes = self.ledger.changed_since(seq, upto, votes=self.votes)
        kept = {}
        for field in fields(changes):
            ids: NDArray[np.int64] = getattr(changes, field.name)
            kept[field.name] = ids[~self._held(ids)]
        return Changes(**kept)

    def tests(self, upto: int | None = None) -> dict[int, str]:
        """What people say of held-out items, where they agree: {id: label}, after an event or now."""
        if self.held_out is None:
            return {}
        items = self.ledger.labels(upto)
        held = self._held(np.array([item.id for item in items], np.int64))
        return {item.id: item.label for item, out in zip(items, held, strict=True) if out}

    def _held(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these items are held out, [n]."""
        if self.held_out is None:
            return np.zeros(len(ids), bool)
        return self.held_out.among(ids) & ~self.ledger.asked(ids)


def held_out_keys(pool: Pool, config: RunConfig, taken: Set[int], most: int) -> list[str]:
    """The keys of held-out items to label by hand: the first of one random order, so always a uniform sample.

    Streams the pool's items once; memory for those that are returned.

    Args:
        pool: the run's pool.
        config: of the run.
        taken: ids of items that somebody labelled or skipped; they are left out.
        most: how many are wanted at most.

    Returns:
        The keys, in that order; fewer where fewer are left.

    Raises:
        ConfigError: the run holds out nothing.
    """
    held_out = HeldOut.of(config)
    if held_out is None:
        raise ConfigError("rounds.holdout", "0: the run holds out no items", "begin a run with holdout = 0.2, or less")
    best: list[tuple[float, int, str]] = []
    for table in pool.items(["id", "key"]):
        ids = table["id"].to_numpy()
        rows = np.flatnonzero(held_out.among(ids))
        draws, keys = item_uniform(held_out.key, ids[rows]).tolist(), table["key"].take(rows).to_pylist()
        found = [row for row in zip(draws, ids[rows].tolist(), keys, strict=True) if row[1] not in taken]
        best = nsmallest(most, [*best, *found])
    return [key for _, _, key in best]
