"""What is known of a pool before a single batch is chosen from it: given labels, or those of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raysal.config import RunConfig
from raysal.context import LabelledVectors, Yield
from raysal.errors import FingerprintMismatch, LabelError
from raysal.fleet import Fleet
from raysal.labels import Labels, Ledger, as_labels, read_labels
from raysal.labels.confusable import check_classes
from raysal.labels.events import PendingEvent
from raysal.labels.items import ItemState
from raysal.labels.records import Labelled
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import Trainer, TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.pool import Pool
from raysal.rng import derive
from raysal.rounds.binding import check_labels_of, check_pool
from raysal.rounds.directory import RunDir
from raysal.rounds.gathering import gather_labelled
from raysal.rounds.held_out import HeldOut
from raysal.rounds.learner import HeadUpdate, next_head
from raysal.rounds.queries import queries_of
from raysal.rounds.training_labels import TrainingLabels, output_names
from raysal.rounds.yields import yields_of
from raysal.types import SKIP, Label

LabelsArgument = str | Path | Labels
"""A label file, a run directory, or labels as `as_labels` takes them."""


class Known(Protocol):
    """Labels, and what must not be offered."""

    @property
    def taken(self) -> NDArray[np.int64]:
        """Ids that must not be offered."""
        ...

    @property
    def pool_seen(self) -> str | None:
        """Fingerprint of the pool that a run's last round was chosen from; None before the first, and without a run."""
        ...

    @property
    def held_out(self) -> HeldOut | None:
        """The items that a run keeps for its evaluation."""
        ...

    @property
    def trainer(self) -> Trainer:
        """What makes a head of the labels."""
        ...

    @property
    def target(self) -> tuple[str, ...]:
        """The classes that a run looks for."""
        ...

    @property
    def yields(self) -> Sequence[Mapping[str, Yield]]:
        """What the last rounds of a run found by share."""
        ...

    def queries(self, pool: Pool) -> NDArray[np.float32] | None:
        """Vectors [q, d] of what a run looks for; see `raysal.rounds.queries`."""
        ...

    def next_head(self, fleet: Fleet, pool: Pool, seed: int) -> HeadUpdate:
        """The head for what is known, none where that is nothing. The program of the fleet has begun."""
        ...

    def without_head(self, fleet: Fleet, pool: Pool) -> HeadUpdate:
        """The labelled items as a head without a hidden layer would see them, and no head."""
        ...


@dataclass(frozen=True, kw_only=True)
class GivenLabels:
    """Labels without a run: the head is logistic."""

    items: Sequence[Labelled]
    """those that all annotators agree on, by id"""
    taken: NDArray[np.int64]
    held_out: HeldOut | None = None
    trainer: Trainer = field(default_factory=Logistic)
    target: tuple[str, ...] = ()
    yields: Sequence[Mapping[str, Yield]] = ()
    pool_seen: None = None

    @classmethod
    def of(cls, pool: Pool, labels: Sequence[Label]) -> GivenLabels:
        """Labels by the ledger's rules: an annotator's last one counts, and all must agree.

        Warns of classes that may be one misspelled, or a missing value.

        Args:
            pool: whose items the keys name.
            labels: in the order in which they were given. The text `!skip` is a skip.

        Returns:
            What they say, by id.

        Raises:
            LabelError: a key is not in the pool.
        """
        ids = pool.ids_of([label.key for label in labels])
        check_classes((label.label for label in labels), ())
        states: dict[int, ItemState] = {}
        for seq, label in enumerate(labels, 1):
            id = ids[label.key]
            event = PendingEvent(id, label.key, "labeled", label.label, label.annotator, label.weight)
            if label.label == SKIP:
                event = PendingEvent(id, label.key, "skipped", annotator=label.annotator)
            states.setdefault(id, ItemState(label.key)).apply(event, seq)
        items = [item for id, state in sorted(states.items()) if (item := state.labelled(id)) is not None]
        return cls(items=items, taken=np.array(sorted(states), np.int64))

    def queries(self, pool: Pool) -> NDArray[np.float32] | None:
        """None."""
        del pool
        return None

    def next_head(self, fleet: Fleet, pool: Pool, seed: int) -> HeadUpdate:
        """A logistic head fitted to the labels."""
        update = self.without_head(fleet, pool)
        if not self.items:
            return update
        head = self.trainer.fit(
            TrainingData(
                features=update.known.vectors,
                labels=[item.answer for item in self.items],
                weights=np.array([item.weight for item in self.items]),
                classes=output_names(self.items, self.trainer.likelihood),
                encoder=pool.vector_space,
                seed=derive(seed, "fit") % 2**32,
            )
        )
        return replace(update, head=head)

    def without_head(self, fleet: Fleet, pool: Pool) -> HeadUpdate:
        """See `Known.without_head`."""
        return no_head(gather_labelled(fleet, pool.dim, self.items))


@dataclass(frozen=True, kw_only=True)
class LabelsOfRun:
    """What a run over the pool knows. The run is left as it is."""

    run: RunDir
    config: RunConfig
    pool: Pool
    ledger: Ledger | None
    """None where the run has no labels yet"""
    trainer: Trainer

    @property
    def taken(self) -> NDArray[np.int64]:
        """Ids with a label, out for labelling, or skipped."""
        return np.empty(0, np.int64) if self.ledger is None else self.ledger.excluded()

    @property
    def pool_seen(self) -> str | None:
        """The fingerprint of the pool that the run's last round was chosen from; None before the first."""
        return self.run.record(self.run.rounds - 1)["pool"] if self.run.rounds else None

    @property
    def held_out(self) -> HeldOut | None:
        """The items that the run keeps for its evaluation."""
        return HeldOut.of(self.config, self.pool)

    @property
    def target(self) -> tuple[str, ...]:
        """The classes that the run looks for."""
        return self.config.target

    @property
    def yields(self) -> Sequence[Mapping[str, Yield]]:
        """What the run's last rounds found by share."""
        if self.ledger is None:
            return ()
        labels = TrainingLabels.of(self.ledger, self.config, self.pool)
        return yields_of(self.run, labels, labels.head_seq, self.target, self.trainer.likelihood)

    def queries(self, pool: Pool) -> NDArray[np.float32] | None:
        """Those of the run."""
        return queries_of(self.run, self.config.like, pool)

    def next_head(self, fleet: Fleet, pool: Pool, seed: int) -> HeadUpdate:
        """The head that the run's next round would have, whatever the `seed`."""
        del seed
        if self.ledger is None:
            return GivenLabels(items=(), taken=self.taken).next_head(fleet, pool, 0)
        return next_head(fleet, pool, self.run, self.ledger, self.trainer, self.config)

    def without_head(self, fleet: Fleet, pool: Pool) -> HeadUpdate:
        """See `Known.without_head`."""
        if self.ledger is None:
            return GivenLabels(items=(), taken=self.taken).without_head(fleet, pool)
        labels = TrainingLabels.of(self.ledger, self.config, self.pool)
        known = gather_labelled(fleet, pool.dim, labels.labels(upto=labels.head_seq))
        return no_head(replace(known, likelihood=self.trainer.likelihood))


def no_head(known: LabelledVectors) -> HeadUpdate:
    """Labelled items, and no head."""
    return HeadUpdate(head=None, known=known, decision="first labels", fitted_round=None, ledger_seq=0)


@contextmanager
def known_labels(pool: Pool, labels: LabelsArgument | None, *, rebind: bool = False) -> Iterator[Known]:
    """The labels as `raysal.select` takes them, for the length of the block.

    Args:
        pool: whose items they are of.
        labels: a label file, a run directory, labels as `as_labels` takes them, or none.
        rebind: as for `labels_of_run`; and a file that was exported for another pool is matched by key.

    Yields:
        What is known.

    Raises:
        LabelError: a key is not in the pool, a label cannot be accepted, or a file cannot be read.
        RunError: a directory holds no run.
        ConfigError: it holds one whose labels are of owners, and `pool` is of parts; or the other way round.
        FingerprintMismatch: a directory holds the run of another pool, or a file says that it was exported for one, and
            `rebind` is false.
    """
    if isinstance(labels, str | Path):
        path = Path(labels)
        if path.is_dir():
            with labels_of_run(pool, path, rebind=rebind) as known:
                yield known
            return
        if not path.exists():
            raise LabelError(path, "no such label file or run directory", "check the path")
        read = read_labels(path)
        if (foreign := sorted(read.pools - {pool.fingerprint})) and not rebind:
            fix = "take labels of this pool, or match them by key (--rebind; Python: rebind=True)"
            raise FingerprintMismatch(path, "the pool that it was exported for", pool.fingerprint, foreign[0], fix)
        yield GivenLabels.of(pool, read.labels)
    else:
        yield GivenLabels.of(pool, [] if labels is None else as_labels(labels))


@contextmanager
def labels_of_run(pool: Pool, path: Path, *, rebind: bool = False) -> Iterator[LabelsOfRun]:
    """What the run in a directory knows, for the length of the block. The run is left as it is.

    Args:
        pool: the run's pool.
        path: the run directory.
        rebind: if the run is of another pool, match its labels with this one by key, as the run would.

    Yields:
        Its labels.

    Raises:
        RunError: no run is there.
        ConfigError: the run's labels are of owners, and `pool` is of parts; or the other way round.
        FingerprintMismatch: the run is of another pool, and `rebind` is false.
        Damaged: a file of the run was altered.
    """
    run = RunDir(path)
    config = run.require_config("pass a label file, or the directory of a run")
    check_labels_of(run, config, pool)
    trainer = config.update.trainer.build("update.trainer", TRAINERS)
    if not run.has_ledger:
        yield LabelsOfRun(run=run, config=config, pool=pool, ledger=None, trainer=trainer)
        return
    with run.open_ledger() as ledger:
        try:
            check_pool(run, ledger, pool)
        except FingerprintMismatch:
            if not rebind:
                raise
            ledger.view_as_in(pool.fingerprint, pool.ids_there(list(ledger.known_ids())))
        yield LabelsOfRun(run=run, config=config, pool=pool, ledger=ledger, trainer=trainer)
