"""A whole run: embed if need be, then rounds until the budget is spent or a person must answer.

Everything is taken from what is on disk, so running, resuming after a kill and running again are one function.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raysal.config import Choice, RunConfig
from raysal.embedding import ENCODERS
from raysal.embedding.job import EmbedReport, embed
from raysal.embedding.limits import check_lost
from raysal.embedding.origin import check_origin
from raysal.errors import ConfigError, FingerprintMismatch, PoolError, PoolExhausted, PoolIncomplete
from raysal.fleet import open_fleet
from raysal.index import check_index
from raysal.narrowing import NARROWERS
from raysal.narrowing.base import searches_index
from raysal.pool import Pool, open_pool
from raysal.rounds.batch import Batch
from raysal.rounds.binding import Rebound, own_pool
from raysal.rounds.directory import CONTROL, EMBEDDING, RunDir
from raysal.rounds.given_probabilities import check_strategy
from raysal.rounds.preflight import likelihood_for
from raysal.rounds.session import Session
from raysal.scale import as_scale, scale_words
from raysal.sources import SOURCES
from raysal.store import write_sealed
from raysal.types import PassedOver, Report, no_report


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Where a run stands when `run` returns: finished, or `waiting` for that many labels."""

    run: Path
    rounds: int
    labels: int
    waiting: int
    finished: bool
    accuracy: float | None
    control_accuracy: float | None
    metric: str | None
    """the main measure of what is learnt, of `raysal.rounds.evaluation.MEASURES`: its name and both arms' values"""
    value: float | None
    control_value: float | None
    embedded: EmbedReport | None
    rebound: Rebound | None
    """what became of the items of the main arm when its labels were matched with another pool"""
    exhausted: bool
    """whether it was closed before its last round, as no item was left to offer"""


def run(config: RunConfig, out: Path, *, rebind: bool = False, report: Report | None = None) -> RunResult:
    """Make or continue the run in a directory.

    With an oracle that answers, it goes on to the last round and closes the run. With `files` it stops after each
    batch until at least one of its labels is told; what is told later counts in the next round. Where fewer items than
    a batch are left, they are the last batch, and the run is closed.

    Args:
        config: the whole config.
        out: the run directory.
        rebind: if the run's labels are of another pool than the config's, match them by key (`raysal.Session`).
        report: called with the stage, what of it is done, and its total.

    Returns:
        Where the run stands.

    Raises:
        ItemsLost: after everything else is done, every time, when embedding lost more than it may.
        VectorsBlurred: when float16 does not tell the vectors apart: after embedding, before any round; and after
            everything else where the run was continued all the same.
        FingerprintMismatch: the pool was made of another source or by another encoder than the config names, or it is
            not the pool of the run's labels.
        PoolExhausted: the pool has nothing to offer, and the run no labels.
        ConfigError, RunError, PoolError: as their names say; nothing half-written is left, and no run directory where
            none was.
    """
    with RunDir(out).undone_if_refused():
        return _run(config, out, rebind, report or no_report)


def _run(config: RunConfig, out: Path, rebind: bool, report: Report) -> RunResult:
    validate(config)
    ready = pool_is_ready(config, report)
    check_search(config, ready)
    RunDir(out).begin(config)
    embedded = None if ready else embed_pool(config, report)
    if embedded is not None:
        write_sealed(out / EMBEDDING, {"seconds": embedded.seconds, "items": embedded.embedded})
    pool = open_pool(config.pool)
    if not len(pool):
        _check_lost(pool, config)  # there is nothing to do before it is said
    with open_fleet(pool, config.fleet) as fleet:
        session = Session(out, pool, config=config, fleet=fleet, rebind=rebind)
        main = _rounds(session, "rounds", report)
        control = None
        if config.rounds.control:
            arm = Session(out / CONTROL, pool, config=control_config(config), fleet=fleet, rebind=rebind)
            control = _rounds(arm, "control", report)
    _check_lost(pool, config)
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


def resume(out: Path, *, pool: Path | None = None, rebind: bool = False, report: Report | None = None) -> RunResult:
    """Go on with a run, wherever it was stopped.

    Args:
        out: the run directory.
        pool: the run's pool, where it lies elsewhere than the run's config says; the run remembers the place.
        rebind: as in `run`.
        report: as in `run`.

    Returns:
        Where the run stands.

    Raises:
        RunError: no run is there; otherwise as `run`.
    """
    config = RunDir(out).require_config()
    if pool is not None:
        config = config.model_copy(update={"pool": open_pool(pool).path})  # it is there: none is embedded in its place
    elif config.source is None:
        own_pool(config)
    return run(config, out, rebind=rebind, report=report)


def validate(config: RunConfig) -> None:
    """Build every part that the config names, so that a wrong name or field is found before any work is done.

    Raises:
        ConfigError: a part, or a field of it, does not exist, or the parts cannot work together.
    """
    from raysal.labels import ORACLES
    from raysal.models.trainers import TRAINERS
    from raysal.strategies import SELECTORS

    narrower = config.narrow.build("narrow", NARROWERS)
    selector = config.select.build("select", SELECTORS)
    trainer = config.update.trainer.build("update.trainer", TRAINERS)
    start = config.start.build("start", SELECTORS)
    if config.probabilities is not None:
        check_strategy(config.start.name, start)
    elif start.needs_head:
        raise ConfigError("start", f"{config.start.name!r} needs labels, and the start has none", 'start = "typiclust"')
    config.oracle.build("oracle", ORACLES)
    if config.rounds.control and config.oracle.name == "files":
        raise ConfigError("rounds.control", "a control arm needs an oracle that answers", 'oracle = "simulated"')
    searches_index(narrower, trainer)
    likelihood_for(config, trainer, selector, narrower)
    if config.source is not None and config.encoder is not None:
        config.source.build("source", SOURCES)
        config.encoder.build("encoder", ENCODERS)


def pool_is_ready(config: RunConfig, report: Report = no_report, *, keep: bool = True) -> bool:
    """Whether the pool of a config is there, whole, and what the config says.

    Args:
        config: the config of the run.
        report: as in `run`.
        keep: whether the pool may remember that its source was looked at.

    Returns:
        False if the pool is yet to be embedded.

    Raises:
        PoolError: there is no pool, and the config does not say how to make one; or it cannot be read.
        PoolIncomplete: it was not embedded to its end, and the config does not say how to go on.
        FingerprintMismatch: it was not made of the source, by the encoder, or with the metric that the config names; or
            the source has changed since.
    """
    try:
        pool = open_pool(config.pool)
    except PoolIncomplete:
        if config.source is None:
            raise
        return False
    except PoolError:
        if config.source is None or (config.pool / "pool.json").exists():
            raise
        return False
    if config.source is not None and config.encoder is not None:
        source, encoder = config.source.build("source", SOURCES), config.encoder.build("encoder", ENCODERS)
        check_origin(
            pool.path,
            pool.manifest,
            source,
            encoder,
            keep=keep,
            report=lambda done, total: report("check", done, total),
        )
        if pool.metric != config.embed.metric:
            fix = f"embed into another pool directory, or set embed.metric = {pool.metric!r}"
            raise FingerprintMismatch(pool.path, "its metric", pool.metric, config.embed.metric, fix)
        asked = as_scale(config.embed.scale)
        if asked not in (None, pool.scale):
            own = scale_words(pool.scale)
            fix = f'embed into another pool directory, or set embed.scale = "{own}"'
            raise FingerprintMismatch(pool.path, "its scale", own, scale_words(asked), fix)
    return True


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
        report=lambda done, total: report("embed", done, total),
        checking=lambda done, total: report("check", done, total),
    )


def control_config(config: RunConfig) -> RunConfig:
    """The config of the random arm: the same pool, oracle, hold-out and budget; every batch is a uniform sample."""
    uniform = Choice(name="random")
    rounds = config.rounds.model_copy(update={"control": False})
    others = {"narrow": Choice(name="none"), "select": uniform, "start": uniform, "probabilities": None}
    return config.model_copy(update={**others, "rounds": rounds})


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


def _check_lost(pool: Pool, config: RunConfig) -> None:
    """Refuse a pool that the run made, if more of its source was lost than the config allows."""
    if config.source is not None:
        check_lost(
            pool.path,
            pool.info().quarantined,
            pool.manifest.items,
            pool.passed_over() or PassedOver(),
            max_quarantine=config.embed.max_quarantine,
            max_passed_over=config.embed.max_passed_over,
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
