"""What of a ledger a head may learn, and what it may be tested by: no label of a held-out item trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from raysal.config import RunConfig
from raysal.labels import Ledger
from raysal.labels.records import Changes, Labelled
from raysal.models.likelihood import Likelihood
from raysal.pool import Pool
from raysal.rounds.held_out import HeldOut


@dataclass(frozen=True, kw_only=True)
class TrainingLabels:
    """The labels of a run that heads learn from. No label of a held-out item is among them, whoever told it and when.

    Everything that makes or moves a head reads the ledger through this. Which items are held out goes by their ids. So
    after the labels were matched with another pool, an item may be among them that a round had asked for: it trains,
    and measures nothing. So does an example, which a person chose. A test draw never trains, in whichever pool.
    """

    ledger: Ledger
    held_out: HeldOut | None
    votes: bool
    """whether disputed items train, with shares"""

    @classmethod
    def of(cls, ledger: Ledger, config: RunConfig, pool: Pool | None) -> Self:
        """Those of a run with this ledger, over a pool as `HeldOut.of` takes it."""
        return cls(ledger=ledger, held_out=HeldOut.of(config, pool), votes=config.update.disputed == "votes")

    @property
    def head_seq(self) -> int:
        """Number of the ledger's last event."""
        return self.ledger.head_seq

    def labels(self, upto: int, ids: NDArray[np.int64] | None = None) -> list[Labelled]:
        """The training set as it was after an event, or what of it these items are; see `Ledger.labels`."""
        items = self.ledger.labels(upto, ids, votes=self.votes)
        held = self._held(np.array([item.id for item in items], np.int64))
        return [item for item, out in zip(items, held, strict=True) if not out]

    def changed_since(self, seq: int, upto: int) -> Changes:
        """How the training set differs between two events; see `Ledger.changed_since`."""
        changes = self.ledger.changed_since(seq, upto, votes=self.votes)
        kept = {}
        for field in fields(changes):
            ids: NDArray[np.int64] = getattr(changes, field.name)
            kept[field.name] = ids[~self._held(ids)]
        return Changes(**kept)

    def tests(self, upto: int | None = None) -> dict[int, str]:
        """What people say of held-out items, where they agree: {id: label}, after an event or now."""
        if self.held_out is None:
            return {}
        items = self.ledger.labels(upto)
        held = self._held(np.array([item.id for item in items], np.int64))
        return {item.id: item.label for item, out in zip(items, held, strict=True) if out}

    def _held(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these items are held out, [n]."""
        if self.held_out is None:
            return np.zeros(len(ids), bool)
        return (self.held_out.among(ids) & ~self.ledger.asked(ids)) | self.ledger.drawn(ids)


def output_names(items: Sequence[Labelled], likelihood: Likelihood, known: Sequence[str] = ()) -> list[str]:
    """The names of a head's outputs: those that labels speak of, and those known before.

    Args:
        items: the labels.
        likelihood: their kind.
        known: names known from the start.

    Returns:
        The names, sorted.

    Raises:
        LabelError: a label is not of this kind; it names the item.
    """
    spoken = (name for item in items for text in item.texts for name in likelihood.names_in(text, repr(item.key)))
    return sorted({*known, *spoken})


def count_outputs(items: Sequence[Labelled], likelihood: Likelihood) -> dict[str, int]:
    """How many of the items each output is named for.

    Args:
        items: the labels.
        likelihood: their kind.

    Returns:
        Counts by name, sorted by name.

    Raises:
        LabelError: a label is not of this kind; it names the item.
    """
    counts = Counter(name for item in items for name in likelihood.names_in(item.label, repr(item.key)))
    return dict(sorted(counts.items()))
