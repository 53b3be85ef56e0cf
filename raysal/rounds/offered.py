"""What a round offers where items of the pool are parts: owners in place of parts, or the best parts of each owner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa

from raysal.arrow_values import array_of
from raysal.config import PartsConfig, RunConfig, choice
from raysal.context import RoundContext
from raysal.errors import ConfigError, PoolExhausted, UnknownName
from raysal.fleet import Fleet
from raysal.fleet.by_owner import parts_left, use_owners, use_parts
from raysal.pool import Pool
from raysal.pool.owners import OwnersOf
from raysal.rng import derive
from raysal.rounds.gathering import gather_vectors
from raysal.scoring.aggregators.base import Aggregator
from raysal.scoring.aggregators.registry import AGGREGATORS
from raysal.scoring.inputs import score_to_compute
from raysal.scoring.owners import look_by_score, offer_best_parts
from raysal.scoring.registry import SCORES
from raysal.strategies.base import Picks, Selector


@dataclass(frozen=True, kw_only=True)
class RowsOffered:
    """What the rows of a round are. Strategies and narrowers do not know of it."""

    config: PartsConfig
    scores: Aggregator | None

    @classmethod
    def of(cls, config: PartsConfig) -> Self:
        """What a config says.

        Args:
            config: the section `parts`.

        Returns:
            The rows.

        Raises:
            UnknownName: there is no such aggregator or score.
            ConfigError: an aggregator has no such field; or a field says nothing of what is chosen.
        """
        by_owner = config.by == "owner"
        for name, of_owners in (("aggregate_features", True), ("aggregate_scores", True), ("per_owner", False)):
            if getattr(config, name) != type(config).model_fields[name].default and of_owners != by_owner:
                other = "owner" if of_owners else "part"
                raise ConfigError(f"parts.{name}", f"says nothing where a batch is by {config.by}", f'by = "{other}"')
        if config.score is not None and config.score not in SCORES:
            raise UnknownName("parts.score", config.score, sorted(SCORES))
        if config.aggregate_scores is None:
            return cls(config=config, scores=None)
        place = "parts.aggregate_scores"
        return cls(config=config, scores=choice(config.aggregate_scores, place).build(place, AGGREGATORS))

    @property
    def by_owner(self) -> bool:
        """Whether rows are owners."""
        return self.config.by == "owner"

    @property
    def looks_at_head(self) -> bool:
        """Whether a head decides what is offered, where there is one."""
        return self.config.aggregate_features != "mean" or self.config.per_owner > 0

    @property
    def labels_of_owners(self) -> bool:
        """Whether labels, and what else is known by key, are of owners."""
        return self.config.labels_of_owners

    @property
    def labels_of_parts_of_owners(self) -> bool:
        """Whether a batch is by owner, and labels are of parts."""
        return self.config.labels_of_parts_of_owners

    @property
    def by_means(self) -> Self:
        """The same rows, of which each owner is scored by its mean vector, as a page does that has no parts at hand."""
        return replace(self, scores=None)

    def refuse_index(self) -> None:
        """Raise ConfigError where rows are owners: the index of a pool is of its parts."""
        if self.by_owner:
            problem = "the index is of parts, and the batch is by owner"
            raise ConfigError("narrow.search", problem, 'use search = "exact", or choose by part')

    def refuse_probabilities(self, given: object) -> None:
        """Raise ConfigError where rows are owners, and probabilities are given: they are of the pool's items."""
        if self.by_owner and given is not None:
            problem = "are of items, which are parts, and the batch is by owner"
            raise ConfigError("probabilities", problem, "choose by part, or start with `typiclust`")

    def check_run(self, config: RunConfig, *, searches_index: bool, learns_from_held_out: bool) -> None:
        """Refuse what a run by owner cannot have.

        Args:
            config: of the run.
            searches_index: whether its rounds search an index.
            learns_from_held_out: whether its strategy learns from held-out items.

        Raises:
            ConfigError: there is something of that kind.
        """
        if searches_index:
            self.refuse_index()
        self.refuse_probabilities(config.probabilities)
        if not self.labels_of_parts_of_owners:
            return
        if config.rounds.tests:
            problem = "a share of a batch, which has all parts of its owners, as labels are of parts"
            raise ConfigError("rounds.tests", problem, 'labels_of = "owner", or leave it out')
        if learns_from_held_out:
            problem = "a strategy compares held-out items with what it picks; they are parts, and it picks owners"
            raise ConfigError("parts.labels_of", problem, 'labels_of = "owner", or use reference = "pool"')

    def begin(self, fleet: Fleet) -> None:
        """Begin a program. One round trip where labels are of owners."""
        if self.labels_of_owners:
            fleet.each(use_owners, self.scores)

    def look(self, fleet: Fleet, context: RoundContext, selector: Selector) -> RoundContext:
        """Let rows be what the head says. None to three round trips.

        Args:
            fleet: the pool's partitions; what must not be offered was taken out.
            context: what the round knows, with its head.
            selector: whose score is that of parts, where it has one and the config has none.

        Returns:
            What the round knows then: labelled owners by their vectors of now, and how many rows may be offered.

        Raises:
            PoolExhausted: fewer than k are left.
            ConfigError: the score does not go with the head.
        """
        config, ties = self.config, derive(context.key, "parts")
        if config.per_owner:
            inputs, score = None, ""
            if context.head is not None:
                score = self._score(context, selector)
                inputs = context.score_inputs(fleet, score)
            available = sum(fleet.each(offer_best_parts, config.per_owner, inputs, score, ties))
            if context.k > available:
                raise PoolExhausted(wanted=context.k, available=available)
            return replace(context, available=available)
        if self.labels_of_parts_of_owners:
            available = sum(fleet.each(use_owners, self.scores))
            if context.k > available:
                raise PoolExhausted(wanted=context.k, available=available)
            context = replace(context, available=available)
        if not self.by_owner or config.aggregate_features == "mean" or context.head is None:
            return context
        score = self._score(context, selector)
        inputs = context.score_inputs(fleet, score)
        fleet.each(look_by_score, config.aggregate_features, self.scores, inputs, score, ties)
        if not self.labels_of_owners:
            return context
        known, layer = context.labelled, context.head.hidden_layer
        vectors = gather_vectors(fleet, context.pool.dim, known.ids, layer)
        if len(vectors) != len(known):  # of labelled items that the pool does not have now
            return context
        return replace(context, labelled=replace(known, vectors=np.asarray(vectors)))

    def asked(self, fleet: Fleet, pool: Pool, picks: Picks) -> tuple[Picks, pa.Array | None]:
        """What people are asked to label where these rows are picked. One or no round trip.

        Args:
            fleet: the pool's partitions, after `look`.
            pool: whose items labels are of.
            picks: the rows.

        Returns:
            The picks themselves, and None. Where labels are of parts of the owners that were picked, these parts
            without those that were taken out, in order of id, each with the score and reason of its owner; and the key
            of its owner, string [n].
        """
        if not self.labels_of_parts_of_owners:
            return picks, None
        found = fleet.each(parts_left, picks.ids)
        owners, ids = (np.concatenate(column) for column in zip(*found, strict=True))
        place = np.argsort(picks.ids)
        rank = place[np.searchsorted(picks.ids, owners, sorter=place)]
        order = np.lexsort((ids, rank))
        rows = rank[order]
        keys = OwnersOf(pool).keys_of(picks.ids)
        asked = Picks(
            ids=ids[order],
            scores=picks.scores[rows],
            reasons=tuple(picks.reasons[row] for row in rows.tolist()),
            shares=tuple(picks.shares[row] for row in rows.tolist()) if picks.shares else picks.shares,
        )
        return asked, array_of([keys[id] for id in owners[order].tolist()], pa.string())

    def as_learnt(self, fleet: Fleet) -> None:
        """Let rows be what labels are of, with the vectors that heads learn from. One or no round trip."""
        if self.labels_of_owners:
            fleet.each(use_owners, self.scores)
        elif self.by_owner:
            fleet.each(use_parts)

    def _score(self, context: RoundContext, selector: Selector) -> str:
        """The score of parts."""
        head, own = context.needed_head(), getattr(selector, "score", None)
        usual = own if isinstance(own, str) and own in SCORES else head.likelihood.usual_score
        name = self.config.score or usual
        return score_to_compute(name, head, context.previous)
