"""A session: rounds over one pool in a run directory. `query(k)` names the next batch, `tell(labels)` takes answers.

A round appears in the run directory in one rename (see `directory`), then its items are leased in the ledger. A process
killed between the two finds the round on its return and leases it. Everything else is a function of (pool, config,
rounds, ledger).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raysal.config import RunConfig
from raysal.context import RoundContext
from raysal.errors import ConfigError, LabelError, PoolExhausted, RunError
from raysal.fleet import Fleet, open_fleet
from raysal.index import build_missing_index, check_index
from raysal.labels import Labels, Ledger, TellCounts, revealing
from raysal.models.head import Head
from raysal.narrowing.base import searches_index
from raysal.pool import Pool, open_pool
from raysal.rng import derive
from raysal.rounds.choose import choose
from raysal.rounds.directory import Batch, Record, RunDir, batch_table
from raysal.rounds.evaluation import evaluate
from raysal.rounds.learner import HeadUpdate, apply_new_labels, next_head
from raysal.rounds.parts import RunParts, config_of
from raysal.rounds.program import HeldOut, start_program
from raysal.rounds.run_labels import RunLabels, lease_newest
from raysal.rounds.stages import COMMIT, EVALUATE, UPDATE, Clock
from raysal.rounds.status import final_record, status_of
from raysal.store import locked
from raysal.types import Report, Status


class Session:
    """Rounds over one pool. One process at a time; the ledger may be read, and told, by others."""

    _ledger: Ledger | None

    def __init__(
        self,
        run_dir: str | Path,
        pool: str | Path | Pool | None = None,
        *,
        config: RunConfig | None = None,
        fleet: Fleet | Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Start a run in `run_dir`, or go on with the one that is there.

        Args:
            run_dir: the run directory; made if it is not there.
            pool: an embedded pool or its path; a new run needs one.
            config: the whole config, instead of `fields`.
            fleet: a mapping of the fleet's config (default: local), or an open fleet over the pool, which is then used
                and not closed.
            fields: those of `RunConfig`, as `select="badge"`, `narrow={"name": ...}`, `seed=0`.

        Raises:
            RunError: no run and no pool; or the run there has another config.
            FingerprintMismatch: the pool is not the one the run began with.
            ConfigError, PoolError, Damaged: as their names say.
        """
        self._set_up(run_dir, pool, config, fleet, fields)
        if searches_index(self._parts.narrower, self._parts.trainer):
            check_index(self.pool, self.config.index)
        self.run.begin(self.config)
        with locked(self.dir, "run"):
            self.run.remove_leftovers()
            self._ledger = self.run.open_ledger()
            lease_newest(self.run, self._ledger)

    @classmethod
    def open(
        cls,
        run_dir: str | Path,
        pool: str | Path | Pool | None = None,
        *,
        fleet: Fleet | Mapping[str, Any] | None = None,
        read_only: bool = False,
    ) -> Self:
        """The session of a run that is there.

        Args:
            run_dir: the run directory.
            pool: the run's pool, where it lies elsewhere than the run's config says.
            fleet: as in the constructor.
            read_only: only look, even while another process is at work on the run: nothing in the directory is
                touched, and what would write is refused.

        Returns:
            The session, with the config the run was begun with.

        Raises:
            RunError: no run is there; or as the constructor.
        """
        there = RunDir(Path(run_dir))
        there.require_config()
        if not read_only:
            return cls(run_dir, pool, fleet=fleet)
        session = cls.__new__(cls)
        session._set_up(run_dir, pool, None, fleet, {})
        if there.has_ledger:
            session._ledger = there.open_ledger()
        session._read_only = True
        return session

    def _set_up(
        self,
        run_dir: str | Path,
        pool: str | Path | Pool | None,
        config: RunConfig | None,
        fleet: Fleet | Mapping[str, Any] | None,
        fields: Mapping[str, Any],
    ) -> None:
        """Read the config and build its parts. Touches nothing."""
        self.dir = Path(run_dir)
        self.run = RunDir(self.dir)
        self.config = config_of(self.run, pool, config, fleet, fields)
        self.pool = pool if isinstance(pool, Pool) else open_pool(self.config.pool if pool is None else pool)
        self.run.check_pool(self.pool)
        self._parts = RunParts.of(self.config, self.pool)
        self._ledger = None
        self._read_only = False
        self._own_fleet = fleet is None or isinstance(fleet, Mapping)
        self._fleet: Fleet | None = None if fleet is None or isinstance(fleet, Mapping) else fleet
        self._live: Head | None = None

    # -- what is there ------------------------------------------------------------------------------------------

    @property
    def rounds(self) -> int:
        """Rounds committed so far."""
        return self.run.rounds

    @property
    def ledger(self) -> Ledger:
        """The run's labels.

        Raises:
            RunError: the session is read-only, and the run has no labels yet.
        """
        if self._ledger is None:
            raise RunError(self.dir, "has no labels yet", "open it to write, or wait")
        return self._ledger

    def batch(self, round: int) -> Batch:
        """A committed batch."""
        return self.run.batch(round)

    def record(self, round: int) -> dict[str, Any]:
        """How a round was chosen, as in its round.json."""
        return self.run.record(round)

    def final(self) -> Record | None:
        """The closing record; None before `finish`, and again once a round or a label came after it."""
        return None if self._ledger is None else final_record(self.run, self._ledger)

    def status(self) -> Status:
        """Where the run stands. Reads the ledger and the records; starts and makes nothing."""
        return status_of(self.run, self.pool, self.config, self._ledger)

    # -- the round ----------------------------------------------------------------------------------------------

    def start_fleet(self) -> Fleet:
        """The pool's partitions, started when this is first called; `query` does so too."""
        if self._fleet is None:
            self._fleet = open_fleet(self.pool, self.config.fleet)
        return self._fleet

    def prepare(self, report: Report | None = None) -> None:
        """Build the index that rounds search by, where the config says so and the pool has none. `query` does too."""
        self._refuse_read_only()
        if self.config.index.build and self._parts.narrower.wants_index():
            build_missing_index(self.pool, self.start_fleet(), self.config.index, report)

    def query(self, k: int | None = None) -> Batch:
        """The next batch: chosen, committed and leased.

        Args:
            k: items in the batch; the config's by default.

        Returns:
            The batch in pick order.

        Raises:
            PoolExhausted: fewer than k items are left to offer. Nothing is committed then.
            RunError: k is below 1, another process is at work on the run, or the session is read-only.
        """
        k = self.config.rounds.k if k is None else k
        if k < 1:
            raise RunError("k", f"{k} is not a batch", "ask for at least 1")
        self._refuse_read_only()
        with locked(self.dir, "run"):
            self.prepare()
            return self._query(k)

    def _query(self, k: int) -> Batch:
        round, clock, fleet = self.rounds, Clock(), self.start_fleet()
        with clock.stage(UPDATE):
            available = self._start_program(fleet)
            if k > available:
                raise PoolExhausted(wanted=k, available=available)
            update = self._next_head(fleet)
            self._live = update.head
        context = RoundContext(
            head=update.head,
            labelled=update.known,
            pool=self.pool,
            k=k,
            available=available,
            key=derive(self.config.seed, round),
            previous=update.previous,
            memory=self.run.memory(round - 1) if round else None,
            index=self.config.index,
            reveal=revealing(self._parts.oracle, self.pool),
            pool_scale=self.pool.scale,
        )
        selector, choice = self._parts.selector, self.config.select
        if update.head is None:
            selector, choice = self._parts.start, self.config.start
        chosen = choose(fleet, context, self._parts.narrower, selector, clock)
        with clock.stage(EVALUATE):
            evaluation = self._evaluate(fleet, update.head)
        with clock.stage(COMMIT):
            table = batch_table(self.pool, chosen.picks, choice.name, update.head)
            record = {
                "round": round,
                "pool": self.pool.fingerprint,
                "k": k,
                "strategy": choice.name,
                "narrow": chosen.candidates.rule,
                **update.record(),
                **chosen.summary(update.head),
                "evaluation": evaluation,
                "seconds": clock.so_far(),
            }
            self.run.publish(round, record, update.head, table, chosen.candidates.memory)
            batch = Batch(round=round, table=table)
            self.ledger.lease(round, batch.ids, batch.keys)
        return batch

    def tell(self, labels: Labels) -> TellCounts:
        """Take labels by key: some of a batch or all, late, repeated, corrected, or for items never asked for.

        All of them are recorded, or none. Where the config says `mode = "laplace"` and a round was asked for in this
        process, the head moves at once, at a cost that depends neither on the pool nor on earlier labels.

        Args:
            labels: {key: label}, `Label`s, a Series of pandas whose index holds the keys, or a frame of pandas, Polars
                or Arrow with the columns `key` and `label` (and `annotator`, `weight`). Rows without a label are left
                out.

        Returns:
            How many were new, repeated, corrected, disputed.

        Raises:
            LabelError: a key is not in the pool, or a label or weight cannot be accepted.
            RunError: the session is read-only.
        """
        told = self._labels().tell(labels)
        self._apply_new_labels()
        return told

    def skip(self, keys: Sequence[str], annotator: str = "") -> int:
        """Record that somebody will not label these items, which takes back a label of theirs.

        Args:
            keys: the items; they are not offered again.
            annotator: who will not.

        Returns:
            How many of these skips are new.

        Raises:
            LabelError: a key is not in the pool.
            RunError: the session is read-only.
        """
        count = self._labels().skip(keys, annotator)
        self._apply_new_labels()
        return count

    def withdraw(self, keys: Sequence[str], annotator: str = "") -> int:
        """Take back what somebody said of these items, labels and skips.

        Takes what `skip` takes, and raises what it raises.

        Returns:
            How many answers there were.
        """
        count = self._labels().withdraw(keys, annotator)
        self._apply_new_labels()
        return count

    def ask_oracle(self, batch: Batch) -> TellCounts:
        """Tell what the run's oracle answers for a batch; what it answered before is not counted again."""
        return self.tell(self._parts.oracle.answer(list(zip(batch.ids, batch.keys, strict=True))))

    def finish(self) -> Record:
        """Close the run: the head after all labels, and its evaluation.

        Without new labels, repeating it changes nothing; after more rounds or labels it closes the run anew.

        Returns:
            The closing record.

        Raises:
            RunError: another process is at work on the run, or the session is read-only.
        """
        if (done := self.final()) is not None:
            self._live = None if self._live is None else self.run.head(None)  # another process may have closed it
            return done
        self._refuse_read_only()
        with locked(self.dir, "run"):
            clock, fleet = Clock(), self.start_fleet()
            with clock.stage(UPDATE):
                self._start_program(fleet)
                update = self._next_head(fleet)
            with clock.stage(EVALUATE):
                evaluation = self._evaluate(fleet, update.head)
            record = {"round": self.rounds, **update.record(), "evaluation": evaluation}
            self.run.publish(None, {**record, "seconds": clock.seconds}, update.head, None)
            self._live = update.head
        return self.run.record(None)

    def current_head(self) -> Head | None:
        """The head after every label told so far. Leaves no trace in the run.

        The first call after a start fits or updates the head, which starts the fleet; later ones only take in the
        labels told since.

        Returns:
            The head; None before the first label.
        """
        self._apply_new_labels()
        if self._live is None and self.final() is not None:
            return self.run.head(None)  # not kept: there may be no fleet to move it by what is told from now on
        if self._live is None and self._ledger is not None:
            fleet = self.start_fleet()
            self._start_program(fleet)
            self._live = self._next_head(fleet).head
        return self._live

    # -- its parts ----------------------------------------------------------------------------------------------

    def _refuse_read_only(self) -> None:
        if self._read_only:
            raise RunError(self.dir, "the session is read-only", "open it without read_only")

    def _labels(self) -> RunLabels:
        self._refuse_read_only()
        return RunLabels(self.ledger, self.pool, self._parts.likelihood)

    def _start_program(self, fleet: Fleet) -> int:
        return start_program(fleet, self.ledger.excluded(), HeldOut.of(self.config))

    def _next_head(self, fleet: Fleet) -> HeadUpdate:
        return next_head(fleet, self.pool, self.run, self.ledger, self._parts.trainer, self.config)

    def _apply_new_labels(self) -> None:
        """Move the head at hand by the labels it has not seen yet; or let it go, for the next round to make one."""
        if self._live is None or self._fleet is None:
            return
        try:
            self._live = apply_new_labels(self._live, self._fleet, self.ledger, self.config)
        except (ConfigError, LabelError):
            self._live = None  # the next round meets the error again and says so

    def _evaluate(self, fleet: Fleet, head: Head | None) -> Record | None:
        """Accuracy on the held-out items, where there are any and the oracle knows the truth."""
        if head is None or (held_out := HeldOut.of(self.config)) is None:
            return None
        found = evaluate(fleet, head, *held_out, self._parts.oracle.truth)
        return None if found is None else asdict(found)

    def close(self) -> None:
        """Close the ledger, and the fleet if the session started it."""
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
