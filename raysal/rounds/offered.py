"""What a round offers where items of the pool are parts: owners in place of parts, or the best parts of each owner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from raysal.config import PartsConfig, choice
from raysal.context import RoundContext
from raysal.errors import ConfigError, PoolExhausted, UnknownName
from raysal.fleet import Fleet
from raysal.fleet.by_owner import use_owners
from raysal.pool import Pool
from raysal.pool.owners import OwnersOf
from raysal.rng import derive
from raysal.rounds.gathering import gather_vectors
from raysal.scoring.aggregators.base import Aggregator
from raysal.scoring.aggregators.registry import AGGREGATORS
from raysal.scoring.inputs import score_to_compute
from raysal.scoring.owners import look_by_score, offer_best_parts
from raysal.scoring.registry import SCORES
from raysal.strategies.base import Selector


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

    @classmethod
    def of_run(cls, config: PartsConfig) -> Self:
        """What the config of a run says, whose batches are of items of its pool.

        Args:
            config: the section `parts`.

        Returns:
            The rows.

        Raises:
            UnknownName: as `of`.
            ConfigError: as `of`; or the config asks for owners.
        """
        if config.by == "owner":
            problem = "a run asks for items of its pool, which are parts"
            fix = "choose owners by `raysal select --by owner`, and pass the labels back with --labels"
            raise ConfigError("parts.by", problem, fix)
        return cls.of(config)

    @property
    def by_owner(self) -> bool:
        """Whether rows are owners."""
        return self.config.by == "owner"

    def pool_of(self, pool: Pool) -> Pool:
        """The pool by the keys that labels are of.

        Args:
            pool: of parts.

        Returns:
            The pool; that of owners where labels are of them.

        Raises:
            PoolError: rows are owners, and the pool has no parts.
        """
        if not self.by_owner and not self.config.per_owner:
            return pool
        owners = OwnersOf(pool)  # where nothing is a part, that is said here
        return owners if self.labels_of_owners else pool

    @property
    def looks_at_head(self) -> bool:
        """Whether a head decides what is offered, where there is one."""
        return self.config.aggregate_features != "mean" or self.config.per_owner > 0

    @property
    def labels_of_owners(self) -> bool:
        """Whether labels, and what else is known by key, are of owners."""
        return self.by_owner and self.config.labels_of == "owner"

    def refuse_index(self) -> None:
        """Raise ConfigError where rows are owners: the index of a pool is of its parts."""
        if self.by_owner:
            problem = "the index is of parts, and the batch is by owner"
            raise ConfigError("narrow.search", problem, 'use search = "exact", or choose by part')

    def refuse_labels_of_items(self, labels: object, probabilities: object) -> None:
        """Refuse what is known of items by their own keys, where keys or rows are those of owners.

        Args:
            labels: as `raysal.select` takes them.
            probabilities: as `raysal.select` takes them.

        Raises:
            ConfigError: labels are those of a run, and the batch takes those of owners; or probabilities are given.
        """
        if self.labels_of_owners and isinstance(labels, str | Path) and Path(labels).is_dir():
            fix = 'labels_of = "part" (--labels-of part), or a file of labels of owners'
            raise ConfigError("parts.labels_of", "the labels of a run are of items of its pool, which are parts", fix)
        if self.by_owner and probabilities is not None:
            problem = "are of items, which are parts, and the batch is by owner"
            raise ConfigError("probabilities", problem, "choose by part, or start with `typiclust`")

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
        if self.by_owner and not self.labels_of_owners:
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

    def _score(self, context: RoundContext, selector: Selector) -> str:
        """The score of parts."""
        head, own = context.needed_head(), getattr(selector, "score", None)
        usual = own if isinstance(own, str) and own in SCORES else head.likelihood.usual_score
        name = self.config.score or usual
        return score_to_compute(name, head, context.previous)
