"""Go on with a run: embed if need be, then rounds of both arms until the budget is spent or a person must answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raysal.config import RunConfig
from raysal.embedding import ENCODERS
from raysal.embedding.job import EmbedReport, embed
from raysal.errors import ConfigError, PoolExhausted
from raysal.fleet import open_fleet
from raysal.index import check_index
from raysal.narrowing import NARROWERS
from raysal.narrowing.base import searches_index
from raysal.pool import Pool, open_pool
from raysal.rounds.batch import Batch
from raysal.rounds.configs import control_config
from raysal.rounds.directory import CONTROL, EMBEDDING, RunDir
from raysal.rounds.finished import RunResult
from raysal.rounds.given_probabilities import check_strategy
from raysal.rounds.offered import RowsOffered
from raysal.rounds.preflight import check_like, learns_from_held_out, likelihood_for
from raysal.rounds.ready import check_pool_lost, pool_is_ready
from raysal.rounds.session import Session
from raysal.sources import SOURCES
from raysal.store import write_sealed
from raysal.types import Report


def go_on(config: RunConfig, out: Path, *, rebind: bool, report: Report) -> RunResult:
    """What `raysal.rounds.loop.run` does with a run that is not finished, with its arguments, results and errors."""
    pool, embedded = begun_pool(config, out, report)
    if not len(pool):
        check_pool_lost(pool, config)  # there is nothing to do before it is said
    with open_fleet(pool, config.fleet) as fleet:
        session = Session(out, pool, config=config, fleet=fleet, rebind=rebind)
        main = _rounds(session, "rounds", report)
        control = None
        if config.rounds.control:
            arm = Session(out / CONTROL, pool, config=control_config(config), fleet=fleet, rebind=rebind)
            control = _rounds(arm, "control", report)
    check_pool_lost(pool, config)
    if config.source is not None:
        pool.check_blurred()
    return RunResult(
        run=out,
        rounds=main.rounds,
        labels=main.labels,
        waiting=main.waiting,
        finished=main.finished,
        accuracy=main.accuracy,
        control_accuracy=None if control is None else control.accuracy,
        metric=main.metric,
        value=main.value,
        control_value=None if control is None else control.value,
        embedded=embedded,
        rebound=session.rebound,
        exhausted=main.exhausted,
    )


def begun_pool(config: RunConfig, out: Path, report: Report) -> tuple[Pool, EmbedReport | None]:
    """Begin a run, or go on with the one that is there, up to its pool.

    Args:
        config: the config of the run.
        out: the run directory.
        report: as in `run`.

    Returns:
        The pool; and what was embedded, None where it was ready.

    Raises:
        ConfigError, PoolError: a part does not exist, or cannot work with the others; asked before any work is done.
    """
    validate(config, begun=RunDir(out).config() is not None)
    ready = pool_is_ready(config, report)
    check_search(config, ready)
    RunDir(out).begin(config)
    embedded = None if ready else embed_pool(config, report)
    if embedded is not None:
        write_sealed(out / EMBEDDING, {"seconds": embedded.seconds, "items": embedded.embedded})
    return open_pool(config.pool), embedded


def validate(config: RunConfig, *, begun: bool = False) -> None:
    """Build every part that the config names, so that a wrong name or field is found before any work is done.

    Args:
        config: the config of a run.
        begun: whether the run is there: an older raysal took queries that nothing goes by.

    Raises:
        ConfigError: a part, or a field of it, does not exist, or the parts cannot work together.
    """
    from raysal.labels import ORACLES
    from raysal.models.trainers import TRAINERS
    from raysal.strategies import SELECTORS

    narrower = config.narrow.build("narrow", NARROWERS)
    selector = config.select.build("select", SELECTORS)
    trainer = config.update.trainer.build("update.trainer", TRAINERS)
    rows = RowsOffered.of(config.parts)
    start = config.start.build("start", SELECTORS)
    if config.probabilities is not None:
        check_strategy(config.start.name, start)
    elif start.needs_head:
        raise ConfigError("start", f"{config.start.name!r} needs labels, and the start has none", 'start = "typiclust"')
    config.oracle.build("oracle", ORACLES)
    if config.rounds.control and config.oracle.name == "files":
        raise ConfigError("rounds.control", "a control arm needs an oracle that answers", 'oracle = "simulated"')
    searches, learns_from = searches_index(narrower, trainer), learns_from_held_out(selector, narrower)
    rows.check_run(config, searches_index=searches, learns_from_held_out=learns_from)
    likelihood_for(config, trainer, selector, narrower, start=start)
    if not begun:
        check_like(config.like, (selector, start, *narrower.strategies()))
    if config.source is not None and config.encoder is not None:
        config.source.build("source", SOURCES)
        config.encoder.build("encoder", ENCODERS)


def check_search(config: RunConfig, ready: bool) -> None:
    """Refuse rounds that search an index which they will not have; asked before anything is embedded.

    Args:
        config: the config of the run.
        ready: whether its pool is there.

    Raises:
        ConfigError: the pool is yet to be embedded, and nobody is to build its index.
        PoolError, UserError: as `raysal.index.check_index`.
    """
    if not config.narrow.build("narrow", NARROWERS).wants_index():
        return
    if not ready and not config.index.build:
        raise ConfigError("index.build", "false, and a pool that is yet to be embedded has no index", "set it to true")
    check_index(open_pool(config.pool) if ready else None, config.index)


def embed_pool(config: RunConfig, report: Report) -> EmbedReport:
    """Embed the config's source into its pool, or finish doing so.

    How much was lost is not judged here: the pool knows, also the next time (`check_lost`).

    Args:
        config: the config of the run; it names a source and an encoder.
        report: as in `run`.

    Returns:
        What was embedded.
    """
    assert config.source is not None
    assert config.encoder is not None
    settings = config.embed
    return embed(
        config.source.build("source", SOURCES),
        config.encoder.build("encoder", ENCODERS),
        config.pool,
        batch_size=settings.batch_size,
        chunk_rows=settings.chunk_rows,
        workers=settings.workers,
        decode_threads=settings.decode_threads,
        max_quarantine=1.0,
        max_passed_over=1.0,
        backend=config.fleet.backend,
        address=config.fleet.address,
        device=config.fleet.device,
        metric=settings.metric,
        scale=settings.scale,
        check=settings.check,
        measures=settings.measures,
        report=lambda done, total: report("embed", done, total),
        checking=lambda done, total: report("check", done, total),
    )


def next_batch(session: Session) -> Batch | None:
    """The next batch of a run: as many items as the config says, or all that are left, where these are fewer.

    A narrower that drops items may leave fewer than the pool has; what it leaves is the batch then.

    Args:
        session: of the run.

    Returns:
        The batch, committed and leased; None if nothing is left to offer.

    Raises:
        PoolExhausted: nothing was ever offered or labelled: there is nothing to close.
        RaysalError: as `Session.query`.
    """
    k = session.config.rounds.k
    while True:
        try:
            return session.query(k)
        except PoolExhausted as error:
            if not error.available and not session.rounds and not any(session.ledger.counts().values()):
                raise
            if not error.available:
                return None
            k = min(error.available, k - 1)


@dataclass(frozen=True)
class _Arm:
    rounds: int
    labels: int
    waiting: int
    finished: bool
    accuracy: float | None
    metric: str | None
    value: float | None
    exhausted: bool


def _rounds(session: Session, stage: str, report: Report) -> _Arm:
    """Rounds of one arm until its budget is spent, or a batch has no answer yet."""
    with session:
        count = session.config.rounds.count
        stopped = exhausted = False
        for number in range(count):
            report(stage, number, count)
            if number == session.rounds:
                session.prepare(report)
            batch = session.batch(number) if number < session.rounds else next_batch(session)
            if batch is None:
                exhausted = True
                break
            waiting = session.ledger.outstanding(batch.round)
            if waiting:
                session.ask_oracle(batch)
                waiting = session.ledger.outstanding(batch.round)
            if waiting and len(waiting) == len(batch):
                stopped = True
                break
        if not stopped:
            session.finish()
            report(stage, count, count)
        status = session.status()
        return _Arm(
            status.rounds,
            status.labeled,
            status.waiting,
            status.finished,
            status.accuracy,
            status.metric,
            status.value,
            exhausted,
        )
