"""The head of a round: updated in closed form from the head of the round before, or fitted anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.config import RunConfig
from raysal.context import LabelledVectors
from raysal.errors import ConfigError, LabelError
from raysal.fleet import Fleet
from raysal.labels import Ledger
from raysal.labels.records import Changes, Labelled
from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.head import Head
from raysal.models.online.classes import add_classes_of
from raysal.models.online.refit import reason_to_refit, reason_to_reject
from raysal.models.online.update import update
from raysal.models.targets import Answer
from raysal.models.trainers.base import Context, Trainer, TrainingData
from raysal.pool import Pool
from raysal.rng import derive
from raysal.rounds.background import Background, by_id, classes_at_fit
from raysal.rounds.directory import RunDir
from raysal.rounds.gathering import gather_labelled, sample_vectors
from raysal.rounds.prior_shift import correction_in, with_prior_shift, without_shift
from raysal.rounds.training_labels import TrainingLabels, output_names


@dataclass(frozen=True, kw_only=True)
class HeadUpdate:
    """A head, the labelled items behind it, and how it came about."""

    head: Head | None
    """None before the first label"""
    known: LabelledVectors
    decision: str
    """why the head was updated, fitted, or left as it was; for the round's record"""
    fitted_round: int | None
    """the round of the last full fit"""
    ledger_seq: int
    """the ledger's last event that was looked at"""
    previous: Head | None = None
    """the head of the round before, where the round has another one"""
    background: int | None = None
    """items without a label that count as not looked for; None where the run has no background"""
    correction: Mapping[str, Any] = field(default_factory=dict)
    """for the round's record, how its biases were corrected (`raysal.rounds.prior_shift`)"""

    def record(self) -> dict[str, Any]:
        """What a round's record says of its head."""
        return {
            "labels": len(self.known),
            "head_version": None if self.head is None else self.head.version,
            "head_digest": None if self.head is None else self.head.digest(),
            "decision": self.decision,
            "fitted_round": self.fitted_round,
            "ledger_seq": self.ledger_seq,
            **({} if self.background is None else {"background": self.background}),
            **self.correction,
        }


def next_head(fleet: Fleet, pool: Pool, run: RunDir, ledger: Ledger, trainer: Trainer, config: RunConfig) -> HeadUpdate:
    """The head for the next round of a run: a function of the committed rounds and the ledger, and of nothing else.

    Heads that were asked for between rounds leave no trace.

    Args:
        fleet: the pool's partitions. The program has begun: items that were taken out are in no sample. From here on
            the partitions show features as the head's hidden layer makes them, if it has one.
        pool: the pool.
        run: the run directory.
        ledger: the run's labels.
        trainer: what fits a head.
        config: the run's config.

    Returns:
        The head, and the labelled items as it sees them.

    Raises:
        FingerprintMismatch: the last head, or that of the trainer, takes the vectors of another encoder.
        LabelError: a label cannot be learnt from.
    """
    labels, likelihood = TrainingLabels.of(ledger, config, pool), trainer.likelihood
    round, seq = run.rounds, labels.head_seq
    items = labels.labels(upto=seq)
    shown = head_of(run, pool, round - 1)
    last = shown if shown is None else without_shift(shown, run.record(round - 1))
    known = replace(
        gather_labelled(fleet, pool.dim, items, None if last is None else last.hidden_layer), likelihood=likelihood
    )
    made = HeadUpdate(
        head=None, known=known, decision="no labels yet", fitted_round=None, ledger_seq=seq, previous=shown
    )
    if not items:
        return made
    classes = output_names(items, likelihood, (*config.update.classes, *config.target))
    background = Background.of(ledger, config, pool, likelihood)
    drawn = np.empty(0, np.int64)
    if background is not None:
        drawn = background.ids(fleet, seq)
        made = replace(made, background=len(drawn))
    version = run.record(round - 1)["head_version"] if round else None
    reason: str | None = "first labels" if version is None else "another pool"
    if last is not None:
        changes, record = labels.changed_since(last.ledger_seq, upto=seq), run.record(round - 1)
        made = replace(made, fitted_round=record["fitted_round"])
        if len(items) - len(changes.new) + len(changes.lost) != record["labels"]:
            reason = "the last head had learnt from held-out items"  # raysal once let it
        elif not changes and (background is None or background.is_same(last.ledger_seq, seq)):
            made = replace(made, correction=correction_in(record), previous=head_of(run, pool, round - 2))
            return replace(made, head=shown, decision="no news")
        else:
            reason = _reason_to_fit(last, run, labels, classes, made.fitted_round, seq, config)
        if reason is None:
            seen, vectors = items, known.vectors
            if background is not None:
                seen = by_id(items, background.items(drawn, classes_at_fit(last)))
                vectors = gather_labelled(fleet, pool.dim, seen, last.hidden_layer).vectors
            head, reason = _closed_form_step(last, fleet, labels, background, changes, seq, config, vectors, seen)
            if head is not None:
                made = replace(made, decision=description(changes))
                return _shown(made, fleet, pool, head, items, seen, config, round)
        if last.hidden_layer is not None:  # a new fit makes a new layer
            known = replace(gather_labelled(fleet, pool.dim, items), likelihood=likelihood)
    trained, vectors = items, known.vectors
    if background is not None:
        trained = by_id(items, background.items(drawn, classes))
        vectors = gather_labelled(fleet, pool.dim, trained).vectors
    answers, weights = answers_and_weights(trained)
    sample_key = derive(config.seed, round, "unlabelled")
    head = trainer.fit(
        TrainingData(
            features=vectors,
            labels=answers,
            weights=weights,
            classes=classes,
            encoder=pool.vector_space,
            version=0 if version is None else version + 1,
            ledger_seq=seq,
            seed=derive(config.seed, "fit") % 2**32,
            context=Context(
                rounds=np.array([-1 if item.round is None else item.round for item in trained], np.int64),
                unlabelled=sample_vectors(fleet, pool.dim, sample_key, trainer.sample),
                previous=last,
            ),
        )
    )
    head.check(pool, "update.trainer")
    if head.hidden_layer is not None:
        known = replace(gather_labelled(fleet, pool.dim, items, head.hidden_layer), likelihood=likelihood)
    made = replace(made, known=known, decision=f"fitted: {reason}", fitted_round=round)
    return _shown(made, fleet, pool, head, items, trained, config, round)


def _shown(
    made: HeadUpdate,
    fleet: Fleet,
    pool: Pool,
    head: Head,
    items: Sequence[Labelled],
    trained: Sequence[Labelled],
    config: RunConfig,
    round: int,
) -> HeadUpdate:
    """The update with its head, whose biases are corrected where the run says so."""
    if config.update.prior_shift == "none":
        return replace(made, head=head)
    key = derive(config.seed, round, "prevalence")
    head, correction = with_prior_shift(fleet, pool, head, items, trained, key)
    return replace(made, head=head, correction=correction)


def _reason_to_fit(
    last: Head,
    run: RunDir,
    labels: TrainingLabels,
    classes: Sequence[str],
    fitted_round: int | None,
    seq: int,
    config: RunConfig,
) -> str | None:
    """Why the head must be fitted anew before any step is tried; None if it need not."""
    round = run.rounds
    fitted = round if fitted_round is None else fitted_round
    at_fit = run.record(fitted)["ledger_seq"] if fitted < round else seq
    since_fit = len(labels.changed_since(at_fit, upto=seq))
    new_classes = bool(set(classes) - set(last.classes))
    fitted_on = run.record(fitted)["labels"] if config.update.background and fitted < round else None
    return reason_to_refit(last, since_fit, new_classes, round - fitted, config.update, fitted_on)


def _closed_form_step(
    last: Head,
    fleet: Fleet,
    labels: TrainingLabels,
    background: Background | None,
    changes: Changes,
    seq: int,
    config: RunConfig,
    vectors: NDArray[np.float32],
    items: Sequence[Labelled],
) -> tuple[Head | None, str | None]:
    """The head after a closed-form step; or None, and why a fit is needed instead."""
    try:
        seen = gather_evidence(vectors, *answers_and_weights(items), last.classes, last.likelihood)
        head = updated_head(
            last, fleet, labels, background, changes, seq, config, seen if config.update.passes else None
        )
        reason = reason_to_reject(head, seen, config.update)
    except (ConfigError, LabelError) as error:  # what a fit cannot take either, it refuses itself
        return None, f"no closed-form step: {error}"
    return (head, None) if reason is None else (None, reason)


def apply_new_labels(
    head: Head, fleet: Fleet, pool: Pool, ledger: Ledger, config: RunConfig, *, fit: bool = True
) -> Head | None:
    """The head moved at once by the labels told since it was made, in closed form and from these labels alone.

    Classes that are new to the head join it. One round trip for the vectors of these items; the cost depends neither on
    the pool nor on the number of labels the head has seen. The next round starts from the head that was committed, not
    from this one.

    Args:
        head: the head so far, as it learnt: without a correction of its biases.
        fleet: the pool's partitions.
        pool: the pool.
        ledger: the run's labels.
        config: the run's config.
        fit: whether a run that fits its head anew each round is to do so, rather than to move it.

    Returns:
        The head itself where nothing was told; None where the labels take a new fit.

    Raises:
        LabelError: a label cannot be used by this head.
        ConfigError: the head has no closed-form step.
    """
    labels = TrainingLabels.of(ledger, config, pool)
    seq = labels.head_seq
    changes = labels.changed_since(head.ledger_seq, upto=seq)
    background = Background.of(ledger, config, pool, head.likelihood)
    if not changes and (background is None or background.is_same(head.ledger_seq, seq)):
        return head
    if fit and config.update.mode == "retrain":
        return None
    return updated_head(head, fleet, labels, background, changes, seq, config, None)


def updated_head(
    head: Head,
    fleet: Fleet,
    labels: TrainingLabels,
    background: Background | None,
    changes: Changes,
    seq: int,
    config: RunConfig,
    seen: Evidence | None,
) -> Head:
    """The head after some changes of labels, in closed form.

    Args:
        head: the head before them.
        fleet: the pool's partitions.
        labels: those of the run that train.
        background: what of the pool counts as not looked for, where something does.
        changes: items with labels that are new, corrected, reweighted or lost since the head was made.
        seq: the ledger's event that the changes lead to.
        config: the run's config.
        seen: everything labelled, for further steps of the mean; without it the mean moves by the changes alone.

    Returns:
        The updated head.

    Raises:
        LabelError: a label cannot be used by this head.
        ConfigError: the head has no closed-form step.
    """
    added = np.concatenate([changes.new, changes.corrected, changes.reweighted])
    taken = np.concatenate([changes.corrected, changes.lost, changes.reweighted])
    now = labels.labels(upto=seq, ids=added)
    then = labels.labels(upto=head.ledger_seq, ids=taken) if len(taken) else []
    if background is not None:
        returned, left = background.changed_since(head.ledger_seq, seq)
        now = by_id(now, background.items(returned, classes_at_fit(head)))
        then = by_id(then, background.items(left, classes_at_fit(head)))
    head = add_classes_of(head, [item.answer for item in now])
    new = gather_labelled(fleet, head.pool_dim, now, head.hidden_layer).vectors
    removed = None
    if then:
        old = gather_labelled(fleet, head.pool_dim, then, head.hidden_layer).vectors
        removed = gather_evidence(old, *answers_and_weights(then), head.classes, head.likelihood)
    passes = config.update.passes if seen is not None else 1
    step = config.update.step
    answers, weights = answers_and_weights(now)
    return update(head, new, answers, weights, ledger_seq=seq, step=step, passes=passes, removed=removed, seen=seen)


def head_of(run: RunDir, pool: Pool, round: int) -> Head | None:
    """The head that a round was chosen by.

    Args:
        run: the run directory.
        pool: the run's pool.
        round: counted from 0.

    Returns:
        The head; None if the round had none, there is no such round, or the run has left the pool it was chosen from.

    Raises:
        Damaged: it is not the head its record names.
        FingerprintMismatch: it takes other vectors than those of this pool.
    """
    head = run.head(round) if round >= 0 and run.is_of(round, pool) else None
    if head is not None:
        head.check(pool, run.folder(round))
    return head


def answers_and_weights(items: Sequence[Labelled]) -> tuple[list[Answer], NDArray[np.float64]]:
    """What labels say, and their weights [n]."""
    return [item.answer for item in items], np.array([item.weight for item in items])


def description(changes: Changes) -> str:
    """What a round's record says of an update."""
    taken = {"corrected": changes.corrected, "taken back": changes.lost, "reweighted": changes.reweighted}
    more = "".join(f", {len(ids)} {how}" for how, ids in taken.items() if len(ids))
    return f"updated in closed form with {len(changes.new)} labels{more}"
