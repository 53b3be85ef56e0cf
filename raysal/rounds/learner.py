"""The head of a round: from that of the round before and the labels since, updated in closed form or fitted anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.config import RunConfig
from raysal.context import LabelledVectors
from raysal.errors import ConfigError, LabelError
from raysal.features import HiddenLayer
from raysal.fleet import Fleet, features_of
from raysal.labels import Ledger
from raysal.labels.records import Changes, Labelled
from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import Likelihood
from raysal.models.online.refit import gone_astray, needs_refit
from raysal.models.online.update import add_classes_of, update
from raysal.models.targets import Answer
from raysal.models.trainers.base import Context, Trainer, TrainingData
from raysal.narrowing.base import Narrower
from raysal.pool import Pool
from raysal.rng import derive
from raysal.rounds.directory import RunDir
from raysal.rounds.preflight import check_compatible
from raysal.scoring.sweep import sample_partition
from raysal.scoring.top_k import best_of
from raysal.strategies.base import Selector


@dataclass(frozen=True, kw_only=True)
class HeadUpdate:
    """A head, the labelled items behind it, and for the round's record how it came about."""

    head: Head | None
    known: LabelledVectors
    decision: str
    fitted_round: int | None
    """the round of the last full fit"""
    ledger_seq: int
    """the ledger's last event that was looked at"""
    previous: Head | None = None
    """that of the round before, where the round has another"""

    def record(self) -> dict[str, Any]:
        return {
            "labels": len(self.known),
            "head_version": None if self.head is None else self.head.version,
            "head_digest": None if self.head is None else self.head.digest(),
            "decision": self.decision,
            "fitted_round": self.fitted_round,
            "ledger_seq": self.ledger_seq,
        }


def next_head(fleet: Fleet, pool: Pool, run: RunDir, ledger: Ledger, trainer: Trainer, config: RunConfig) -> HeadUpdate:
    """The head for the next round of `run`. A function of the rounds committed and the ledger, nothing else: what was
    asked for in between leaves no trace. The program of the fleet has begun: what is excluded is no one's sample. From
    here on the fleet looks through the head's hidden layer, and so are the labelled items seen that are handed on.

    Raises:
        FingerprintMismatch: the last head, or that of the trainer, takes the vectors of another encoder.
        LabelError: a label cannot be learnt from.
    """
    round, seq, votes = run.rounds, ledger.head_seq, config.update.disputed == "votes"
    likelihood = trainer.likelihood
    items = ledger.labels(upto=seq, votes=votes)
    last = head_of(run, pool, round - 1)
    known = gather_labelled(fleet, pool.dim, items, None if last is None else last.hidden_layer)
    fitted_round = run.record(round - 1)["fitted_round"] if round else None

    def done(head: Head | None, decision: str, fitted: int | None, previous: Head | None = last) -> HeadUpdate:
        seen_as = replace(known, likelihood=likelihood)
        return HeadUpdate(
            head=head, known=seen_as, decision=decision, fitted_round=fitted, ledger_seq=seq, previous=previous
        )

    if not items:
        return done(None, "no labels yet", None)
    classes = named(items, likelihood, config.update.classes)
    answers, weights = _told_of(items)
    reason: str | None = "first labels"
    if last is not None:
        changes = ledger.changed_since(last.ledger_seq, upto=seq, votes=votes)
        if not changes:
            return done(last, "no news", fitted_round, head_of(run, pool, round - 2))
        fitted = round if fitted_round is None else fitted_round
        at_fit = run.record(fitted)["ledger_seq"] if fitted < round else seq
        reason = needs_refit(
            last,
            len(ledger.changed_since(at_fit, upto=seq, votes=votes)),
            bool(set(classes) - set(last.classes)),
            round - fitted,
            config.update,
        )
    if last is not None and reason is None:
        try:
            seen = gather_evidence(known.vectors, answers, weights, last.classes, last.likelihood)
            head = updated_head(last, fleet, ledger, changes, seq, config, seen if config.update.passes else None)
            reason = gone_astray(head, seen, config.update)
            if reason is None:
                return done(head, told(changes), fitted_round)
        except (ConfigError, LabelError) as error:  # what a fit cannot take either, it refuses itself
            reason = f"no closed-form step: {error}"
    if last is not None and last.hidden_layer is not None:  # a new fit makes a new one
        known = gather_labelled(fleet, pool.dim, items)
    head = trainer.fit(
        TrainingData(
            features=known.vectors,
            labels=answers,
            weights=weights,
            classes=classes,
            encoder=encoder_of(pool),
            version=0 if last is None else last.version + 1,
            ledger_seq=seq,
            seed=derive(config.seed, "fit") % 2**32,
            context=Context(
                rounds=np.array([-1 if item.round is None else item.round for item in items], np.int64),
                unlabelled=sampled(fleet, pool.dim, derive(config.seed, round, "unlabelled"), trainer.sample),
                previous=last,
            ),
        )
    )
    head.check(encoder_of(pool), pool.dim, "update.trainer")
    if head.hidden_layer is not None:
        known = gather_labelled(fleet, pool.dim, items, head.hidden_layer)
    return done(head, f"fitted: {reason}", round)


def encoder_of(pool: Pool) -> str:
    """The fingerprint of what made a pool's vectors."""
    return str(pool.manifest.encoder["fingerprint"])


def head_of(run: RunDir, pool: Pool, round: int) -> Head | None:
    """The head a round was chosen by; None if it had none, or there is no such round.

    Raises:
        Damaged: it is not the head its record names.
        FingerprintMismatch: it takes other vectors than those of this pool.
    """
    head = run.head(round) if round >= 0 else None
    if head is not None:
        head.check(encoder_of(pool), pool.dim, run.path / "rounds" / f"{round:04d}")
    return head


def apply_new_labels(head: Head, fleet: Fleet, ledger: Ledger, config: RunConfig) -> Head | None:
    """The head moved at once by what the ledger learnt since, in closed form, from these labels alone: classes that are
    new to it included. Itself where it learnt nothing; None where that takes a new fit. One round trip for the vectors
    of these items; the cost depends neither on the pool nor on the number of labels the head has seen. The next round
    starts from the head that was committed, not from this one.

    Raises:
        LabelError: a label cannot be used by this head.
        ConfigError: the head has no closed-form step.
    """
    seq = ledger.head_seq
    changes = ledger.changed_since(head.ledger_seq, upto=seq, votes=config.update.disputed == "votes")
    if not changes:
        return head
    return None if config.update.mode == "retrain" else updated_head(head, fleet, ledger, changes, seq, config, None)


def updated_head(
    head: Head, fleet: Fleet, ledger: Ledger, changes: Changes, seq: int, config: RunConfig, seen: Evidence | None
) -> Head:
    """The head after these changes, which brought the ledger to event `seq`."""
    added = np.concatenate([changes.new, changes.corrected, changes.reweighted])
    taken = np.concatenate([changes.corrected, changes.lost, changes.reweighted])
    votes = config.update.disputed == "votes"
    now = ledger.labels(upto=seq, ids=added, votes=votes)
    then = ledger.labels(upto=head.ledger_seq, ids=taken, votes=votes) if len(taken) else []
    head = add_classes_of(head, [item.answer for item in now])
    new = gather_labelled(fleet, head.pool_dim, now, head.hidden_layer).vectors
    removed = None
    if then:
        old = gather_labelled(fleet, head.pool_dim, then, head.hidden_layer).vectors
        removed = gather_evidence(old, *_told_of(then), head.classes, head.likelihood)
    passes = config.update.passes if seen is not None else 1
    return update(
        head, new, *_told_of(now), ledger_seq=seq, step=config.update.step, passes=passes, removed=removed, seen=seen
    )


def _told_of(items: Sequence[Labelled]) -> tuple[list[Answer], NDArray[np.float64]]:
    """What is known of items, and its weights [n]."""
    return [item.answer for item in items], np.array([item.weight for item in items])


def named(items: Sequence[Labelled], likelihood: Likelihood, known: Sequence[str] = ()) -> list[str]:
    """The names of the outputs that these labels speak of, and of those `known` before; sorted.

    Raises:
        LabelError: a label is not of this kind; it names the item.
    """
    return sorted({*known, *(name for item in items for text in item.texts for name in _names(item, text, likelihood))})


def _names(item: Labelled, text: str, likelihood: Likelihood) -> tuple[str, ...]:
    return likelihood.names_in(text, repr(item.key))


def counted(items: Sequence[Labelled], likelihood: Likelihood) -> dict[str, int]:
    """How many of the items each output was named for, by name.

    Raises:
        LabelError: a label is not of this kind; it names the item.
    """
    counts = Counter(name for item in items for name in likelihood.names_in(item.label, repr(item.key)))
    return dict(sorted(counts.items()))


def likelihood_for(
    config: RunConfig, trainer: Trainer, selector: Selector, narrower: Narrower, pool: Pool
) -> Likelihood:
    """What labels of this trainer are.

    Raises:
        ConfigError: the config speaks of classes where labels are numbers, or of one that cannot be; or a rule says,
            before it looks at the data, that it cannot work with such labels.
    """
    likelihood = trainer.likelihood
    likelihood.check_names(config.update.classes, "update.classes")
    if not likelihood.discrete and (config.oracle.model_extra or {}).get("noise"):
        problem = f"takes one class for another, and labels are {likelihood.words}"
        raise ConfigError("oracle.noise", problem, "leave it out")
    if not likelihood.exclusive:  # with one class of several all of them work
        check_compatible(likelihood, selector, narrower, pool)
    return likelihood


def told(changes: Changes) -> str:
    """What a round's record says of an update."""
    taken = {"corrected": changes.corrected, "taken back": changes.lost, "reweighted": changes.reweighted}
    more = "".join(f", {len(ids)} {how}" for how, ids in taken.items() if len(ids))
    return f"updated in closed form with {len(changes.new)} labels{more}"


def sampled(fleet: Fleet, dim: int, key: int, size: int) -> NDArray[np.float32] | None:
    """Vectors of a uniform sample of what is available, by id; None for a sample of none. Two round trips."""
    if size == 0:
        return None
    parts = fleet.each(sample_partition, key, size)
    ids, draws = (np.concatenate(column) for column in zip(*parts, strict=True))
    return vectors(fleet, dim, np.sort(best_of(ids, draws, size)[0]))


def vectors(fleet: Fleet, dim: int, ids: NDArray[np.int64], layer: HiddenLayer | None = None) -> NDArray[np.float32]:
    """Vectors of ascending ids, float32 [n, dim], or as a hidden layer shows them; the fleet then looks through it, or
    through none. One round trip."""
    if not len(ids):
        return np.empty((0, dim if layer is None else layer.dim), np.float32)
    parts = fleet.each(features_of, ids, layer)
    found = np.concatenate([part[0] for part in parts])
    return np.asarray(np.concatenate([part[1] for part in parts])[np.argsort(found)])


def gather_labelled(
    fleet: Fleet, dim: int, items: Sequence[Labelled], layer: HiddenLayer | None = None
) -> LabelledVectors:
    """The vectors of labelled items, in id order, as `vectors` has them. One round trip; memory for the labelled
    only."""
    ids = np.array([item.id for item in items], np.int64)
    return LabelledVectors(ids=ids, vectors=vectors(fleet, dim, ids, layer), classes=[item.label for item in items])
