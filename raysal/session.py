"""A session: rounds over one pool in a run directory. `query(k)` names the next batch, `tell(labels)` takes answers.

    run.json                     the config (sealed)
    ledger.sqlite                the labels: the only truth
    rounds/0000/batch.parquet    the batch: id, key, rank, score, reason, strategy, head_version
    rounds/0000/head.safetensors the head that chose it (none before the first label)
    rounds/0000/round.json       how it was chosen, and what it took (sealed)
    final/                       head and round.json after the last labels, without a batch

A round appears in one rename, then its items are leased in the ledger. A process killed between the two finds the
round on its return and leases it. All else is a function of (pool, config, rounds, ledger): the head of a round comes
from the head of the round before and the labels since, so what was asked in between leaves no trace.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysal.config import RunConfig, parse_config
from raysal.errors import Damaged, FingerprintMismatch, PoolExhausted, RunError
from raysal.evaluate import Evaluation, confusion, evaluate, hold_out
from raysal.fleet import Fleet, exclude, open_fleet, vectors_of
from raysal.label import ORACLES, Ledger, Oracle, Told
from raysal.label.records import Labelled
from raysal.narrow import NARROWERS, LabelledVectors, narrow
from raysal.pool import Pool, open_pool
from raysal.rng import derive
from raysal.select import SELECTORS, Picks, Task, select
from raysal.store import publish_directory, read_sealed, sweep_temporaries, temporary_name, write_sealed
from raysal.sweep import Sweep
from raysal.types import Label
from raysal.update import TRAINERS, Head, needs_refit, update

RUN, LEDGER, ROUNDS, FINAL = "run.json", "ledger.sqlite", "rounds", "final"
BATCH, HEAD, RECORD = "batch.parquet", "head.safetensors", "round.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A committed batch: what to label, in pick order."""

    round: int
    table: pa.Table
    """id, key, rank, score, reason, strategy, head_version"""

    @property
    def keys(self) -> list[str]:
        return list(self.table["key"].to_pylist())

    @property
    def ids(self) -> list[int]:
        return list(self.table["id"].to_pylist())

    def __len__(self) -> int:
        return int(self.table.num_rows)


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run stands."""

    run: str
    pool: str
    items: int
    rounds: int
    asked: int
    labeled: int
    waiting: int
    skipped: int
    disputed: int
    classes: Mapping[str, int]
    accuracy: float | None
    finished: bool


@dataclass
class _Clock:
    """Seconds per stage of one round."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


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
        stored = stored_config(self.dir)
        if config is None and (stored is None or fields):
            known = {} if stored is None else stored.model_dump(mode="json")
            if pool is None and stored is None:
                raise RunError(self.dir, "no run is there", "pass pool=... to start one")
            if pool is not None:
                known["pool"] = pool.path if isinstance(pool, Pool) else Path(pool)
            known.setdefault("fleet", {"backend": "local"})
            config = parse_config({**known, **_choices(fields)})
        self.config = self._settle(stored, config)
        if isinstance(fleet, Mapping):
            self.config = parse_config({**self.config.model_dump(mode="json"), "fleet": fleet})
        self.pool = pool if isinstance(pool, Pool) else open_pool(self.config.pool if pool is None else pool)
        self._narrower = self.config.narrow.build("narrow", NARROWERS)
        self._selector = self.config.select.build("select", SELECTORS)
        self._start = self.config.start.build("start", SELECTORS)
        self._trainer = self.config.update.trainer.build("update.trainer", TRAINERS)
        self.oracle: Oracle = self.config.oracle.build("oracle", ORACLES).bind(self.pool, self.config.seed)
        begin_run(self.dir, self.config)
        if not visit:
            sweep_temporaries(self.dir / ROUNDS)
            sweep_temporaries(self.dir)
        self._check_pool()
        self.ledger = Ledger(self.dir / LEDGER, create=not any((self.dir / ROUNDS).iterdir()))
        if self.rounds and not visit:  # a crash may have come between a round's rename and its lease
            batch = self.batch(self.rounds - 1)
            self.ledger.lease(batch.round, batch.ids, batch.keys)
        self._own_fleet = fleet is None or isinstance(fleet, Mapping)
        self._fleet: Fleet | None = None if fleet is None or isinstance(fleet, Mapping) else fleet

    def _settle(self, stored: RunConfig | None, config: RunConfig | None) -> RunConfig:
        """The config to run by: the one stored, which a given one may differ from only where picks do not depend
        on it."""
        if stored is None:
            if (self.dir / LEDGER).exists():
                raise Damaged(self.dir / RUN, "the file is missing beside a ledger", "restore it from a copy")
            assert config is not None
            return config
        if config is not None and _identity(config) != _identity(stored):
            changed = [k for k, v in _identity(config).items() if _identity(stored).get(k) != v]
            raise RunError(
                self.dir, f"was begun with another {', '.join(changed)}", "use another directory, or `raysal resume`"
            )
        return stored if config is None else config

    def _check_pool(self) -> None:
        """The rounds that are there must have been chosen from this pool."""
        if self.rounds and (expected := self.record(0)["pool"]) != self.pool.fingerprint:
            raise FingerprintMismatch(
                self.pool.path, "the pool's fingerprint", expected, self.pool.fingerprint, "pass the run's own pool"
            )

    # -- what is there ------------------------------------------------------------------------------------------

    @property
    def rounds(self) -> int:
        """Rounds committed so far."""
        return len([entry for entry in (self.dir / ROUNDS).iterdir() if entry.name.isdigit()])

    def batch(self, round: int) -> Batch:
        """A committed batch."""
        path = self._round_dir(round) / BATCH
        try:
            return Batch(round=round, table=pq.read_table(path))
        except (pa.ArrowException, OSError) as error:
            raise Damaged(path, f"cannot be read ({error})", "restore it from a copy") from None

    def record(self, round: int) -> dict[str, Any]:
        """How a round was chosen, as in its round.json."""
        return read_sealed(self._round_dir(round) / RECORD)

    def final(self) -> dict[str, Any] | None:
        """The closing record, once `finish` was called."""
        path = self.dir / FINAL / RECORD
        return read_sealed(path) if path.exists() else None

    def _round_dir(self, round: int) -> Path:
        return self.dir / ROUNDS / f"{round:04d}"

    @property
    def fleet(self) -> Fleet:
        """The pool's partitions; started when first needed."""
        if self._fleet is None:
            self._fleet = open_fleet(self.pool, self.config.fleet)
        return self._fleet

    def status(self) -> Status:
        """Where the run stands. Reads the ledger and the records; starts nothing."""
        counts = self.ledger.counts()
        classes: dict[str, int] = {}
        for item in self.ledger.labels():
            classes[item.label] = classes.get(item.label, 0) + 1
        rounds, closing = self.rounds, self.final()
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
            classes=dict(sorted(classes.items())),
            accuracy=(last.get("evaluation") or {}).get("accuracy"),
            finished=closing is not None,
        )

    # -- the round ----------------------------------------------------------------------------------------------

    def query(self, k: int | None = None) -> Batch:
        """The next batch of k items (default: the config's): chosen, committed and leased.

        Raises:
            PoolExhausted: fewer than k items are left to offer. Nothing is committed then.
        """
        k = self.config.rounds.k if k is None else k
        if k < 1:
            raise RunError("k", f"{k} is not a batch", "ask for at least 1")
        round, clock, fleet = self.rounds, _Clock(), self.fleet
        key = derive(self.config.seed, round)
        with clock.stage("update"):
            available = self._begin_program(fleet)
            if k > available:
                raise PoolExhausted(wanted=k, available=available)
            head, decision, known = self._refresh(fleet, round)
        with clock.stage("sweep and narrow"):
            found, narrowed = narrow(
                fleet, self._narrower, head, known, k=k, available=available, key=derive(key, "narrow")
            )
        selector, choice = self._selector, self.config.select
        if head is None:
            selector, choice = self._start, self.config.start
        with clock.stage("select"):
            task = Task(head=head, labelled=known.vectors, key=derive(key, "select"))
            picks = select(fleet, selector, task, k)
        with clock.stage("evaluate"):
            evaluation = self._evaluate(fleet, head)
        with clock.stage("commit"):
            table = self._table(picks, choice.name, head)
            record = {
                "round": round,
                "pool": self.pool.fingerprint,
                "k": k,
                "labels": len(known),
                "strategy": choice.name,
                "narrow": narrowed.rule,
                "head_version": None if head is None else head.version,
                "head_digest": None if head is None else head.digest(),
                **decision,
                **_summary(found, head),
                "evaluation": None if evaluation is None else asdict(evaluation),
            }
        self._publish(self._round_dir(round), head, {**record, "seconds": clock.seconds}, table)
        batch = Batch(round=round, table=table)
        self.ledger.lease(round, batch.ids, batch.keys)
        return batch

    def tell(self, labels: Sequence[Label] | Mapping[str, str]) -> Told:
        """Take labels by key: some of a batch or all, late, repeated, corrected, or for items never asked for.

        All of them are recorded, or none.

        Raises:
            LabelError: a key is not in the pool, or a label or weight cannot be accepted.
        """
        if isinstance(labels, Mapping):
            labels = [Label(key=key, label=label) for key, label in labels.items()]
        ids = self._ids_of([label.key for label in labels])
        return self.ledger.tell([(ids[label.key], label) for label in labels])

    def skip(self, keys: Sequence[str], annotator: str = "") -> int:
        """Record that somebody will not label these; they are not offered again. Returns how many were news."""
        ids = self._ids_of(keys)
        return sum(self.ledger.skip(ids[key], key, annotator) for key in keys)

    def ask_oracle(self, batch: Batch) -> Told:
        """Tell what the run's oracle answers for a batch; what it answered before is not counted again."""
        answers = self.oracle.answer(list(zip(batch.ids, batch.keys, strict=True)))
        return self.tell(answers)

    def finish(self) -> dict[str, Any]:
        """Close the run: the head after all labels, and its evaluation. Repeating it changes nothing."""
        done = self.final()
        if done is not None:
            return done
        clock, fleet = _Clock(), self.fleet
        with clock.stage("update"):
            self._begin_program(fleet)
            head, decision, known = self._refresh(fleet, self.rounds)
        with clock.stage("evaluate"):
            evaluation = self._evaluate(fleet, head)
        record = {
            "round": self.rounds,
            "labels": len(known),
            "head_version": None if head is None else head.version,
            "head_digest": None if head is None else head.digest(),
            **decision,
            "evaluation": None if evaluation is None else asdict(evaluation),
        }
        self._publish(self.dir / FINAL, head, {**record, "seconds": clock.seconds}, None)
        return read_sealed(self.dir / FINAL / RECORD)

    @property
    def head(self) -> Head | None:
        """The head after every label told so far; None before the first. Looking leaves no trace in the run."""
        self.fleet.reset()
        return self._refresh(self.fleet, self.rounds)[0]

    # -- its parts ----------------------------------------------------------------------------------------------

    def _begin_program(self, fleet: Fleet) -> int:
        """Reset the fleet and take out what may not be offered; returns how many items are left."""
        fleet.reset()
        if self.config.rounds.holdout:
            fleet.each(hold_out, derive(self.config.seed, "holdout"), self.config.rounds.holdout)
        return sum(fleet.each(exclude, self.ledger.excluded()))

    def _refresh(self, fleet: Fleet, round: int) -> tuple[Head | None, dict[str, Any], LabelledVectors]:
        """The head for a round: from the head of the round before and the labels since, updated or fitted anew."""
        seq = self.ledger.head_seq
        items = self.ledger.labels(upto=seq)
        known = gather_labelled(fleet, self.pool.dim, items)
        last, fitted_round = self._last_head(round)
        if not items:
            return None, {"decision": "no labels yet", "fitted_round": None}, known
        if last is not None and last.ledger_seq == seq:
            return last, {"decision": "no news", "fitted_round": fitted_round}, known
        classes = sorted({*self.config.update.classes, *known.classes})
        encoder = str(self.pool.manifest.encoder["fingerprint"])
        if last is None:
            reason: str | None = "first labels"
        else:
            changes = self.ledger.changed_since(last.ledger_seq, upto=seq)
            if not changes:
                return last, {"decision": "no news", "fitted_round": fitted_round}, known
            reason = needs_refit(
                last,
                len(changes.new),
                bool(set(classes) - set(last.classes)),
                changes.refit,
                round - (fitted_round if fitted_round is not None else round),
                self.config.update,
            )
        weights = np.array([item.weight for item in items])
        if reason is None and last is not None:
            new = np.isin(known.ids, changes.new)
            head = update(
                last,
                known.vectors[new],
                [name for name, is_new in zip(known.classes, new, strict=True) if is_new],
                weights[new],
                ledger_seq=seq,
                step=self.config.update.step,
                passes=self.config.update.passes,
            )
            decision = f"updated in closed form with {int(new.sum())} labels"
            return head, {"decision": decision, "fitted_round": fitted_round}, known
        head = self._trainer.fit(
            known.vectors,
            list(known.classes),
            weights,
            classes=classes,
            encoder=encoder,
            version=0 if last is None else last.version + 1,
            ledger_seq=seq,
            seed=derive(self.config.seed, "fit") % 2**32,
        )
        return head, {"decision": f"fitted: {reason}", "fitted_round": round}, known

    def _last_head(self, round: int) -> tuple[Head | None, int | None]:
        """The head of the newest round before `round` that has one, and the round it was last fitted in."""
        if round == 0:
            return None, None
        record = self.record(round - 1)
        if record["head_version"] is None:
            return None, None
        path = self._round_dir(round - 1) / HEAD
        head = Head.load(path)
        if head.digest() != record["head_digest"]:
            raise Damaged(path, "is not the head its round.json names", "restore it from a copy")
        return head, record["fitted_round"]

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

    def _publish(self, final: Path, head: Head | None, record: Mapping[str, Any], table: pa.Table | None) -> None:
        temporary = temporary_name(final)
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        if table is not None:
            pq.write_table(table, temporary / BATCH)
        if head is not None:
            head.save(temporary / HEAD)
        write_sealed(temporary / RECORD, record)
        publish_directory(temporary, final)

    def _ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Ids by key: from the ledger for what was asked before, else by one pass over the pool's items."""
        known = self.ledger.key_ids(keys)
        return known | self.pool.ids_of([key for key in dict.fromkeys(keys) if key not in known])

    def close(self) -> None:
        self.ledger.close()
        if self._own_fleet and self._fleet is not None:
            self._fleet.close()
            self._fleet = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def stored_config(run_dir: Path) -> RunConfig | None:
    """The config a run was begun with; None if there is no run.

    Raises:
        Damaged, RunError: its run.json was altered, or is of another version.
    """
    path = run_dir / RUN
    if not path.exists():
        return None
    record = read_sealed(path)
    if record.get("version") != VERSION:
        raise RunError(path, f"version {record.get('version')}, this raysal reads {VERSION}", "update raysal")
    return parse_config(record["config"])


def begin_run(run_dir: Path, config: RunConfig) -> None:
    """Make the run directory and keep the config in it, if it is not there yet: from here on it can be resumed."""
    (run_dir / ROUNDS).mkdir(parents=True, exist_ok=True)
    if not (run_dir / RUN).exists():
        config = config.model_copy(update={"pool": config.pool.absolute()})
        write_sealed(run_dir / RUN, {"config": config.model_dump(mode="json"), "version": VERSION})


def gather_labelled(fleet: Fleet, dim: int, items: Sequence[Labelled]) -> LabelledVectors:
    """The vectors of labelled items, in id order. One round trip; memory for the labelled only."""
    ids = np.array([item.id for item in items], np.int64)
    classes = [item.label for item in items]
    if not len(ids):
        return LabelledVectors(ids=ids, vectors=np.empty((0, dim), np.float32), classes=classes)
    parts = fleet.each(vectors_of, ids)
    found = np.concatenate([part[0] for part in parts])
    vectors = np.concatenate([part[1] for part in parts])[np.argsort(found)]
    return LabelledVectors(ids=ids, vectors=vectors, classes=classes)


def batch_table(pool: Pool, picks: Picks) -> pa.Table:
    """A batch as people see it: id, key, rank (from 1), score, reason; in pick order."""
    found = pool.rows_where("id", picks.ids.tolist(), ["id", "key"])
    keys = dict(zip(found["id"].to_pylist(), found["key"].to_pylist(), strict=True))
    return pa.table(
        {
            "id": pa.array(picks.ids, pa.int64()),
            "key": pa.array([keys[id] for id in picks.ids.tolist()], pa.string()),
            "rank": pa.array(range(1, len(picks.ids) + 1), pa.int64()),
            "score": pa.array(picks.scores, pa.float64()),
            "reason": pa.array(picks.reasons, pa.string()),
        }
    )


def _summary(found: Sweep, head: Head | None) -> dict[str, Any]:
    counts = {} if head is None else dict(zip(head.classes, found.class_counts.tolist(), strict=True))
    return {"available": found.rows, "predicted": counts}


def _choices(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Bare names for the parts that are choices, as Python callers write them."""
    parts = ("narrow", "select", "start", "oracle", "source", "encoder")
    return {
        name: {"name": value} if name in parts and isinstance(value, str) else value for name, value in fields.items()
    }


def _identity(config: RunConfig) -> dict[str, Any]:
    """The fields that decide the picks. Where partitions live, how many rounds there are and where the pool lies
    may change between visits."""
    values = config.model_dump(mode="json", exclude={"fleet", "embed", "pool", "source", "encoder"})
    values["rounds"] = {"holdout": values["rounds"]["holdout"]}
    return values


__all__ = ["Batch", "Session", "Status", "batch_table", "confusion", "gather_labelled"]
