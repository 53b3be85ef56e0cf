"""The head of a round: from that of the round before and the labels since, updated in closed form or fitted anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.config import RunConfig
from raysal.fleet import Fleet, vectors_through
from raysal.label import Ledger
from raysal.label.records import Changes, Labelled
from raysal.narrow import LabelledVectors
from raysal.pool import Pool
from raysal.rng import derive
from raysal.rundir import RunDir
from raysal.sweep.best import best_of
from raysal.sweep.sweep import sample_partition
from raysal.update import (
    Context,
    Evidence,
    Head,
    Trainer,
    gather_evidence,
    gone_astray,
    needs_refit,
    update,
    wanted_sample,
    widen,
)
from raysal.update.evidence import shares_of
from raysal.update.lens import Lens


@dataclass(frozen=True, kw_only=True)
class Refreshed:
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


def refresh(fleet: Fleet, pool: Pool, run: RunDir, ledger: Ledger, trainer: Trainer, config: RunConfig) -> Refreshed:
    """The head for the next round of `run`. A function of the rounds committed and the ledger, nothing else: what was
    asked for in between leaves no trace. The program of the fleet has begun: what is excluded is no one's sample. From
    here on the fleet looks through the head's lens, and so are the labelled items seen that are handed on."""
    round, seq = run.rounds, ledger.head_seq
    items = ledger.labels(upto=seq)
    last = run.head(round - 1) if round else None
    known = gather_labelled(fleet, pool.dim, items, None if last is None else last.lens)
    fitted_round = run.record(round - 1)["fitted_round"] if round else None

    def done(head: Head | None, decision: str, fitted: int | None, previous: Head | None = last) -> Refreshed:
        return Refreshed(
            head=head, known=known, decision=decision, fitted_round=fitted, ledger_seq=seq, previous=previous
        )

    if not items:
        return done(None, "no labels yet", None)
    classes = sorted({*config.update.classes, *known.classes})
    reason: str | None = "first labels"
    if last is not None:
        changes = ledger.changed_since(last.ledger_seq, upto=seq)
        if not changes:
            before = run.head(round - 2) if round > 1 else None
            return done(last, "no news", fitted_round, before)
        reason = needs_refit(
            last,
            len(changes.new) + len(changes.corrected) + len(changes.reweighted),
            last.link != "identity" and bool(set(classes) - set(last.classes)),
            round - (round if fitted_round is None else fitted_round),
            config.update,
        )
    weights = np.array([item.weight for item in items])
    if last is not None and reason is None:
        seen = gather_evidence(known.vectors, known.classes, weights, last.classes, last.link)
        head = followed(last, fleet, ledger, changes, seq, config, seen if config.update.passes else None)
        reason = gone_astray(head, seen, config.update)
        if reason is None:
            return done(head, told(changes), fitted_round)
    if last is not None and last.lens is not None:  # a new fit grinds a new one
        known = gather_labelled(fleet, pool.dim, items)
    head = trainer.fit(
        known.vectors,
        list(known.classes),
        weights,
        classes=classes,
        encoder=str(pool.manifest.encoder["fingerprint"]),
        version=0 if last is None else last.version + 1,
        ledger_seq=seq,
        seed=derive(config.seed, "fit") % 2**32,
        context=Context(
            rounds=np.array([-1 if item.round is None else item.round for item in items], np.int64),
            unlabelled=sampled(fleet, pool.dim, derive(config.seed, round, "unlabelled"), wanted_sample(trainer)),
            previous=last,
        ),
    )
    if head.lens is not None:
        known = gather_labelled(fleet, pool.dim, items, head.lens)
    return done(head, f"fitted: {reason}", round)


def follow(head: Head, fleet: Fleet, ledger: Ledger, config: RunConfig) -> Head:
    """The head moved at once by what the ledger learnt since, in closed form, from these labels alone: classes that are
    new to it included. Its cost depends neither on the pool nor on the labels it has seen. The next round starts from
    the head that was committed, not from this one.

    Raises:
        LabelError: a label cannot be used by this head.
        ConfigError: the head has no closed-form step.
    """
    seq = ledger.head_seq
    return followed(head, fleet, ledger, ledger.changed_since(head.ledger_seq, upto=seq), seq, config, None)


def followed(
    head: Head, fleet: Fleet, ledger: Ledger, changes: Changes, seq: int, config: RunConfig, seen: Evidence | None
) -> Head:
    """The head after these changes, which brought the ledger to event `seq`."""
    added = np.concatenate([changes.new, changes.corrected, changes.reweighted])
    taken = np.concatenate([changes.corrected, changes.lost, changes.reweighted])
    now = ledger.labels(upto=seq, ids=added)
    then = ledger.labels(upto=head.ledger_seq, ids=taken) if len(taken) else []
    new, old = (gather_labelled(fleet, head.pool_dim, some, head.lens) for some in (now, then))
    if head.link == "softmax":
        head = widen(head, new.classes)
    elif head.link == "sigmoid":
        head = widen(head, [name for label in new.classes for name in shares_of(label, 0, "sigmoid")])
    return update(
        head,
        new.vectors,
        new.classes,
        np.array([item.weight for item in now]),
        ledger_seq=seq,
        step=config.update.step,
        passes=config.update.passes if seen is not None else 1,
        removed=gather_evidence(
            old.vectors, old.classes, np.array([item.weight for item in then]), head.classes, head.link
        )
        if then
        else None,
        seen=seen,
    )


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


def vectors(fleet: Fleet, dim: int, ids: NDArray[np.int64], lens: Lens | None = None) -> NDArray[np.float32]:
    """Vectors of ascending ids, float32 [n, dim], or as a lens shows them; the fleet then looks through it, or through
    none. One round trip."""
    if not len(ids):
        return np.empty((0, dim if lens is None else lens.dim), np.float32)
    parts = fleet.each(vectors_through, ids, lens)
    found = np.concatenate([part[0] for part in parts])
    return np.asarray(np.concatenate([part[1] for part in parts])[np.argsort(found)])


def gather_labelled(fleet: Fleet, dim: int, items: Sequence[Labelled], lens: Lens | None = None) -> LabelledVectors:
    """The vectors of labelled items, in id order, as `vectors` has them. One round trip; memory for the labelled
    only."""
    ids = np.array([item.id for item in items], np.int64)
    return LabelledVectors(ids=ids, vectors=vectors(fleet, dim, ids, lens), classes=[item.label for item in items])
