"""ISAL: the items whose likeliest label would lower a loss on other items most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from raysal.config import Count
from raysal.context import RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.models.evidence import Evidence
from raysal.models.head import Head
from raysal.scoring.inputs import score_inputs
from raysal.scoring.reference import REFERENCE_ITEMS, labelled_reference, pool_reference
from raysal.scoring.top_k import best_of_parts
from raysal.strategies.base import Picks, Selector
from raysal.strategies.simple import highest_score


@dataclass(frozen=True, kw_only=True)
class Isal(Selector):
    """The items whose likeliest label would lower the loss of a reference most (ISAL; Liu et al., ICCV 2021).

    The influence of an item is -∇L · H⁻¹ g. L is the mean loss on the reference, H the Hessian of the loss that the
    head was fitted by, and g the gradient of the item's loss with the predicted class for its label. The most negative
    is picked first: its label would lower L most. The score is minus the influence, the score `influence`
    (docs/models.md), which says what differs from the authors' code: Σ of the head's posterior for H⁻¹.

    The reference is never what trains. With `reference = "held_out"` it is held-out items with their true labels, as
    the authors' code takes its test batch. They do not measure the head as well: half of the held-out items, by hash,
    are the reference, and the evaluation goes by the others. With `"pool"`, the default, it is a uniform sample of
    `sample` available items, each counted half as what the head predicts and half as the labelled item nearest to it.
    It costs no labels, and no label of a held-out item changes a pick. How well it stands for true labels depends on
    the data: rank correlations were 0.3 to 0.7 on digits and 0.0 to 0.35 on Fashion-MNIST.

    Needs labels and a head with a posterior; not for numbers, whose predicted label has no gradient. Three round trips,
    one product O(n d C), O(sample labelled d) in the driver, whose memory is O(sample d). picks(k) is a prefix of
    picks(k + 1). Neighbours of one another are picked together: in batches of 20, with either reference, it was below
    margin on digits and Fashion-MNIST, and on average no better than random. It is here for comparisons.
    """

    reference: Literal["pool", "held_out"] = "pool"
    sample: Count = REFERENCE_ITEMS
    """items of the pool that are the reference"""

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    @property
    def uses_held_out(self) -> bool:
        """Where they are the reference."""
        return self.reference == "held_out"

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The k candidates of lowest influence."""
        head = context.needed_head()
        if not head.likelihood.discrete:
            problem = f"the head predicts {head.likelihood.words}, and a number labelled as predicted teaches nothing"
            raise ConfigError("select", problem, f"use {head.likelihood.strategies}")
        reference, where = self._reference(fleet, context, head)
        inputs = score_inputs(head, ("influence",), reference=reference)
        ties = context.ties
        ids, scores = best_of_parts(fleet.each(highest_score, inputs, "influence", k, ties), k, ties=ties)
        values = scores.astype(np.float64)
        reasons = tuple(f"influence {-value:.3g} on {len(reference):,} {where}" for value in values)
        return Picks(ids=ids, scores=values, reasons=reasons)

    def _reference(self, fleet: Fleet, context: RoundContext, head: Head) -> tuple[Evidence, str]:
        """The reference, and what to call its items."""
        if self.reference == "pool":
            known = context.labelled
            vectors = known.vectors[: len(known.classes)]
            return pool_reference(fleet, head, vectors, known.classes, context.key, self.sample), "items of the pool"
        if context.held_out_labels is None:
            problem = "held_out, and nothing is held out here"
            raise ConfigError("select.reference", problem, 'use it in a run with `holdout`, or reference = "pool"')
        reference = labelled_reference(fleet, head, context.held_out_labels())
        if not len(reference):
            problem = "held_out, and no label of a held-out item that may be a reference is known"
            fix = 'label some (`raysal label export RUN --holdout 200`), or use reference = "pool"'
            raise ConfigError("select.reference", problem, fix)
        return reference, "held-out items"
