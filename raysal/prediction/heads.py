"""The head that predicts: one of a file, the one of a round, or the one that all labels of a run make now."""

from __future__ import annotations

from pathlib import Path

from raysal.errors import ConfigError, FingerprintMismatch, RunError
from raysal.fleet import Fleet
from raysal.models.head import Head
from raysal.pool import Pool
from raysal.rounds.directory import RunDir
from raysal.rounds.known_labels import labels_of_run
from raysal.rounds.program import start_program
from raysal.rounds.training_labels import TrainingLabels

ALL = "all labels"
"""Whose head it is that no round need have had yet, as reports and manifests say it."""


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
            words = "the newest round, as the pool is not the run's"
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
        RunError: nothing is labelled, except for held-out and disputed items.
        FingerprintMismatch: the run is of another pool.
    """
    with labels_of_run(pool, run) as known:
        if known.ledger is not None:
            labels = TrainingLabels.of(known.ledger, known.config)
            if labels.labels(labels.head_seq):
                return
    raise RunError(run, "has no head and no labels yet", f"label some items (`raysal label import {run} FILE`)")


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
