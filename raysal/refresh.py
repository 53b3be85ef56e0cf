"""The head of a round: from that of the round before and the labels since, updated in closed form or fitted anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysal.config import RunConfig
from raysal.fleet import Fleet, vectors_of
from raysal.label import Ledger
from raysal.label.records import Labelled
from raysal.narrow import LabelledVectors
from raysal.pool import Pool
from raysal.rng import derive
from raysal.rundir import RunDir
from raysal.update import Head, Trainer, needs_refit, update


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
    asked for in between leaves no trace."""
    round, seq = run.rounds, ledger.head_seq
    items = ledger.labels(upto=seq)
    known = gather_labelled(fleet, pool.dim, items)
    last = run.head(round - 1) if round else None
    fitted_round = run.record(round - 1)["fitted_round"] if round else None

    def done(head: Head | None, decision: str, fitted: int | None) -> Refreshed:
        return Refreshed(head=head, known=known, decision=decision, fitted_round=fitted, ledger_seq=seq)

    if not items:
        return done(None, "no labels yet", None)
    classes = sorted({*config.update.classes, *known.classes})
    reason: str | None = "first labels"
    if last is not None:
        changes = ledger.changed_since(last.ledger_seq, upto=seq)
        if not changes:
            return done(last, "no news", fitted_round)
        reason = needs_refit(
            last,
            len(changes.new),
            bool(set(classes) - set(last.classes)),
            changes.refit,
            round - (round if fitted_round is None else fitted_round),
            config.update,
        )
    weights = np.array([item.weight for item in items])
    if last is not None and reason is None:
        new = np.isin(known.ids, changes.new)
        head = update(
            last,
            known.vectors[new],
            [name for name, is_new in zip(known.classes, new, strict=True) if is_new],
            weights[new],
            ledger_seq=seq,
            step=config.update.step,
            passes=config.update.passes,
        )
        return done(head, f"updated in closed form with {int(new.sum())} labels", fitted_round)
    head = trainer.fit(
        known.vectors,
        list(known.classes),
        weights,
        classes=classes,
        encoder=str(pool.manifest.encoder["fingerprint"]),
        version=0 if last is None else last.version + 1,
        ledger_seq=seq,
        seed=derive(config.seed, "fit") % 2**32,
    )
    return done(head, f"fitted: {reason}", round)


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
