"""The labels of a run in the words of people: keys instead of ids, texts as its trainer takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from raysal.arrays import texts_of
from raysal.errors import Damaged
from raysal.labels import Labels, Ledger, TellCounts, as_labels
from raysal.models.likelihood import Likelihood
from raysal.models.trainers import TRAINERS
from raysal.pool import Pool, open_pool
from raysal.rounds.directory import RunDir


class RunLabels:
    """The ledger of a run, told by key. Several processes may hold the same ledger at once."""

    def __init__(self, ledger: Ledger, pool: Pool, likelihood: Likelihood) -> None:
        self.ledger = ledger
        self._pool, self._likelihood = pool, likelihood

    @classmethod
    def open(cls, run: Path, pool: Path | None = None, fix: str | None = None) -> RunLabels:
        """The labels of a run that is there, whatever another process is doing with it.

        Args:
            run: the run directory.
            pool: the run's pool, where it lies elsewhere than the run's config says.
            fix: what the error recommends where there is no run.

        Returns:
            The labels; close them after use.

        Raises:
            RunError: no run is there.
            FingerprintMismatch: the pool is not the one the run began with.
            PoolError: the pool cannot be opened.
            Damaged: a file of the run was altered.
        """
        there = RunDir(run)
        config = there.require_config(fix)
        opened = open_pool(config.pool if pool is None else pool)
        there.check_pool(opened)
        likelihood = config.update.trainer.build("update.trainer", TRAINERS).likelihood
        return cls(there.open_ledger(), opened, likelihood)

    def tell(self, labels: Labels) -> TellCounts:
        """Take labels by key: all of them, or none.

        Args:
            labels: {key: label}, `Label`s, a Series by key, or a frame with the columns `key` and `label`.

        Returns:
            How many were new, repeated, corrected, disputed.

        Raises:
            LabelError: a key is not in the pool, or a label or weight cannot be accepted.
        """
        plain = self._likelihood.plain
        given = [replace(label, label=plain(label.label, repr(label.key))) for label in as_labels(labels)]
        ids = self.ids_of([label.key for label in given])
        return self.ledger.tell([(ids[label.key], label) for label in given])

    def skip(self, keys: Sequence[str], annotator: str = "") -> int:
        """Record that an annotator will not label these items.

        Args:
            keys: the items.
            annotator: who will not.

        Returns:
            How many of these skips are new.

        Raises:
            LabelError: a key is not in the pool.
            ConfigError: the keys are no column of texts.
        """
        keys = texts_of("keys", keys)
        ids = self.ids_of(keys)
        return sum(self.ledger.skip(ids[key], key, annotator) for key in keys)

    def withdraw(self, keys: Sequence[str], annotator: str = "") -> int:
        """Take back what an annotator said of these items, labels and skips.

        Args:
            keys: the items.
            annotator: whose answers.

        Returns:
            How many answers there were.

        Raises:
            LabelError: a key is not in the pool.
            ConfigError: the keys are no column of texts.
        """
        keys = texts_of("keys", keys)
        ids = self.ids_of(keys)
        return sum(self.ledger.withdraw(ids[key], annotator) for key in keys)

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Ids by key: from the ledger for items it has seen, else by one pass over the pool's items.

        Args:
            keys: the items.

        Returns:
            The id of each key.

        Raises:
            LabelError: a key is not in the pool.
        """
        known = self.ledger.key_ids(keys)
        return known | self._pool.ids_of([key for key in dict.fromkeys(keys) if key not in known])

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lease_newest(run: RunDir, ledger: Ledger) -> None:
    """Lease the newest round, in case a crash came between its rename and its lease; no earlier one can lack it.

    Raises:
        Damaged: the ledger leased for a round that is not there.
    """
    rounds, leased = run.rounds, ledger.last_round
    if leased is not None and leased >= rounds:
        raise Damaged(run.folder(leased), "the round is missing", "restore it from a copy")
    if rounds:
        batch = run.batch(rounds - 1)
        ledger.lease(batch.round, batch.ids, batch.keys)
