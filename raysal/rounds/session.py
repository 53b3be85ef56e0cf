"""A session: rounds over one pool in a run directory. `query(k)` names the next batch, `tell(labels)` takes answers.

A round appears in the run directory in one rename (see `rundir`), then its items are leased in the ledger. A process
killed between the two finds the round on its return and leases it. All else is a function of (pool, config, rounds,
ledger).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from raysal.config import RunConfig, deciding_fields, parse_config
from raysal.errors import ConfigError, Damaged, LabelError, PoolExhausted, RunError
from raysal.fleet import Fleet, exclude, open_fleet
from raysal.index import Report, check_index, first_index
from raysal.labels import ORACLES, Ledger, Oracle, Told, as_labels, revealing
from raysal.labels.records import STATES
from raysal.models.head import Head
from raysal.models.trainers import TRAINERS
from raysal.narrowing import NARROWERS
from raysal.narrowing.base import NarrowTask, narrow, wants_index
from raysal.pool import Pool, open_pool
from raysal.rng import derive
from raysal.rounds.clock import Clock
from raysal.rounds.directory import Batch, RunDir, batch_table
from raysal.rounds.evaluation import Evaluation, evaluate, hold_out, standing
from raysal.rounds.learner import HeadUpdate, apply_new_labels, counted, link_for, next_head, plainly
from raysal.scoring.sweep import Sweep
from raysal.store import locked
from raysal.strategies import SELECTORS
from raysal.strategies.base import Picks, Task, select
from raysal.types import Label, Status


class Session:
    """Rounds over one pool. One process at a time; the ledger may be read, and told, by others."""

    def __init__(
        self,
        run_dir: str | Path,
        pool: str | Path | Pool | None = None,
        *,
        config: RunConfig | None = None,
        fleet: Fleet | Mapping[str, Any] | None = None,
        visit: bool = False,
        **fields: Any,
    ) -> None:
        """Start a run in `run_dir`, or go on with the one that is there.

        A new run needs a `pool`; `fields` are those of `RunConfig` (`select="badge"`, `narrow={"name": ...}`,
        `seed=0`), or `config` is given whole. `fleet` is a mapping of its config (default: local), or an open fleet
        over the pool, which is then used and not closed. `visit` is for looking and telling while another process
        may be at work on the run: what looks like its leftovers stays untouched.

        Raises:
            RunError: no run and no pool; or the run there has another config.
            FingerprintMismatch: the pool is not the one the run began with.
            ConfigError, PoolError, Damaged: as their names say.
        """
        self.dir = Path(run_dir)
        self.run = RunDir(self.dir)
        stored = self.run.config()
        if config is None and (stored is None or fields):
            known = {} if stored is None else stored.model_dump(mode="json")
            if pool is None and stored is None:
                raise RunError(self.dir, "no run is there", "pass pool=... to start one")
            if pool is not None:
                known["pool"] = pool.path if isinstance(pool, Pool) else Path(pool)
            known.setdefault("fleet", {"backend": "local"})
            config = parse_config({**known, **fields})
        self.config = self._settle(stored, config)
        if isinstance(fleet, Mapping):
            self.config = parse_config({**self.config.model_dump(mode="json"), "fleet": fleet})
        self.pool = pool if isinstance(pool, Pool) else open_pool(self.config.pool if pool is None else pool)
        self.run.check_pool(self.pool)
        self._narrower = self.config.narrow.build("narrow", NARROWERS)
        self._selector = self.config.select.build("select", SELECTORS)
        self._start = self.config.start.build("start", SELECTORS)
        self._trainer = self.config.update.trainer.build("update.trainer", TRAINERS)
        self._link = link_for(self.config, self._trainer, self._selector, self._narrower, self.pool)
        self.oracle: Oracle = self.config.oracle.build("oracle", ORACLES).bind(self.pool, self.config.seed)
        self._ledger: Ledger | None = None
        if not visit:
            if wants_index(self._narrower, self._trainer):
                check_index(self.pool, self.config.index)
            self.run.begin(self.config)
            with locked(self.dir, "run"):
                self.run.sweep()
                self._lease_last()
        self._own_fleet = fleet is None or isinstance(fleet, Mapping)
        self._fleet: Fleet | None = None if fleet is None or isinstance(fleet, Mapping) else fleet
        self._live: Head | None = None

    def _settle(self, stored: RunConfig | None, config: RunConfig | None) -> RunConfig:
        """The config to run by: the one stored, which a given one may differ from only where picks do not depend
        on it."""
        if config is None or stored is None:
            kept = stored if config is None else config
            assert kept is not None
            return kept
        mine, theirs = deciding_fields(config), deciding_fields(stored)
        if mine != theirs:
            changed = [name for name, value in mine.items() if theirs.get(name) != value]
            raise RunError(
                self.dir, f"was begun with another {', '.join(changed)}", "use another directory, or `raysal resume`"
            )
        return config

    def _lease_last(self) -> None:
        """Lease the newest round, should a crash have come between its rename and its lease; no earlier one can lack
        it.

        Raises:
            Damaged: the ledger leased for a round that is not there.
        """
        rounds = self.run.rounds
        leased = self.ledger.last_round if self.run.ledger.exists() else None
        if leased is not None and leased >= rounds:
            raise Damaged(self.dir / "rounds" / f"{leased:04d}", "the round is missing", "restore it from a copy")
        if rounds:
            batch = self.run.batch(rounds - 1)
            self.ledger.lease(batch.round, batch.ids, batch.keys)

    # -- what is there ------------------------------------------------------------------------------------------

    @property
    def rounds(self) -> int:
        """Rounds committed so far."""
        return self.run.rounds

    def batch(self, round: int) -> Batch:
        """A committed batch."""
        return self.run.batch(round)

    def record(self, round: int) -> dict[str, Any]:
        """How a round was chosen, as in its round.json."""
        return self.run.record(round)

    def final(self) -> dict[str, Any] | None:
        """The closing record; None before `finish`, and again once a round or a label came after it."""
        record = self.run.final()
        return record if record is not None and record["ledger_seq"] == self.ledger.head_seq else None

    @property
    def ledger(self) -> Ledger:
        """The run's labels; the file is made when it is first needed, and must be there once there are rounds."""
        if self._ledger is None:
            self._ledger = Ledger(self.run.ledger, create=self.run.rounds == 0)
        return self._ledger

    @property
    def fleet(self) -> Fleet:
        """The pool's partitions; started when first needed."""
        if self._fleet is None:
            self._fleet = open_fleet(self.pool, self.config.fleet)
        return self._fleet

    def status(self) -> Status:
        """Where the run stands. Reads the ledger and the records; starts and makes nothing."""
        there = self.run.ledger.exists() or self.rounds > 0
        counts = self.ledger.counts() if there else dict.fromkeys(STATES, 0)
        classes = counted(self.ledger.labels(), self._link) if there else {}
        rounds, closing = self.rounds, self.final() if there else None
        last = closing or (self.record(rounds - 1) if rounds else {})
        return Status(
            run=str(self.dir),
            pool=str(self.pool.path),
            items=len(self.pool),
            rounds=rounds,
            asked=sum(len(self.batch(r)) for r in range(rounds)),
            labeled=counts["labeled"],
            waiting=counts["leased"],
            skipped=counts["skipped"],
            disputed=counts["disputed"],
            classes=classes,
            **standing(last.get("evaluation")),
            finished=closing is not None,
        )

    # -- the round ----------------------------------------------------------------------------------------------

    def prepare(self, report: Report | None = None) -> None:
        """Build the index that rounds search by, where the config says so and the pool has none. `query` does too."""
        if self.config.index.build and wants_index(self._narrower):
            first_index(self.pool, self.fleet, self.config.index, report)

    def query(self, k: int | None = None) -> Batch:
        """The next batch of k items (default: the config's): chosen, committed and leased.

        Raises:
            PoolExhausted: fewer than k items are left to offer. Nothing is committed then.
        """
        k = self.config.rounds.k if k is None else k
        if k < 1:
            raise RunError("k", f"{k} is not a batch", "ask for at least 1")
        with locked(self.dir, "run"):
            self.prepare()
            return self._query(k)

    def _query(self, k: int) -> Batch:
        round, clock, fleet = self.rounds, Clock(), self.fleet
        key = derive(self.config.seed, round)
        with clock.stage("update"):
            available = self._begin_program(fleet)
            if k > available:
                raise PoolExhausted(wanted=k, available=available)
            update = self._next_head()
            head, known, self._live = update.head, update.known, update.head
        with clock.stage("sweep and narrow"):
            to_narrow = NarrowTask(
                head=head,
                labelled=known,
                pool=self.pool,
                k=k,
                available=available,
                key=derive(key, "narrow"),
                memory=self.run.memory(round - 1) if round else None,
                index=self.config.index,
                previous=update.previous,
            )
            found, narrowed = narrow(fleet, self._narrower, to_narrow)
        selector, choice = self._selector, self.config.select
        if head is None:
            selector, choice = self._start, self.config.start
        with clock.stage("select"):
            task = Task(
                head=head,
                labelled=known.vectors,
                classes=known.classes,
                key=derive(key, "select"),
                previous=update.previous,
                reveal=revealing(self.oracle, self.pool),
            )
            picks = select(fleet, selector, task, k)
        with clock.stage("evaluate"):
            evaluation = self._evaluate(fleet, head)
        with clock.stage("commit"):
            table = self._table(picks, choice.name, head)
            record = {
                "round": round,
                "pool": self.pool.fingerprint,
                "k": k,
                "strategy": choice.name,
                "narrow": narrowed.rule,
                **update.record(),
                **_summary(found, head),
                "evaluation": None if evaluation is None else asdict(evaluation),
            }
        self.run.publish(round, {**record, "seconds": clock.seconds}, head, table, narrowed.memory)
        batch = Batch(round=round, table=table)
        self.ledger.lease(round, batch.ids, batch.keys)
        return batch

    def tell(self, labels: Sequence[Label] | Mapping[str, str]) -> Told:
        """Take labels by key: some of a batch or all, late, repeated, corrected, or for items never asked for.

        All of them are recorded, or none. Where the config says `mode = "laplace"` and a round was asked for in this
        process, `head` moves at once, at a cost that depends neither on the pool nor on earlier labels.

        Raises:
            LabelError: a key is not in the pool, or a label or weight cannot be accepted.
        """
        given = plainly(as_labels(labels), self._link)
        ids = self._ids_of([label.key for label in given])
        told = self.ledger.tell([(ids[label.key], label) for label in given])
        self._apply_new_labels()
        return told

    def skip(self, keys: Sequence[str], annotator: str = "") -> int:
        """Record that somebody will not label these, which takes back a label of theirs; they are not offered again.
        Returns how many were news.

        Raises:
            LabelError: a key is not in the pool.
        """
        ids = self._ids_of(keys)
        news = sum(self.ledger.skip(ids[key], key, annotator) for key in keys)
        self._apply_new_labels()
        return news

    def withdraw(self, keys: Sequence[str], annotator: str = "") -> int:
        """Take back what somebody said of these, labels and skips. Returns how many there were.

        Raises:
            LabelError: a key is not in the pool.
        """
        ids = self._ids_of(keys)
        news = sum(self.ledger.withdraw(ids[key], annotator) for key in keys)
        self._apply_new_labels()
        return news

    def ask_oracle(self, batch: Batch) -> Told:
        """Tell what the run's oracle answers for a batch; what it answered before is not counted again."""
        answers = self.oracle.answer(list(zip(batch.ids, batch.keys, strict=True)))
        return self.tell(answers)

    def finish(self) -> dict[str, Any]:
        """Close the run: the head after all labels, and its evaluation. Without news, repeating it changes nothing;
        after more rounds or labels it closes the run anew."""
        if (done := self.final()) is not None:
            self._live = None if self._live is None else self.run.head(None)  # another process may have closed it
            return done
        with locked(self.dir, "run"):
            clock, fleet = Clock(), self.fleet
            with clock.stage("update"):
                self._begin_program(fleet)
                update = self._next_head()
            with clock.stage("evaluate"):
                evaluation = self._evaluate(fleet, update.head)
            record = {
                "round": self.rounds,
                **update.record(),
                "evaluation": None if evaluation is None else asdict(evaluation),
            }
            self.run.publish(None, {**record, "seconds": clock.seconds}, update.head, None)
            self._live = update.head
        closed = self.run.final()
        assert closed is not None
        return closed

    @property
    def head(self) -> Head | None:
        """The head after every label told so far; None before the first. Looking leaves no trace in the run."""
        self._apply_new_labels()
        if self._live is None and self.final() is not None:
            return self.run.head(None)  # not kept: there may be no fleet to move it by what is told from now on
        if self._live is None:
            self._begin_program(self.fleet)
            self._live = self._next_head().head
        return self._live

    # -- its parts ----------------------------------------------------------------------------------------------

    def _begin_program(self, fleet: Fleet) -> int:
        """Reset the fleet and take out what may not be offered; returns how many items are left."""
        fleet.reset()
        if self.config.rounds.holdout:
            fleet.each(hold_out, derive(self.config.seed, "holdout"), self.config.rounds.holdout)
        return sum(fleet.each(exclude, self.ledger.excluded()))

    def _next_head(self) -> HeadUpdate:
        return next_head(self.fleet, self.pool, self.run, self.ledger, self._trainer, self.config)

    def _apply_new_labels(self) -> None:
        """Move the head at hand by the labels it has not seen yet; or let it go, for the next round to make one."""
        if self._live is None or self._fleet is None:
            return
        try:
            self._live = apply_new_labels(self._live, self._fleet, self.ledger, self.config)
        except (ConfigError, LabelError):  # the next round meets it again, and says so
            self._live = None

    def _evaluate(self, fleet: Fleet, head: Head | None) -> Evaluation | None:
        """Accuracy on the held-out items, where there are any and the oracle knows the truth."""
        truth = getattr(self.oracle, "truth", None)
        if head is None or truth is None or not self.config.rounds.holdout:
            return None
        return evaluate(fleet, head, derive(self.config.seed, "holdout"), self.config.rounds.holdout, truth)

    def _table(self, picks: Picks, strategy: str, head: Head | None) -> pa.Table:
        version = None if head is None else head.version
        return (
            batch_table(self.pool, picks)
            .append_column("strategy", pa.array([strategy] * len(picks.ids), pa.string()))
            .append_column("head_version", pa.array([version] * len(picks.ids), pa.int64()))
        )

    def _ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Ids by key: from the ledger for what was asked before, else by one pass over the pool's items."""
        known = self.ledger.key_ids(keys)
        return known | self.pool.ids_of([key for key in dict.fromkeys(keys) if key not in known])

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        if self._own_fleet and self._fleet is not None:
            self._fleet.close()
            self._fleet = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _summary(found: Sweep, head: Head | None) -> dict[str, Any]:
    swept = head is not None and len(found.class_counts)  # a round whose neighbours come from an index has no pass
    counts = dict(zip(head.classes, found.class_counts.tolist(), strict=True)) if head is not None and swept else {}
    return {"available": found.rows, "predicted": counts}
