"""The labels of a run in the words of people: keys instead of ids, texts as its trainer takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from raysal.arrays import texts_of
from raysal.errors import LabelError
from raysal.labels import Labels, Ledger, TellCounts, as_labels
from raysal.labels.confusable import check_classes
from raysal.labels.remarks import ByItem, remarks_of
from raysal.messages import some_names
from raysal.models.likelihood import Likelihood
from raysal.models.trainers import TRAINERS
from raysal.pool import Pool, open_pool
from raysal.pool.owners import pool_of_labels
from raysal.rounds.binding import Rebound, follows, meet_pool, own_pool, pool_to_write
from raysal.rounds.configs import config_of
from raysal.rounds.directory import RunDir
from raysal.rounds.held_out import held_out_keys
from raysal.store import locked, locked_if_free
from raysal.threads import one_at_a_time
from raysal.types import SKIP, Label


def begin_run(run: Path, pool: str | Path) -> None:
    """Begin a run of the default config over a pool, without a round. Where a run is, it stays as it is.

    Args:
        run: the run directory.
        pool: the pool.

    Raises:
        PoolError: the pool cannot be opened.
        RunError: the directory is that of a pool, or of predictions.
    """
    there = RunDir(run)
    if there.config() is None:
        opened = open_pool(pool)
        there.begin(config_of(there, opened, None, None, {}))


def known_ids(ledger: Ledger, pool: Pool, keys: Iterable[str]) -> dict[str, int]:
    """Ids of items that the pool has. It is read for those that the ledger does not know, and for no others.

    Args:
        ledger: of a run over the pool.
        pool: the pool.
        keys: the items, known or not.

    Returns:
        {key: id} of those that the pool has.
    """
    asked = list(dict.fromkeys(keys))
    found = ledger.key_ids(asked)
    return found | pool.ids_there([key for key in asked if key not in found])


@one_at_a_time
class RunLabels:
    """The ledger of a run, told by key. Several threads may share it, and several processes the ledger.

    The pool is read for items that the ledger does not know yet, and for nothing else.
    """

    rebound: Rebound | None = None
    """What became of the items when it was opened with `rebind`."""

    def __init__(self, run: RunDir, ledger: Ledger, likelihood: Likelihood, pool: Pool | None = None) -> None:
        self.ledger = ledger
        self._run, self._pool = run, pool
        self.likelihood = likelihood
        """What labels are, as the run's trainer takes them."""

    @classmethod
    def open(
        cls, run: Path, pool: str | Path | None = None, fix: str | None = None, *, rebind: bool = False
    ) -> RunLabels:
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
        given = None if pool is None else pool_of_labels(open_pool(pool), config.parts)
        given = own_pool(config) if rebind and given is None else given
        likelihood = config.update.trainer.build("update.trainer", TRAINERS).likelihood
        labels = cls(there, there.open_ledger(), likelihood, given)
        try:
            if given is not None:
                labels._meet(given, rebind)
                there.remember_pool(given.place)
        except BaseException:
            labels.close()
            raise
        return labels

    def _meet(self, pool: Pool, rebind: bool) -> None:
        if rebind:
            from raysal.rounds.queries import embed_queries, keep_queries  # pixels, which other commands do without

            queries = embed_queries(self._run, self._run.require_config().like, pool)
            with locked(self._run.path, "run"):
                keep_queries(self._run, queries)
                self.rebound = meet_pool(self._run, self.ledger, pool, rebind=True)
        else:
            self._pool = self._met(pool)

    def _met(self, pool: Pool) -> Pool:
        """Bind the labels to a pool, or to the generation of it that another process is at work with."""
        pool = pool_to_write(self._run, self.ledger, pool)
        # Others may be at work on the run: it is locked only where its items have to be matched.
        with locked_if_free(self._run.path) if follows(self._run, self.ledger, pool) else nullcontext(True) as free:
            meet_pool(self._run, self.ledger, pool, alone=free)
        return pool

    def tell(
        self,
        labels: Labels,
        *,
        withdrawn: Sequence[tuple[str, str]] = (),
        strict: bool = False,
        examples: bool = False,
        ids: Mapping[str, int] | None = None,
    ) -> TellCounts:
        """Take labels by key: all of them, or none.

        Warns of a new class that may be another one misspelled, or a missing value (`raysal.labels.confusable`).

        Args:
            labels: {key: label}, `Label`s, a Series by key, or a frame with the columns `key` and `label`. The text
                `!skip` is a skip.
            withdrawn: (key, annotator) pairs, whose answers are taken back.
            strict: refuse what would be a warning.
            examples: whether the run begins with these labels. They train, even where an item would be held out.
            ids: {key: id} that the caller has read in the pool of this run. The pool is not read for these.

        Returns:
            How many were new, repeated, corrected, disputed.

        Raises:
            LabelError: a key is not in the pool, or a label or weight cannot be accepted.
            FingerprintMismatch: the labels of the run are of another pool.
        """
        given = self.checked(labels)
        asked = [*(label.key for label in given), *(key for key, _ in withdrawn)]
        known = ids or {}
        found = {key: known[key] for key in self.ledger.unknown(key for key in asked if key in known)}
        found |= self.new_ids([key for key in asked if key not in known])
        if self.likelihood.discrete:
            check_classes((label.label for label in given), self.ledger.texts, self.likelihood.names_in, strict=strict)
        return self.ledger.tell(
            [(found.get(label.key), label) for label in given], withdrawn=withdrawn, examples=examples
        )

    def checked(self, labels: Labels) -> list[Label]:
        """Labels as `tell` takes them: each in its one spelling. Whether their keys are known is not asked.

        Args:
            labels: as of `tell`.

        Returns:
            The labels, in their order.

        Raises:
            LabelError: a label or weight cannot be accepted.
        """
        return [replace(label, label=self._plain(label)) for label in as_labels(labels)]

    def _plain(self, label: Label) -> str:
        """The text of a label as the trainer spells it."""
        return SKIP if label.label == SKIP else self.likelihood.plain(label.label, repr(label.key))

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
        return self.tell([Label(key=key, label=SKIP, annotator=annotator) for key in texts_of("keys", keys)]).skipped

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
        return self.tell([], withdrawn=[(key, annotator) for key in texts_of("keys", keys)]).withdrawn

    def release(self, keys: Sequence[str] | None = None) -> int:
        """Let items that wait for a label wait no more: rounds may offer them again. Answers that come are taken still.

        Args:
            keys: the items; None for all that wait. Those that do not wait stay as they are.

        Returns:
            How many waited.

        Raises:
            LabelError: no round has asked for a key, and nobody has said anything of it.
            ConfigError: the keys are no column of texts.
        """
        waiting = {key: id for id, key in self.ledger.outstanding()}
        if keys is not None:
            asked = dict.fromkeys(texts_of("keys", keys))
            if unknown := self.ledger.unknown(asked):
                fix = "`raysal label export RUN --waiting -o FILE` lists those that wait"
                raise LabelError(self._run.path, f"no round has asked for {some_names(map(repr, unknown))}", fix)
            waiting = {key: id for key, id in waiting.items() if key in asked}
        self.ledger.release(list(waiting.values()))
        return len(waiting)

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
        unseen = self.ledger.unknown(keys)
        return self.pool().ids_of(unseen) if unseen else {}

    def unknown(self, keys: Sequence[str]) -> list[str]:
        """The keys that neither the ledger nor the pool has, each once, in their order.

        Args:
            keys: the items.

        Returns:
            Those of which nothing is known.

        Raises:
            PoolError, FingerprintMismatch: as `new_ids`.
        """
        unseen = self.ledger.unknown(keys)
        found = self.pool().ids_there(unseen) if unseen else {}
        return [key for key in unseen if key not in found]

    def pools(self) -> frozenset[str]:
        """Fingerprints of the pools whose keys the run knows: its own, and those it was matched with before.

        Returns:
            At least one.

        Raises:
            PoolError, FingerprintMismatch: as `new_ids`, where the labels are bound to no pool yet.
        """
        return frozenset(self.ledger.pools or [self.pool().fingerprint])

    def held_out(self, most: int) -> list[str]:
        """Keys of held-out items that nobody labelled or skipped yet; see `held_out_keys`. Writes nothing.

        Args:
            most: how many are wanted at most.

        Returns:
            The keys.

        Raises:
            ConfigError: the run holds out nothing.
            PoolError: the pool cannot be opened.
            FingerprintMismatch: another pool lies in its place. Which items are held out goes by ids.
        """
        config = self._run.require_config()
        pool = own_pool(config) if self._pool is None else self._pool
        pool = pool_to_write(self._run, self.ledger, pool)
        return held_out_keys(pool, config, set(self.ledger.excluded().tolist()), most)

    def remarks(self, *, skips: bool = True) -> ByItem:
        """The notes and ratings that people gave beside their answers.

        Args:
            skips: also those of who skipped the item. Beside labels alone, they would seem to be of no answer.

        Returns:
            {key: {annotator: remark}}; nothing where nobody used the page.

        Raises:
            Damaged: their file was altered.
        """
        found = remarks_of(self._run.path)
        if skips or not found:
            return found
        out = {(label.key, label.annotator) for label in self.ledger.answers(skips=True) if label.label == SKIP}
        kept = {key: {who: said[who] for who in said if (key, who) not in out} for key, said in found.items()}
        return {key: said for key, said in kept.items() if said}

    def pool(self) -> Pool:
        """The pool, which is opened for items that the ledger does not know.

        Returns:
            The pool of the run's labels.

        Raises:
            PoolError: it cannot be opened.
            FingerprintMismatch: the labels of the run are of another pool.
        """
        if self._pool is None:
            self._pool = self._met(own_pool(self._run.require_config()))
        return self._pool

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
