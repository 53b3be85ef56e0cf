"""The labels of a run in the words of people: keys instead of ids, texts as its trainer takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from raysal.errors import Damaged
from raysal.labels import Ledger, TellCounts, as_labels
from raysal.labels.confusable import check_classes
from raysal.models.likelihood import Likelihood
from raysal.models.trainers import TRAINERS
from raysal.pool import Pool, open_pool
from raysal.rounds.directory import RunDir
from raysal.types import SKIP, Label


class RunLabels:
    """The ledger of a run, told by key. Several processes may hold the same ledger at once."""

    def __init__(self, ledger: Ledger, pool: Pool, likelihood: Likelihood) -> None:
        self.ledger = ledger
        self._pool, self._likelihood = pool, likelihood

    @property
    def pool_path(self) -> Path:
        """The directory of the run's pool."""
        return self._pool.path

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

    def tell(
        self,
        labels: Sequence[Label] | Mapping[str, str | float],
        *,
        withdrawn: Sequence[tuple[str, str]] = (),
        strict: bool = False,
    ) -> TellCounts:
        """Take labels by key: all of them, or none.

        Warns of a new class that may be another one misspelled, or a missing value (`raysal.labels.confusable`).

        Args:
            labels: labels by key, or `Label`s. The text `!skip` is a skip.
            withdrawn: (key, annotator) pairs, whose answers are taken back.
            strict: refuse what would be a warning.

        Returns:
            How many were new, repeated, corrected, disputed.

        Raises:
            LabelError: a key is not in the pool, or a label or weight cannot be accepted.
        """
        given = [replace(label, label=self._plain(label)) for label in as_labels(labels)]
        ids = self.ids_of([*(label.key for label in given), *(key for key, _ in withdrawn)])
        if self._likelihood.discrete:
            texts, known = (label.label for label in given), self.ledger.texts
            check_classes(texts, known, self._likelihood.names_in, strict=strict)
        return self.ledger.tell(
            [(ids[label.key], label) for label in given], withdrawn=[(ids[key], who) for key, who in withdrawn]
        )

    def _plain(self, label: Label) -> str:
        """The text of a label as the trainer spells it."""
        return SKIP if label.label == SKIP else self._likelihood.plain(label.label, repr(label.key))

    def skip(self, keys: Sequence[str], annotator: str = "") -> int:
        """Record that an annotator will not label these items.

        Args:
            keys: the items.
            annotator: who will not.

        Returns:
            How many of these skips are new.

        Raises:
            LabelError: a key is not in the pool.
        """
        return self.tell([Label(key=key, label=SKIP, annotator=annotator) for key in keys]).skipped

    def withdraw(self, keys: Sequence[str], annotator: str = "") -> int:
        """Take back what an annotator said of these items, labels and skips.

        Args:
            keys: the items.
            annotator: whose answers.

        Returns:
            How many answers there were.

        Raises:
            LabelError: a key is not in the pool.
        """
        return self.tell([], withdrawn=[(key, annotator) for key in keys]).withdrawn

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

    def unknown(self, keys: Sequence[str]) -> list[str]:
        """The keys that neither the ledger nor the pool has, in their order."""
        known = self.ledger.key_ids(keys)
        return unknown_keys(self._pool, [key for key in keys if key not in known])

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def unknown_keys(pool: Pool, keys: Sequence[str]) -> list[str]:
    """The keys that a pool lacks, each once, in their order. One pass over the items."""
    asked = list(dict.fromkeys(keys))
    found = set(pool.rows_where("key", asked, ["key"])["key"].to_pylist()) if asked else set()
    return [key for key in asked if key not in found]


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
