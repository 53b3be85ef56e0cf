"""The head that predicts: one of a file, the one of a round, or the one that all labels of a run make now."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from raysal.errors import ConfigError, Damaged, FingerprintMismatch, RunError
from raysal.fleet import Fleet
from raysal.labels.records import Labelled
from raysal.models.head import Head
from raysal.pool import Pool
from raysal.rounds.directory import RunDir
from raysal.rounds.known_labels import labels_of_run
from raysal.rounds.program import start_program
from raysal.rounds.training_labels import TrainingLabels
from raysal.store import write_file

ALL = "all labels"
"""Whose head it is that no round need have had yet, as reports and manifests say it."""
NEWEST = "the newest round, as the pool is not the run's"
"""Whose head it is over another pool than the run's."""
KEPT = "head.safetensors"
"""The head that a job began with, beside its plan: a label that came since would make another one."""


class Begun(Protocol):
    """What the plan of a job that was begun says of its head."""

    @property
    def head(self) -> str | None:
        """Its digest."""
        ...

    @property
    def head_from(self) -> str | None:
        """Whose it is, for people."""
        ...

    @property
    def labels_digest(self) -> str | None:
        """Digest of the labels that it had learnt from, as `labels_behind` gives it."""
        ...


def load_head(path: Path) -> Head:
    """Load the head of a file.

    Args:
        path: the head.safetensors.

    Returns:
        The head.

    Raises:
        ConfigError: it is a directory.
        Damaged: it is no head.
    """
    if path.is_dir():
        raise ConfigError("head", f"{path} is a directory", "name the head.safetensors in it, or pass --run")
    return Head.load(path)


def head_of_run(run: Path, round: int | None = None) -> Head:
    """Load a head of a run.

    Args:
        run: the run directory.
        round: the round that the head chose; None is the newest head, and the closing one if the run is finished.

    Returns:
        The head.

    Raises:
        RunError: there is no run, no such round, or no head there yet.
        Damaged: the head is not the one its record names.
    """
    there = RunDir(run)
    there.require_config()
    if round is None:
        head = newest_head(run)
        problem, fix = "has no head yet", "label some items, then ask for another round"
    elif 0 <= round < there.rounds:
        head, problem, fix = there.head(round), f"round {round} had no head", "take a later one, or the newest"
    else:
        raise RunError(run, f"has no round {round}", f"it has {there.rounds}, counted from 0")
    if head is None:
        raise RunError(run, problem, fix)
    return head


def newest_head(run: Path) -> Head | None:
    """The newest head that a run has chosen or closed by; None if it has none.

    Args:
        run: the run directory.

    Returns:
        The head.

    Raises:
        RunError: there is no run.
        Damaged: the head is not the one its record names.
    """
    there = RunDir(run)
    there.require_config()
    places = [*([None] if there.final() is not None else []), *reversed(range(there.rounds))]
    return next((head for place in places if (head := there.head(place)) is not None), None)


def head_for(run: Path, pool: Pool, round: int | None) -> tuple[Head | None, str]:
    """Which head of a run speaks of a pool, for `raysal.predict` and `raysal.rank` alike.

    Over the run's own pool it is the one that all its labels make now, which `fit_head` makes; so no label is left out
    that came after the last batch. Over another pool it is the newest head that the run has kept.

    Args:
        run: the run directory.
        pool: what is to be predicted.
        round: the round whose head is asked for instead.

    Returns:
        The head, None where `fit_head` is to make it; and whose it is, for people.

    Raises:
        RunError: there is no run, no such round, no head, or no label.
        FingerprintMismatch: the head takes the vectors of another encoder.
        Damaged: the head is not the one its record names.
    """
    if round is None:
        try:
            check_labelled(run, pool)
        except FingerprintMismatch:
            words = NEWEST
        else:
            return None, ALL
    else:
        words = f"round {round}"
    head = head_of_run(run, round)
    head.check(pool)
    return head, words


def check_labelled(run: Path, pool: Pool) -> None:
    """Refuse a run that has no label a head could be fitted to.

    Args:
        run: the run directory.
        pool: the run's pool.

    Raises:
        RunError: nothing is labelled, except for held-out and disputed items; it names a round that had a head.
        FingerprintMismatch: the run is of another pool.
    """
    with labels_of_run(pool, run) as known:
        if known.ledger is not None:
            labels = TrainingLabels.of(known.ledger, known.config, pool)
            if labels.labels(labels.head_seq):
                return
    there, label = RunDir(run), f"label some items (`raysal label import {run} FILE`)"
    had = next((round for round in reversed(range(there.rounds)) if there.record(round)["head_digest"]), None)
    if had is not None:
        raise RunError(run, "has no labels now", f"take the head of a round (`--round {had}`), or {label}")
    raise RunError(run, "has no head and no labels yet", label)


def fit_head(run: Path, pool: Pool, fleet: Fleet) -> Head:
    """The head that the next round of a run would have, or that closed it. The run is left as it is.

    Args:
        run: the run directory; some of its items are labelled.
        pool: the run's pool.
        fleet: is over that pool.

    Returns:
        The head.

    Raises:
        LabelError: a label cannot be learnt from.
        ConfigError: the trainer cannot fit such labels.
    """
    there = RunDir(run)
    with labels_of_run(pool, run) as known:
        closing = there.final()
        if closing is not None and known.ledger is not None and closing["ledger_seq"] == known.ledger.head_seq:
            head = there.head(None)
            if head is not None and head.encoder == pool.vector_space:
                return head
        start_program(fleet, known.taken, known.held_out)
        head = known.next_head(fleet, pool, 0).head
    assert head is not None, "something is labelled"
    return head


def labels_behind(run: Path, pool: Pool, head: Head) -> tuple[int, str]:
    """The labels of a run that a head had learnt from. Its background is none.

    Args:
        run: the run directory.
        pool: its pool.
        head: that the run's labels made.

    Returns:
        The number of items, and a digest of what was said of them.

    Raises:
        FingerprintMismatch: the run is of another pool.
    """
    with labels_of_run(pool, run) as known:
        if known.ledger is None:
            return 0, _digest(())
        items = TrainingLabels.of(known.ledger, known.config, pool).labels(upto=head.ledger_seq)
    return len(items), _digest(items)


def _digest(items: Sequence[Labelled]) -> str:
    """The sha256 of ids, answers and weights."""
    return hashlib.sha256(repr([(item.id, item.answer, item.weight) for item in items]).encode()).hexdigest()


def keep_head(folder: Path, head: Head) -> None:
    """Write the head of a job that begins beside its plan.

    Args:
        folder: where its plan is.
        head: that the job is by.
    """
    content = head.content()
    write_file(folder / KEPT, lambda temporary: temporary.write_bytes(content))


def head_kept_in(folder: Path, begun: Begun) -> Head | None:
    """The head that a job began with.

    Args:
        folder: where its plan is.
        begun: the plan.

    Returns:
        The head; None for novelty, or where an older raysal began it.

    Raises:
        Damaged: it is not the head that the plan names.
    """
    if begun.head is None or not (folder / KEPT).exists():
        return None
    head = Head.load(folder / KEPT)
    if head.digest() != begun.head:
        raise Damaged(folder / KEPT, "is not the head that the job began with", "restore it from a copy")
    return head


def head_to_go_on_with(folder: Path, begun: Begun, run: Path, pool: Pool, words: str) -> tuple[Head, str] | None:
    """The head of an interrupted job of `raysal.predict` or `raysal.rank`, to finish it whatever came since.

    Args:
        folder: where its plan is.
        begun: the plan.
        run: the run of the job that is to go on.
        pool: the pool of both.
        words: whose head it would take if it began now.

    Returns:
        The head, and whose it is, for people; None where the job was of another run, or of a head that has a name.

    Raises:
        Damaged: the head is not the one that the plan names.
    """
    if begun.head_from != words or words not in (ALL, NEWEST):
        return None
    head = head_kept_in(folder, begun)
    if head is None:
        return None
    if words == NEWEST:
        there = RunDir(run)
        places = [*range(there.rounds), *([None] if there.final() is not None else [])]
        of_run = any(there.record(place)["head_digest"] == begun.head for place in places)
        newest = newest_head(run)
        now = newest is not None and newest.digest() == begun.head
        return (head, words if now else "the newest round when the job began") if of_run else None
    with labels_of_run(pool, run) as known:
        if known.ledger is None:
            return None
        labels = TrainingLabels.of(known.ledger, known.config, pool)
        if head.ledger_seq > labels.head_seq or _digest(labels.labels(upto=head.ledger_seq)) != begun.labels_digest:
            return None
        since = len(labels.changed_since(head.ledger_seq, upto=labels.head_seq))
    return head, f"{ALL} when the job began, {since} came or changed since" if since else words
