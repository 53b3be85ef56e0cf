"""The round's sweep: one pass over the pool, or an answer from the pool's index where a narrower asks for that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raysal.context import RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.index import Index, coverage, index_neighbours, start_rebuild, with_index
from raysal.rng import derive
from raysal.scoring.sweep import Neighbours, Sweep, SweepRequest, sweep
from raysal.scoring.top_k import BestItems

NO_ITEMS: BestItems = (np.empty(0, np.int64), np.empty(0, np.float32))
"""What an index says of the items nearest to any anchor: it is not asked for them."""


def round_sweep(fleet: Fleet, context: RoundContext, request: SweepRequest) -> Sweep:
    """What a narrower asks for, and a uniform sample of at least k items to top a batch up from.

    Searches with `by = "index"` are answered by the pool's index, and no vector is read for them. Where nothing else is
    asked for, there is no pass over the pool, and no class counts. An index that lacks rows of the pool is not
    searched: the searches are exact then, and `Neighbours.how` says why, and what becomes of the index.

    Args:
        fleet: the pool's partitions.
        context: what the round knows.
        request: what to find; its sample and its keys are set here.

    Returns:
        What was found among the available items.

    Raises:
        PoolError: an index is asked for that does not exist, is damaged, or is of another encoder.
        ConfigError: an index is asked for, and the head has a hidden layer.
    """
    request = replace(
        request, sample=max(request.sample, context.k), key=derive(context.key, "sample"), ties=context.ties
    )
    if not any(search.by == "index" for search in request.searches):
        return exact_sweep(fleet, context, request)
    refuse_hidden_layer(context.head is not None and context.head.hidden_layer is not None)
    return with_index(context.pool, lambda index: sweep_beside_index(fleet, context, request, index))


def exact_sweep(fleet: Fleet, context: RoundContext, request: SweepRequest) -> Sweep:
    """A pass over the pool that finds all of the request, with what scores may need of the context."""
    reference = context.reference(fleet, request.scores, derive(request.key, "scores"))
    return sweep(fleet, context.head, request, previous=context.previous, reference=reference, target=context.target)


def sweep_beside_index(fleet: Fleet, context: RoundContext, request: SweepRequest, index: Index) -> Sweep:
    """As `round_sweep`, with the searches that ask for it answered by this index."""
    lacking = coverage(context.pool, index).missing_rows
    if lacking:
        renewed = start_rebuild(context.pool, index, lacking, context.index)
        how = f"by exact search, as the index lacks {lacking} rows; {renewed}"
        found = exact_sweep(fleet, context, request)
        answers = zip(request.searches, found.searches, strict=True)
        return replace(
            found, searches=tuple(replace(own, how=how) if search.by == "index" else own for search, own in answers)
        )
    how = f"by index {index.label}"
    by_index = {
        place: Neighbours(
            of_each=index_neighbours(fleet, index, search.anchors, search.each, request.ties), nearest=NO_ITEMS, how=how
        )
        for place, search in enumerate(request.searches)
        if search.by == "index"
    }
    rest = replace(request, searches=tuple(search for search in request.searches if search.by == "exact"))
    found = exact_sweep(fleet, context, rest) if rest.scores or rest.searches else sweep(fleet, None, rest)
    exact = iter(found.searches)
    searches = tuple(by_index.get(place) or next(exact) for place in range(len(request.searches)))
    return replace(found, searches=searches)


def refuse_hidden_layer(hidden_layer: bool) -> None:
    """Refuse to search an index where there is, or will be, a hidden layer: it is over the pool's own vectors.

    Raises:
        ConfigError: there is one.
    """
    if hidden_layer:
        problem = "an index is over the pool's own vectors, and the head looks at them through a hidden layer"
        raise ConfigError("narrow.search", problem, 'search = "exact", or a trainer without a hidden layer')


def search_note(found: Sweep) -> str:
    """What a rule adds of how neighbours were found: ", by index ...", or nothing where all is as asked for."""
    return "".join(f", {how}" for how in dict.fromkeys(search.how for search in found.searches) if how)
