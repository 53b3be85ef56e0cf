"""A narrower turns millions of items into the thousands a selector looks at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raysal.context import Memory, RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet, keep
from raysal.index import Index, coverage, index_neighbours, renewal, with_index
from raysal.models.trainers.base import Trainer
from raysal.rng import derive
from raysal.scoring.sweep import Neighbours, Search, Sweep, SweepRequest, sweep


@dataclass(frozen=True, kw_only=True)
class Narrowed:
    """Candidates: `ids`, best first where the rule has an order, or None for the whole pool; `rule` says how they were
    found; `memory` is for the next round."""

    ids: NDArray[np.int64] | None
    rule: str
    memory: Memory | None = None


class Narrower(Protocol):
    """Constructor fields are its config."""

    def narrow(self, fleet: Fleet, context: RoundContext) -> tuple[Sweep, Narrowed]:
        """The round's sweep, and the candidates. Only available items are ever found.

        Deterministic in (pool, what is available, context): the same for any partitions.
        """
        ...


def narrow(fleet: Fleet, narrower: Narrower, context: RoundContext) -> tuple[Sweep, Narrowed]:
    """Sweep once, and set the fleet's candidates to what the narrower keeps of the available items.

    Candidates that would not fill a batch of k are topped up from a uniform sample, and the rule says so: a
    batch is never cut short while the pool has items left.
    """
    found, narrowed = narrower.narrow(fleet, context)
    if narrowed.ids is not None:
        left = sum(fleet.each(keep, narrowed.ids))
        if left < context.k:
            spare = found.sample[0][~np.isin(found.sample[0], narrowed.ids)][: context.k - left]
            narrowed = replace(
                narrowed,
                ids=np.concatenate([narrowed.ids, spare]),
                rule=f"{narrowed.rule}, topped up with {len(spare)} uniform",
            )
            fleet.each(keep, narrowed.ids)
    return found, narrowed


class OneSweep(ABC):
    """A narrower that needs nothing but the round's sweep, so that several of them can share one."""

    @abstractmethod
    def request(self, context: RoundContext) -> SweepRequest:
        """What the sweep must find. Pure."""

    @abstractmethod
    def narrowed(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Narrowed:
        """Candidates from what was found. `top` lists and the `sample` may be longer than asked for; their order is
        fixed, so they begin with what was."""

    def wants_index(self) -> bool:
        """Whether it may ask for searches that the pool's index answers."""
        return False

    def narrow(self, fleet: Fleet, context: RoundContext) -> tuple[Sweep, Narrowed]:
        found = look(fleet, context, self.request(context))
        return found, self.narrowed(fleet, context, found)


def wants_index(narrower: Narrower, trainer: Trainer | None = None) -> bool:
    """Whether rounds of a narrower may search the pool's index; one that does not say does not.

    Raises:
        ConfigError: they may, and heads of the trainer see vectors through a hidden layer.
    """
    asks = getattr(narrower, "wants_index", None)
    if asks is None or not asks():
        return False
    refuse_hidden_layer(trainer is not None and trainer.hidden_layer)
    return True


def refuse_hidden_layer(hidden_layer: bool) -> None:
    """
    Raises:
        ConfigError: there is, or will be, a hidden layer: an index is over the pool's own vectors.
    """
    if hidden_layer:
        problem = "an index is over the pool's own vectors, and the head looks at them through a hidden layer"
        raise ConfigError("narrow.search", problem, 'search = "exact", or a trainer without a hidden layer')


def look(fleet: Fleet, context: RoundContext, request: SweepRequest) -> Sweep:
    """The round's sweep, with a uniform sample of at least k items to top a batch up from.

    Searches that ask for it are answered by the pool's index, and no vector is read for them: where nothing else is
    asked either, the sweep makes no pass, and has no class counts. An index that lacks rows of the pool is not
    searched; the searches are exact then, and `Neighbours.how` says so and what becomes of it.

    Raises:
        PoolError: the index asked for does not exist, is damaged, or of another encoder.
        ConfigError: an index is asked for, and the head has a hidden layer.
    """
    request = replace(request, sample=max(request.sample, context.k), key=derive(context.key, "sample"))
    if not any(search.by == "index" for search in request.searches):
        return swept(fleet, context, request)
    refuse_hidden_layer(context.head is not None and context.head.hidden_layer is not None)
    return with_index(context.pool, lambda index: look_by(fleet, context, request, index))


def swept(fleet: Fleet, context: RoundContext, request: SweepRequest) -> Sweep:
    """The sweep with all that scores may need of the context."""
    known = context.labelled
    return sweep(fleet, context.head, request, previous=context.previous, labelled=known.vectors, answers=known.classes)


def look_by(fleet: Fleet, context: RoundContext, request: SweepRequest, index: Index) -> Sweep:
    """As `look`, with the searches that ask for it answered by this index."""
    lacking = coverage(context.pool, index).missing_rows
    if lacking:
        renewed = renewal(context.pool, index, lacking, context.index)
        how = f"by exact search, as the index lacks {lacking} rows; {renewed}"
        found = swept(fleet, context, request)
        return replace(found, searches=tuple(told(search, own, how) for search, own in answered(request, found)))
    how = f"by index {index.label}"
    nothing = (np.empty(0, np.int64), np.empty(0, np.float32))
    by_index = {
        place: Neighbours(of_each=index_neighbours(fleet, index, search.anchors, search.each), nearest=nothing, how=how)
        for place, search in enumerate(request.searches)
        if search.by == "index"
    }
    left = replace(request, searches=tuple(search for search in request.searches if search.by == "exact"))
    found = swept(fleet, context, left) if left.scores or left.searches else sweep(fleet, None, left)
    exact = iter(found.searches)
    searches = tuple(by_index.get(place) or next(exact) for place in range(len(request.searches)))
    return replace(found, searches=searches)


def answered(request: SweepRequest, found: Sweep) -> Iterator[tuple[Search, Neighbours]]:
    return zip(request.searches, found.searches, strict=True)


def told(search: Search, own: Neighbours, how: str) -> Neighbours:
    """A search's answer, with what to say of it if it was to come from an index."""
    return replace(own, how=how) if search.by == "index" else own


def by_what(found: Sweep) -> str:
    """What a rule says of how its neighbours were found, as ", by index ...", or nothing where all was as asked."""
    return "".join(f", {how}" for how in dict.fromkeys(search.how for search in found.searches) if how)
