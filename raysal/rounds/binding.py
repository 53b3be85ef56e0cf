"""Which pool the labels of a run are of: checked at every door, recorded when a run meets it, changed by `rebind`.

The ledger is bound to a pool by the pool's fingerprint (see `raysal.labels.ledger`). Ledgers of older runs are bound to
none; their rounds name the pool, or, where there are no rounds, their ids and keys are compared with the pool's.

A pool that grew or shrank has another fingerprint, and knows those it had before. A run follows it: its items are
matched by key, as by `rebind`, without being asked to. Who only reads sees them matched, and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from raysal.config import RunConfig
from raysal.errors import ConfigError, Damaged, FingerprintMismatch, PoolError, RunError
from raysal.labels import Ledger
from raysal.labels.reader import OTHER_POOL
from raysal.pool import Pool, open_pool
from raysal.pool.layout import MANIFEST
from raysal.pool.owners import pool_of_labels
from raysal.pool.place import directory_of
from raysal.rounds.directory import RunDir
from raysal.store import is_locked

MOVED = "if it was moved, name its place: --pool POOL"
"""What an error says to do where the pool of a run is gone."""


@dataclass(frozen=True, kw_only=True)
class Rebound:
    """What became of the items of a ledger when they were matched by key with those of another pool."""

    matched: int
    """Items that the pool has."""
    absent: int
    """Items with an answer that it does not have. Their answers are kept, and train nothing."""

    def __str__(self) -> str:
        kept = f"; {self.absent} with an answer are not in the pool: their labels are kept and train nothing"
        if self.absent and not self.matched:
            kept += "; if this is not the pool that was meant, rebind with the right one: nothing is lost"
        return f"{self.matched} items of the run matched by key{kept if self.absent else ''}"


def own_pool(config: RunConfig) -> Pool:
    """Open the pool where the config of a run says that it is.

    Args:
        config: the run's config.

    Returns:
        The pool of what labels are of, items or owners; whether the run's labels are of it is not checked.

    Raises:
        PoolError: it is not there, or cannot be read.
    """
    try:
        return pool_of_labels(open_pool(config.pool), config.parts)
    except PoolError as error:
        if isinstance(error, Damaged) or (directory_of(config.pool, synced=False) / MANIFEST).exists():
            raise
        raise PoolError(error.where, error.problem, MOVED) from None


def check_labels_of(run: RunDir, config: RunConfig, pool: Pool) -> None:
    """Refuse a pool of parts where the labels of a run are of owners, and one of owners where they are not.

    Args:
        run: the run directory, for the error.
        config: of the run.
        pool: what labels are asked for of.

    Raises:
        ConfigError: keys and ids of the one are not those of the other.
    """
    of_owners = pool.stored is not pool
    if of_owners and not config.parts.labels_of_owners:
        fix = 'labels_of = "part" (--labels-of part), or a file of labels of owners'
        raise ConfigError("parts.labels_of", f"the labels of {run.path} are of items of its pool, not of owners", fix)
    if config.parts.labels_of_owners and not of_owners:
        problem = f"the labels of {run.path} are of owners, and this is about the items of its pool"
        fix = "choose by owner (--by owner); predictions, rankings and training are of items"
        raise ConfigError("parts.by", problem, fix)


def check_pool(run: RunDir, ledger: Ledger, pool: Pool) -> None:
    """Refuse a pool that the labels of a run are not of. Writes nothing, and `ledger` is for reading from here on.

    Of a ledger that is bound to no pool, and has no rounds beside it, every item is looked up: one pass over the pool's
    items. From here on the ledger refuses what concerns another pool.

    Args:
        run: the run directory.
        ledger: its labels. Where the pool grew or shrank since, they are seen as they will be in it.
        pool: the pool that the caller has.

    Raises:
        FingerprintMismatch: the labels are of another pool.
    """
    if follows(run, ledger, pool):
        ledger.view_as_in(pool.fingerprint, pool.ids_there(list(ledger.known_ids())))
    else:
        _check_same(run, ledger, pool)


def pool_to_write(run: RunDir, ledger: Ledger, pool: Pool) -> Pool:
    """The pool as one who writes labels of a run is to see it. Writes nothing.

    Args:
        run: the run directory.
        ledger: its labels.
        pool: the pool that the caller has.

    Returns:
        That pool; its generation of before, where it grew or shrank and another process is still at work with that.

    Raises:
        FingerprintMismatch: the labels are of another pool.
    """
    if not follows(run, ledger, pool):
        _check_same(run, ledger, pool)
    elif is_locked(run.path):
        return pool.at(str(_bound_to(run, ledger)))
    return pool


def follows(run: RunDir, ledger: Ledger, pool: Pool) -> bool:
    """Whether the labels of a run are of an earlier generation of a pool, and are to be matched with this one."""
    bound = _bound_to(run, ledger)
    return bound is not None and bound != pool.fingerprint and bound in pool.ancestors


def _check_same(run: RunDir, ledger: Ledger, pool: Pool) -> None:
    bound = _bound_to(run, ledger)
    if bound is None:
        _check_keys(ledger, pool)
    elif bound != pool.fingerprint:
        raise FingerprintMismatch(pool.path, "the pool's fingerprint", bound, pool.fingerprint, OTHER_POOL)
    ledger.expect(pool.fingerprint)


def _bound_to(run: RunDir, ledger: Ledger) -> str | None:
    """The pool that the labels of a run are of; None if nobody wrote it down."""
    return run.record(0)["pool"] if ledger.pool is None and run.rounds else ledger.pool


def _check_keys(ledger: Ledger, pool: Pool) -> None:
    """Refuse a pool that has an item of the ledger under another id, or not at all."""
    known = ledger.known_ids()
    there = pool.ids_there(list(known))
    for key, id in known.items():
        if there.get(key) != id:
            got = str(there.get(key, "missing"))
            raise FingerprintMismatch(pool.path, f"the id of {key!r}", str(id), got, OTHER_POOL)


def meet_pool(run: RunDir, ledger: Ledger, pool: Pool, *, rebind: bool = False, alone: bool = True) -> Rebound | None:
    """Bind the labels of a run to a pool, or to what their pool became. To repeat it changes nothing.

    Args:
        run: the run directory. To `rebind`, the caller has locked it.
        ledger: its labels.
        pool: the pool.
        rebind: if the labels are of another pool, match them with this one by key.
        alone: whether no other process is at work on the run.

    Returns:
        What was matched; None if the labels are of this pool as it is.

    Raises:
        FingerprintMismatch: the labels are of another pool, and `rebind` is false.
        RunError: the pool grew or shrank, and another process is at work with what it was.
    """
    earlier = follows(run, ledger, pool)
    if not rebind and not earlier:
        _check_same(run, ledger, pool)
        ledger.bind(pool.fingerprint)
        return None
    if earlier and not alone:
        problem = "another process is at work on the run, with an earlier generation of its pool"
        raise RunError(run.path, problem, "wait until it is done, or stop it")
    lease_newest(run, ledger)  # with ids of the pool that it was chosen from
    ledger.rebind(pool.fingerprint, pool.ids_there)
    matched = sum(id is not None for id in ledger.known_ids().values())
    return Rebound(matched=matched, absent=len(ledger.absent()))


def settle(run: RunDir, ledger: Ledger) -> None:
    """Bring directory and ledger to where the last round left them. The directory is locked."""
    run.remove_leftovers()
    lease_newest(run, ledger)


def lease_newest(run: RunDir, ledger: Ledger) -> None:
    """Lease the newest round, in case a crash came between its rename and its lease; no earlier one can lack it.

    Raises:
        Damaged: the ledger leased for a round that is not there.
    """
    rounds, leased = run.rounds, ledger.last_round
    if leased is not None and leased >= rounds:
        raise Damaged(run.folder(leased), "the round is missing", "restore it from a copy")
    if leased == rounds - 1:  # all its items at once; some may have been released since
        return
    # A round of an earlier pool was leased before the ledger left that pool.
    if rounds and ledger.pool in (None, run.record(rounds - 1)["pool"]):
        batch = run.batch(rounds - 1)
        ledger.lease(batch.round, batch.ids, batch.keys, batch.tests)
