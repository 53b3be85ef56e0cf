"""`raysal.select`: name a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arguments import Backend, Part, as_path, as_whole_number
from raysal.config import FleetConfig, IndexConfig, RunConfig, choice
from raysal.errors import LabelError, PoolExhausted, RunError, UnknownName
from raysal.fleet import Fleet, exclude, open_fleet
from raysal.labels import as_labels, read_labels
from raysal.labels.events import Draft
from raysal.labels.items import ItemState
from raysal.labels.records import Labelled
from raysal.pool import Pool, open_pool
from raysal.rng import derive
from raysal.types import Label

if TYPE_CHECKING:
    from raysal.models.trainers.base import Trainer
    from raysal.rounds.directory import RunDir
    from raysal.rounds.learner import HeadUpdate
    from raysal.strategies.base import Selector

Labels = str | Path | Mapping[str, str] | Sequence[Label]
"""A label file, a run directory, labels by key, or labels."""


def select(
    pool: str | Path | Pool,
    *,
    k: int,
    strategy: Part = "badge",
    labels: Labels | None = None,
    narrow: Part | None = None,
    partitions: int | None = None,
    backend: Backend = "local",
    seed: int = 0,
) -> pa.Table:
    """A batch of k items in pick order: columns id, key, rank (from 1), score, reason. The metadata of the table's
    schema say under `narrow` which candidates it was chosen from.

    `labels` are a label file, a run directory (its ledger), labels by key, or `Label`s. What has a label is
    not picked again; what annotators disagree about is neither picked nor learnt from, and the head is logistic. With a
    run directory what is out for labelling or held out is not picked either, and the head is the one that the run's
    next round would have: by its trainer, its updates and its seed. The run is left as it is.

    Without labels the batch is the cold start, `typiclust`, unless the strategy works without a head; `coreset` and
    `lcmd` do, but would begin with the outliers, so they count as ones that do not. The reason says so.

    Deterministic in (pool, labels, arguments); the same for any `partitions` and `backend`. One sweep, and
    what the strategy costs. The pool is never gathered.

    Raises:
        PoolExhausted: fewer than k items are left.
        LabelError: a label's key is not in the pool, or a label cannot be accepted.
        UnknownName, ConfigError: a strategy or narrower, or a field of it, does not exist; an argument is of the
            wrong type or out of range.
        RunError, FingerprintMismatch: `labels` is a directory without a run, or the run of another pool.
        PoolError: the pool cannot be opened, or has no index and the narrower searches one.
    """
    from raysal.index import check_index
    from raysal.narrowing import NARROWERS
    from raysal.narrowing.base import NarrowTask, wants_index
    from raysal.narrowing.base import narrow as narrow_down
    from raysal.rounds.directory import batch_table
    from raysal.strategies import SELECTORS
    from raysal.strategies.base import Task
    from raysal.strategies.base import select as select_batch

    k, seed = as_whole_number("k", k, 1), as_whole_number("seed", seed, 0)
    parts = 0 if partitions is None else as_whole_number("partitions", partitions, 1)
    if backend not in ("local", "ray"):
        raise UnknownName("backend", backend, ["local", "ray"])
    chosen = choice(strategy, "strategy")
    selector = chosen.build("strategy", SELECTORS)
    narrower = choice("none" if narrow is None else narrow, "narrow").build("narrow", NARROWERS)
    pool = pool if isinstance(pool, Pool) else open_pool(as_path("pool", pool))
    known = known_labels(pool, labels)
    if wants_index(narrower, known.trainer):
        check_index(pool, IndexConfig())
    with open_fleet(pool, FleetConfig(backend=backend, partitions=parts)) as fleet:
        available = known.take_out(fleet)
        if k > available:
            raise PoolExhausted(wanted=k, available=available)
        learnt = learn(fleet, pool, known, seed)
        head, labelled, previous, key = learnt.head, learnt.known, learnt.previous, derive(seed, 0)
        to_narrow = NarrowTask(
            head=head,
            labelled=labelled,
            pool=pool,
            k=k,
            available=available,
            key=derive(key, "narrow"),
            previous=previous,
        )
        _, narrowed = narrow_down(fleet, narrower, to_narrow)
        prefix = ""
        if head is None and not starts_cold(selector):
            prefix = f"no labels yet, so typiclust instead of {chosen.name}: "
            selector = SELECTORS["typiclust"]()
        task = Task(
            head=head,
            labelled=labelled.vectors,
            classes=labelled.classes,
            key=derive(key, "select"),
            previous=previous,
        )
        picks = select_batch(fleet, selector, task, k)
    table = batch_table(pool, picks)
    if prefix:
        reasons = pa.array([prefix + reason for reason in picks.reasons], pa.string())
        table = table.set_column(table.column_names.index("reason"), "reason", reasons)
    return table.replace_schema_metadata({"narrow": narrowed.rule})


def starts_cold(selector: Selector) -> bool:
    """Whether a strategy may choose the first batch: one that needs no head and does not begin with outliers."""
    from raysal.strategies.coverage.coreset import CoreSet
    from raysal.strategies.coverage.lcmd import Lcmd

    return not selector.needs_head and not isinstance(selector, CoreSet | Lcmd)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a pool before a batch, and what must not be offered."""

    taken: NDArray[np.int64]
    trainer: Trainer
    """what makes a head of the labels"""
    items: Sequence[Labelled] = ()
    """agreed labels by id, where they are not a run's"""
    run: tuple[RunDir, RunConfig] | None = None
    """whose labels they are"""
    held_out: tuple[int, float] | None = None
    """(key, share) of a run's held-out items"""

    def take_out(self, fleet: Fleet) -> int:
        """Begin a program without what must not be offered; returns how many items are left."""
        from raysal.rounds.evaluation import hold_out

        fleet.reset()
        if self.held_out is not None:
            fleet.each(hold_out, *self.held_out)
        return sum(fleet.each(exclude, self.taken))


def known_labels(pool: Pool, labels: Labels | None) -> Known:
    """The labels as `select` takes them.

    Raises:
        LabelError: a key is not in the pool, a label cannot be accepted, or a file cannot be read.
        RunError, FingerprintMismatch: a directory holds no run, or one of another pool.
    """
    if labels is None:
        return agreed(pool, [])
    if isinstance(labels, str | Path):
        path = Path(labels)
        if path.is_dir():
            return labels_of_run(pool, path)
        if not path.exists():
            raise LabelError(path, "no such label file or run directory", "check the path")
        return agreed(pool, read_labels(path).labels)
    return agreed(pool, as_labels(labels))


def labels_of_run(pool: Pool, run_dir: Path) -> Known:
    """What a run over this pool knows."""
    from raysal.models.trainers import TRAINERS
    from raysal.rounds.directory import RunDir
    from raysal.rounds.session import Session

    run = RunDir(run_dir)
    if run.config() is None:
        raise RunError(run_dir, "no run is there", "pass a label file, or the directory of a run")
    with Session(run_dir, pool, visit=True) as session:
        config, taken = session.config, session.ledger.excluded()
    share = config.rounds.holdout
    return Known(
        taken=taken,
        trainer=config.update.trainer.build("update.trainer", TRAINERS),
        run=(run, config),
        held_out=(derive(config.seed, "holdout"), share) if share else None,
    )


def agreed(pool: Pool, labels: Sequence[Label]) -> Known:
    """Checked labels by the ledger's rules, without a ledger: an annotator's last one counts, and all must agree."""
    from raysal.models.trainers.logistic import Logistic

    ids = pool.ids_of([label.key for label in labels])
    states: dict[int, ItemState] = {}
    for seq, label in enumerate(labels, 1):
        id = ids[label.key]
        event = Draft(id, label.key, "labeled", label.label, label.annotator, label.weight)
        states.setdefault(id, ItemState(label.key)).apply(event, seq)
    items = [
        Labelled(id=id, key=state.key, label=found[0], weight=found[1], seq=state.decided, round=None)
        for id, state in sorted(states.items())
        if (found := state.counted()) is not None
    ]
    return Known(items=items, taken=np.array(sorted(states), np.int64), trainer=Logistic())


def learn(fleet: Fleet, pool: Pool, known: Known, seed: int) -> HeadUpdate:
    """The head for what is known, none where that is nothing; the program of the fleet has begun. A run's is the one
    its next round would have, whatever the `seed`."""
    from raysal.labels import Ledger
    from raysal.rounds.learner import HeadUpdate, encoder_of, gather_labelled, named, next_head

    if known.run is not None:
        run, config = known.run
        with Ledger(run.ledger) as ledger:
            return next_head(fleet, pool, run, ledger, known.trainer, config)
    labelled, head = gather_labelled(fleet, pool.dim, known.items), None
    if known.items:
        head = known.trainer.fit(
            labelled.vectors,
            [item.answer for item in known.items],
            np.array([item.weight for item in known.items]),
            classes=named(known.items, "softmax"),
            encoder=encoder_of(pool),
            version=0,
            ledger_seq=0,
            seed=derive(seed, "fit") % 2**32,
        )
    return HeadUpdate(head=head, known=labelled, decision="first labels", fitted_round=None, ledger_seq=0)
