"""The labels of a run in the words of people: keys instead of ids, texts as its trainer takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from raysal.arrays import texts_of
from raysal.labels import Labels, Ledger, TellCounts, as_labels
from raysal.models.likelihood import Likelihood
from raysal.models.trainers import TRAINERS
from raysal.pool import Pool, open_pool
from raysal.rounds.binding import Rebound, meet_pool, own_pool
from raysal.rounds.directory import RunDir
from raysal.store import locked
from raysal.threads import one_at_a_time


@one_at_a_time
class RunLabels:
    """The ledger of a run, told by key. Several threads may share it, and several processes the ledger.

    The pool is read for items that the ledger does not know yet, and for nothing else.
    """

    rebound: Rebound | None = None
    """What became of the items when it was opened with `rebind`."""

    def __init__(self, run: RunDir, ledger: Ledger, likelihood: Likelihood, pool: Pool | None = None) -> None:
        self.ledger = ledger
        self._run, self._likelihood, self._pool = run, likelihood, pool

    @classmethod
    def open(cls, run: Path, pool: Path | None = None, fix: str | None = None, *, rebind: bool = False) -> RunLabels:
        """The labels of a run that is there, whatever another process is doing with it.

        Args:
            run: the run directory.
            pool: the run's pool, where it lies elsewhere than the run's config says; the config then says so, too.
            fix: what the error recommends where there is no run.
            rebind: if the labels are of another pool, match them by key with `pool`, or with the one that the config
                names.

        Returns:
            The labels; close them after use.

        Raises:
            RunError: no run is there; or, with `rebind`, another process is at work on it.
            FingerprintMismatch: the labels are of another pool than `pool`.
            PoolError: the pool was asked for and cannot be opened.
            Damaged: a file of the run was altered.
        """
        there = RunDir(run)
        config = there.require_config(fix)
        given = own_pool(config) if rebind and pool is None else None if pool is None else open_pool(pool)
        likelihood = config.update.trainer.build("update.trainer", TRAINERS).likelihood
        labels = cls(there, there.open_ledger(), likelihood, given)
        try:
            if given is not None:
                labels._meet(given, rebind)
                there.remember_pool(given.path)
        except BaseException:
            labels.close()
            raise
        return labels

    def _meet(self, pool: Pool, rebind: bool) -> None:
        if rebind:
            with locked(self._run.path, "run"):
                self.rebound = meet_pool(self._run, self.ledger, pool, rebind=True)
        else:
            meet_pool(self._run, self.ledger, pool)

    def tell(self, labels: Labels) -> TellCounts:
        """Take labels by key: all of them, or none.

        Args:
            labels: {key: label}, `Label`s, a Series by key, or a frame with the columns `key` and `label`.

        Returns:
            How many were new, repeated, corrected, disputed.

        Raises:
            LabelError: a key is not in the pool, or a label or weight cannot be accepted.
            FingerprintMismatch: the labels of the run are of another pool.
        """
        plain = self._likelihood.plain
        given = [replace(label, label=plain(label.label, repr(label.key))) for label in as_labels(labels)]
        ids = self.new_ids([label.key for label in given])
        return self.ledger.tell([(ids.get(label.key), label) for label in given])

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
            FingerprintMismatch: the labels of the run are of another pool.
        """
        keys = texts_of("keys", keys)
        ids = self.new_ids(keys)
        return sum(self.ledger.skip(ids.get(key), key, annotator) for key in keys)

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
            FingerprintMismatch: the labels of the run are of another pool.
        """
        keys = texts_of("keys", keys)
        self.new_ids(keys)
        return sum(self.ledger.withdraw(key, annotator) for key in keys)

    def new_ids(self, keys: Sequence[str]) -> dict[str, int]:
        """Ids of the items that the ledger has not seen, by one pass over the pool's items; it is not read for others.

        Args:
            keys: the items.

        Returns:
            The id of each key that the ledger does not know.

        Raises:
            LabelError: a key is not in the pool.
            PoolError: the pool is needed and cannot be opened.
            FingerprintMismatch: the labels of the run are of another pool.
        """
        unknown = self.ledger.unknown(keys)
        if not unknown:
            return {}
        if self._pool is None:
            pool = own_pool(self._run.require_config())
            meet_pool(self._run, self.ledger, pool)
            self._pool = pool
        return self._pool.ids_of(unknown)

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
