"""A round's rules tried without any data, by a head that knows nothing: what cannot work with a kind of labels is
refused before anybody has labelled a batch for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Never, Self

import numpy as np

from raysal.context import LabelledVectors, RoundContext
from raysal.models.head import Head
from raysal.models.likelihood import Likelihood
from raysal.narrowing.base import Narrower
from raysal.pool import Pool
from raysal.scoring.inputs import score_inputs
from raysal.strategies.base import Selector


def check_compatible(likelihood: Likelihood, selector: Selector, narrower: Narrower, pool: Pool) -> None:
    """
    Raises:
        ConfigError: one of these, or a rule within it, says before it looks at the data that it cannot work with a head
            of this likelihood.
    """
    names, text = likelihood.example
    nothing = np.zeros((len(names), pool.dim))
    head = replace(Head.of_weights(nothing, nothing[:, 0], classes=names), likelihood=likelihood)
    vectors = np.zeros((1, pool.dim), np.float32)
    known = LabelledVectors(ids=np.zeros(1, np.int64), vectors=vectors, classes=[text], likelihood=likelihood)
    context = RoundContext(
        head=head,
        labelled=known,
        pool=pool,
        k=1,
        available=len(pool),
        key=0,
        previous=head,
        reveal=lambda ids: dict.fromkeys(ids, text),
    )
    score_inputs(head, narrower.request(context).scores, previous=head, labelled=vectors, answers=[text])
    for one in (selector, *narrower.strategies()):
        for strategy in with_inner_parts(one):
            with suppress(DataReached):
                strategy.select(EmptyFleet(), context, 1)


def with_inner_parts(selector: Selector) -> Iterator[Selector]:
    """It, and those within it."""
    yield selector
    for inner in selector.inner_parts():
        yield from with_inner_parts(inner)


class DataReached(Exception):
    """A rule has begun to look at the data."""


class EmptyFleet:
    """A fleet without data, at the first look at which a rehearsal ends."""

    size = 1

    def reset(self) -> None:
        """There is nothing to forget."""

    def each(self, fn: Callable[..., Any], *args: Any) -> Never:
        """
        Raises:
            Reached: always.
        """
        del fn, args
        raise DataReached

    def close(self) -> None:
        """There is nothing to let go."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `close`."""
