"""A session: rounds over one pool in a run directory. `query(k)` names the next batch, `tell(labels)` takes answers.

A round appears in the run directory in one rename (see `directory`), then its items are leased in the ledger. A process
killed between the two finds the round on its return and leases it. Everything else is a function of (pool, config,
rounds, ledger).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raysal.config import RunConfig
from raysal.errors import RunError
from raysal.fleet import Fleet, open_fleet
from raysal.index import build_missing_index, check_index
from raysal.labels import Labels, Ledger, TellCounts
from raysal.labels.oracles import Simulation
from raysal.models.head import Head
from raysal.narrowing.base import searches_index
from raysal.pool import Pool
from raysal.rounds.batch import Batch
from raysal.rounds.binding import Rebound, meet_pool, settle
from raysal.rounds.directory import Record, RunDir
from raysal.rounds.held_out import HeldOut, held_out_keys
from raysal.rounds.live_head import LiveHead
from raysal.rounds.offered import RowsOffered
from raysal.rounds.one_round import choose_round, close_run
from raysal.rounds.opening import OpenRun, read_run
from raysal.rounds.queries import embed_queries, keep_queries
from raysal.rounds.run_labels import RunLabels
from raysal.rounds.status import final_record, status_of
from raysal.store import locked, locked_if_free
from raysal.threads import one_at_a_time
from raysal.types import Report, Status


@one_at_a_time
class Session:
    """Rounds over one pool.

    Any thread may use it; calls wait for one another. One session at a time chooses a batch; others may read and tell
    labels meanwhile, in this process and elsewhere.
    """

    rebound: Rebound | None
    """What became of the run's items when the session was opened with `rebind`."""
    _ledger: Ledger | None

    def __init__(
        self,
        run_dir: str | Path,
        pool: str | Path | Pool | None = None,
        *,
        config: RunConfig | None = None,
        fleet: Fleet | Mapping[str, Any] | None = None,
        rebind: bool = False,
        **fields: Any,
    ) -> None:
        """Start a run in `run_dir`, or go on with the one that is there.

        Args:
            run_dir: the run directory; made if it is not there.
            pool: an embedded pool, its path or its URL; a new run needs one. Where the run's pool was moved, the run
                remembers its new place.
            config: the whole config, instead of `fields`.
            fleet: a mapping of the fleet's config (default: local), or an open fleet over the pool, which is then used
                and not closed.
            rebind: if the run's labels are of another pool, match them with this one by key. Labels of items that this
                pool does not have are kept, and train nothing.
            fields: those of `RunConfig`, as `select="badge"`, `narrow={"name": ...}`, `seed=0`.

        Raises:
            RunError: no run and no pool; the run there has another config; or, with `rebind`, another process is at
                work on it.
            FingerprintMismatch: the run's labels are of another pool, and `rebind` is false.
            ConfigError, PoolError, Damaged: as their names say.
        """
        self._take(read_run(run_dir, pool, config, fleet, fields, rebind=rebind), fleet)
        try:
            if searches_index(self._opened.parts.narrower, self._opened.parts.trainer):
                check_index(self.pool, self.config.index)
            queries = embed_queries(self.run, self.config.like, self.pool)
            self.run.begin(self.config)
            self._ledger = self._ledger or self.run.open_ledger()
            with locked(self.dir, "run") if rebind else locked_if_free(self.dir) as free:
                if free is not False:
                    settle(self.run, self.ledger)
                keep_queries(self.run, queries)
                self.rebound = meet_pool(self.run, self._ledger, self.pool, rebind=rebind, alone=free is not False)
            self.run.remember_pool(self.pool.place)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls,
        run_dir: str | Path,
        pool: str | Path | Pool | None = None,
        *,
        fleet: Fleet | Mapping[str, Any] | None = None,
        read_only: bool = False,
        rebind: bool = False,
    ) -> Self:
        """The session of a run that is there.

        Args:
            run_dir: the run directory.
            pool: the run's pool, where it lies elsewhere than the run's config says.
            fleet: as in the constructor.
            read_only: only look, even while another process is at work on the run: nothing in the directory is
                touched, and what would write is refused.
            rebind: as in the constructor; what is only looked at cannot be matched.

        Returns:
            The session, with the config the run was begun with.

        Raises:
            RunError: no run is there; or as the constructor.
        """
        RunDir(Path(run_dir)).require_config()
        if not read_only:
            return cls(run_dir, pool, fleet=fleet, rebind=rebind)
        if rebind:
            raise RunError(run_dir, "to match labels with another pool writes them", "open it without read_only")
        session = cls.__new__(cls)
        session._take(read_run(run_dir, pool, None, fleet, {}, only_look=True), fleet)
        session._read_only = True
        return session

    def _take(self, opened: OpenRun, fleet: Fleet | Mapping[str, Any] | None) -> None:
        self.run, self.config, self.pool = opened.run, opened.config, opened.pool
        self.dir = self.run.path
        self.rebound = None
        self._opened, self._ledger = opened, opened.ledger
        self._read_only = self._closed = False
        self._own_fleet = fleet is None or isinstance(fleet, Mapping)
        self._fleet: Fleet | None = None if fleet is None or isinstance(fleet, Mapping) else fleet
        self._live = LiveHead(opened)

    # -- what is there ------------------------------------------------------------------------------------------

    @property
    def rounds(self) -> int:
        """Rounds committed so far."""
        return self.run.rounds

    @property
    def ledger(self) -> Ledger:
        """The run's labels.

        Raises:
            RunError: the session is closed; or it is read-only, and the run has no labels yet.
        """
        if (ledger := self._open_ledger()) is None:
            raise RunError(self.dir, "has no labels yet", "open it to write, or wait")
        return ledger

    @property
    def rows(self) -> RowsOffered:
        """What its rounds offer: items, or owners of parts."""
        return self._opened.parts.rows

    def batch(self, round: int) -> Batch:
        """A committed batch.

        Args:
            round: counted from 0.

        Returns:
            The batch. Of a round before the labels were matched with another pool, it has the items that the pool of
            now has, with the ids that they have there.
        """
        batch = self.run.batch(round)
        return batch if self.run.is_of(round, self.pool) else batch.with_ids(self.ledger.key_ids(batch.keys))

    def record(self, round: int) -> dict[str, Any]:
        """How a round was chosen, as in its round.json."""
        return self.run.record(round)

    def final(self) -> Record | None:
        """The closing record; None before `finish`, and again once a round or a label came after it."""
        ledger = self._open_ledger()
        return None if ledger is None else final_record(self.run, ledger)

    def status(self) -> Status:
        """Where the run stands. Reads the ledger and the records; starts and makes nothing."""
        return status_of(self.run, self.config, self._open_ledger(), self.pool)

    # -- the round ----------------------------------------------------------------------------------------------

    def start_fleet(self) -> Fleet:
        """The pool's partitions, started when this is first called; `query` does so too."""
        if self._fleet is None:
            self._fleet = open_fleet(self.pool, self.config.fleet)
        return self._fleet

    def prepare(self, report: Report | None = None) -> None:
        """Build the index that rounds search by, where the config says so and the pool has none. `query` does too."""
        self._refuse_read_only()
        if self.config.index.build and self._opened.parts.narrower.wants_index():
            build_missing_index(self.pool, self.start_fleet(), self.config.index, report)

    def held_out(self, most: int) -> list[str]:
        """Keys of held-out items that nobody labelled or skipped yet: a uniform sample, to measure heads with.

        Their labels are told as those of a batch. They train nothing.

        Args:
            most: how many are wanted at most.

        Returns:
            The keys. Those of a smaller number are the first of a larger one.

        Raises:
            ConfigError: the run holds out no items (`rounds.holdout`).
        """
        ledger = self._open_ledger()
        taken = set() if ledger is None else set(ledger.excluded().tolist())
        return held_out_keys(self.pool, self.config, taken, most)

    def query(self, k: int | None = None) -> Batch:
        """The next batch: chosen, committed and leased.

        Args:
            k: items in the batch; the config's by default.

        Returns:
            The batch in pick order.

        Raises:
            PoolExhausted: fewer than k items are left to offer. Nothing is committed then.
            RunError: k is below 1, another process or session is at work on the run, or this session is read-only.
        """
        k = self.config.rounds.k if k is None else k
        if k < 1:
            raise RunError("k", f"{k} is not a batch", "ask for at least 1")
        self._refuse_read_only()
        with locked(self.dir, "run"):
            settle(self.run, self.ledger)
            self.prepare()
            if not self.rounds and isinstance(oracle := self._opened.parts.oracle, Simulation):
                held_out = HeldOut.of(self.config, self.pool)
                self.tell(oracle.first_labels(None if held_out is None else held_out.among), examples=True)
            batch, head = choose_round(self._opened, self.ledger, self.start_fleet(), k)
            self._live.begin(head, self.run.record(batch.round))
        return batch

    def tell(self, labels: Labels, *, strict: bool = False, examples: bool = False) -> TellCounts:
        """Take labels by key: some of a batch or all, late, repeated, corrected, or for items never asked for.

        All of them are recorded, or none. Where the config says `mode = "laplace"` and a round was asked for in this
        process, the head moves at once, at a cost that depends neither on the pool nor on earlier labels.

        A `LabelWarning` says where a new class may be another one misspelled, or a missing value.

        Args:
            labels: {key: label}, `Label`s, a Series of pandas whose index holds the keys, or a frame of pandas, Polars
                or Arrow with the columns `key` and `label` (and `annotator`, `weight`). Rows without a label are left
                out. The text `!skip` is a skip.
            strict: refuse what would be a warning.
            examples: whether the run begins with these labels. They train, even where an item would be held out.

        Returns:
            How many were new, repeated, corrected, disputed.

        Raises:
            LabelError: a key is not in the pool, or a label or weight cannot be accepted.
            RunError: the session is read-only.
        """
        told = self._labels().tell(labels, strict=strict, examples=examples)
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
        """Take back what somebody said of these items; as `skip`, but returns how many answers there were."""
        count = self._labels().withdraw(keys, annotator)
        self._apply_new_labels()
        return count

    def release(self, keys: Sequence[str] | None = None) -> int:
        """Let items (None: all) wait for a label no more; see `RunLabels.release`, which says what it raises."""
        return self._labels().release(keys)

    def ask_oracle(self, batch: Batch) -> TellCounts:
        """Tell what the run's oracle answers for a batch; what it answered before is not counted again.

        Args:
            batch: a committed batch. Of one from before the labels were matched with another pool, the oracle is asked
                for what nobody has answered, because what it says may go by ids.

        Returns:
            How many answers were new, repeated, corrected, disputed.
        """
        ids = self.ledger.key_ids(batch.keys)
        if batch.round < self.rounds and not self.run.is_of(batch.round, self.pool):
            ids = {key: id for id, key in self.ledger.outstanding() if key in ids}
        return self.tell(self._opened.parts.oracle.answer([(ids[key], key) for key in batch.keys if key in ids]))

    def finish(self) -> Record:
        """Close the run: the head after all labels, and its evaluation.

        Without new labels, repeating it changes nothing; after more rounds or labels it closes the run anew.

        Returns:
            The closing record.

        Raises:
            RunError: another process is at work on the run, or the session is read-only.
        """
        if (done := self.final()) is not None:
            if self._live.head is not None:
                self._live.begin(self.run.head(None), done)  # another process may have closed it
            return done
        self._refuse_read_only()
        with locked(self.dir, "run"):
            settle(self.run, self.ledger)
            head = close_run(self._opened, self.ledger, self.start_fleet())
        record = self.run.record(None)
        self._live.begin(head, record)
        return record

    def current_head(self, *, fit: bool = True) -> Head | None:
        """The head after every label told so far. Leaves no trace in the run.

        The first call after a start fits or updates the head, which starts the fleet; later ones only take in the
        labels told since.

        Args:
            fit: whether a run that fits its head anew each round (`mode = "retrain"`) fits it here as well. Without,
                the head at hand is moved in closed form, which takes milliseconds and is near the fit.

        Returns:
            The head; None before the first label.
        """
        self._apply_new_labels()
        return self._live.now(self._open_ledger(), self._fleet, self.start_fleet, fit=fit)

    # -- its parts ----------------------------------------------------------------------------------------------

    def _open_ledger(self) -> Ledger | None:
        if self._closed:
            raise RunError(self.dir, "the session is closed", "open it again")
        return self._ledger

    def _refuse_read_only(self) -> None:
        if self._read_only:
            raise RunError(self.dir, "the session is read-only", "open it without read_only")

    def _labels(self) -> RunLabels:
        self._refuse_read_only()
        return RunLabels(self.run, self.ledger, self._opened.parts.likelihood, self.pool)

    def _apply_new_labels(self) -> None:
        """Move the head at hand by the labels it has not seen yet; or let it go, for the next round to make one."""
        if self._fleet is not None and self._live.head is not None:
            self._live.follow(self.ledger, self._fleet)

    def close(self) -> None:
        """Close the ledger, and the fleet if the session started it."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        self._closed = True
        if self._own_fleet and self._fleet is not None:
            self._fleet.close()
            self._fleet = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
