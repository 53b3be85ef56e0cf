"""Parts of a run that cannot work with its kind of labels are refused before anybody labels a batch for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Never, Self, cast

import numpy as np

from raysal.config import LikeConfig, RunConfig
from raysal.context import LabelledVectors, RoundContext
from raysal.errors import ConfigError
from raysal.labels.spelling import spelled
from raysal.models.evidence import gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import Likelihood
from raysal.models.trainers.base import Trainer
from raysal.narrowing.base import Narrower
from raysal.pool import Pool
from raysal.rounds.background import check_background
from raysal.rounds.prior_shift import check_prior_shift
from raysal.scoring.inputs import NAME_TARGET, score_inputs
from raysal.strategies.base import Selector
from raysal.types import SKIP, Metric


def likelihood_for(
    config: RunConfig,
    trainer: Trainer,
    selector: Selector,
    narrower: Narrower,
    pool: Pool | None = None,
    *,
    start: Selector,
) -> Likelihood:
    """The kind of labels that a trainer learns from, once it is known that the run's other parts can work with it.

    Args:
        config: the run's config.
        trainer: what fits a head.
        selector: the run's strategy.
        narrower: the run's narrower.
        pool: the run's pool; None while it is yet to be embedded.
        start: the strategy while there is no label.

    Returns:
        The likelihood.

    Raises:
        ConfigError: the config speaks of classes where labels are numbers, or of one that cannot be; or a part says,
            before it looks at the data, that it cannot work with such labels; or one needs held-out items.
    """
    likelihood = trainer.likelihood
    likelihood.check_names(config.update.classes, "update.classes")
    likelihood.check_names(config.target, "target")
    check_target(config.target, selector, narrower)
    check_target(config.target, start, narrower)
    if config.rounds.tests and not config.rounds.holdout:
        raise ConfigError("rounds.tests", "tests are drawn from held-out items, and there are none", "holdout = 0.2")
    check_background(config, likelihood)
    check_prior_shift(config, likelihood)
    if not config.rounds.holdout and learns_from_held_out(selector, narrower):
        problem = "0: the run holds out no items, and a strategy takes them for its reference"
        raise ConfigError("rounds.holdout", problem, 'hold out 0.2, or less, or use reference = "pool"')
    if config.rounds.control and learns_from_held_out(selector, narrower):
        problem = (
            "true, and a strategy takes half of the held-out items: the control arm would be measured on all of them"
        )
        raise ConfigError("rounds.control", problem, 'leave it out, or use reference = "pool"')
    if not likelihood.discrete and (config.oracle.model_extra or {}).get("noise"):
        problem = f"takes one class for another, and labels are {likelihood.words}"
        raise ConfigError("oracle.noise", problem, "leave it out")
    if not likelihood.exclusive:  # every part works with one class of several
        check_compatible(likelihood, selector, narrower, PoolToBe(config.embed.metric) if pool is None else pool)
    return likelihood


def check_target(target: Sequence[str], selector: Selector, narrower: Narrower) -> None:
    """Refuse to look for nothing, and for what no label can say.

    Args:
        target: the classes that are looked for.
        selector: the strategy.
        narrower: the narrower.

    Raises:
        ConfigError: there are none, and one of these goes by them; or labels have another spelling.
    """
    check_spelling("target", target)
    if target:
        return
    strategies = [one for outer in (selector, *narrower.strategies()) for one in with_inner_parts(outer)]
    if narrower.needs_target() or any(one.needs_target for one in strategies):
        part = "the narrower" if narrower.needs_target() else "the strategy"
        raise ConfigError("target", f"names no class, and {part} goes by the classes looked for", NAME_TARGET)


def check_like(like: LikeConfig, selectors: Sequence[Selector]) -> None:
    """Refuse queries that nothing goes by.

    Args:
        like: what is looked for.
        selectors: the strategies of a run.

    Raises:
        ConfigError: there are queries, and none of the strategies, or of those inside them, goes by them.
    """
    given = [name for name, value in like if value]
    if given and not any(one.uses_like for outer in selectors for one in with_inner_parts(outer)):
        problem = "names what is looked for, and no strategy of this run goes by it"
        raise ConfigError(f"like.{given[0]}", problem, 'use start = "search" or select = "search", or leave it out')


def check_spelling(where: str, names: Sequence[str]) -> None:
    """Refuse names that no label has.

    Args:
        where: the field that names them.
        names: of classes.

    Raises:
        ConfigError: labels spell a name in another way, or it says that an item is skipped.
    """
    for name in names:
        if (own := spelled(name)) == SKIP:
            raise ConfigError(where, f"{SKIP} says that an item is skipped, and is no class", "name a class")
        if own != name:
            problem = f"no label is {name!r}: labels have one spelling of it" if own else "a blank is no label"
            raise ConfigError(where, problem, f"write {own!r}" if own else "name a class")


def check_compatible(likelihood: Likelihood, selector: Selector, narrower: Narrower, pool: Pool | PoolToBe) -> None:
    """Refuse a strategy or narrower that cannot work with a kind of labels.

    Each is tried with a head that knows nothing, up to its first look at the data. O(1) in the pool.

    Args:
        likelihood: the kind of labels.
        selector: the strategy; those inside it are tried too.
        narrower: the narrower; those inside it, and the strategies it asks, are tried too.
        pool: the pool, of which only the length of a vector and the metric are looked at.

    Raises:
        ConfigError: one of these says that it cannot work with a head of this likelihood.
    """
    names, text = likelihood.example
    nothing = np.zeros((len(names), pool.dim))
    head = replace(Head.of_weights(nothing, nothing[:, 0], classes=names), likelihood=likelihood)
    vectors = np.zeros((1, pool.dim), np.float32)
    known = LabelledVectors(ids=np.zeros(1, np.int64), vectors=vectors, classes=[text], likelihood=likelihood)
    context = RoundContext(
        head=head,
        labelled=known,
        pool=cast("Pool", pool),
        k=1,
        available=len(pool),
        key=0,
        target=names,
        previous=head,
        reveal=lambda ids: dict.fromkeys(ids, text),
    )
    reference = gather_evidence(vectors, [text], None, names, likelihood)
    score_inputs(head, narrower.request(context).scores, previous=head, reference=reference, target=names)
    for one in (selector, *narrower.strategies()):
        for strategy in with_inner_parts(one):
            with suppress(DataReached):
                strategy.select(EmptyFleet(), context, 1)


def learns_from_held_out(selector: Selector, narrower: Narrower) -> bool:
    """Whether labels of held-out items decide picks of one of a run's strategies, so that half of them measure nothing.

    Args:
        selector: the strategy.
        narrower: the narrower.

    Returns:
        Whether one of them, or of those inside, says so.
    """
    return any(one.uses_held_out for outer in (selector, *narrower.strategies()) for one in with_inner_parts(outer))


def with_inner_parts(selector: Selector) -> Iterator[Selector]:
    """It, and those within it."""
    yield selector
    for inner in selector.inner_parts():
        yield from with_inner_parts(inner)


@dataclass(frozen=True)
class PoolToBe:
    """What is known of a pool before it is embedded. The length of its vectors is not; a trial takes any."""

    metric: Metric
    dim: int = 1

    def __len__(self) -> int:
        return 1


class DataReached(Exception):
    """A part has begun to look at the data."""


class EmptyFleet:
    """A fleet without data; the first call of a trial ends the trial."""

    size = 1

    def reset(self) -> None:
        """There is nothing to forget."""

    def each(self, fn: Callable[..., Any], *args: Any) -> Never:
        """End the trial.

        Raises:
            DataReached: always.
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
