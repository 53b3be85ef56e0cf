"""Narrowers: from the millions of items of a pool to the thousands of candidates that a strategy looks at.

A round narrows, then selects. A narrower runs the round's one sweep over the pool, and names the candidates. The
strategy sees these items and no others.

The one method is `Narrower.narrow(fleet, context)`; it returns the sweep and the `Candidates`. Most narrowers need
nothing but what a sweep finds: the best items by a score, the neighbours of anchors, a uniform sample. They subclass
`OneSweep`, and write two methods in its place:

    request(context)                       what the sweep is to find
    candidates(fleet, context, found)      the candidates, from what it found

What every narrower keeps; the tests of laws hold each registered one to it:

- Candidates are available items: none is labelled, leased, held out or dropped by `filter`.
- They depend on the pool, on what is available and on the context. They do not depend on chunks, partitions, threads,
  or on the order in which partitions answer.
- Randomness comes from `context.key` and the ids of items alone (`raysal.rng`). Each use of the key has its own path.
- The driver holds ids and scores of candidates, and never all rows of the pool.
- `Candidates.rule` says how many items came from where, in a few words. The round's record keeps it.

Pitfalls:

- A mean over lists that were cut per partition depends on the partitions. Take it over the lists of the whole pool.
- Several narrowers may share a sweep (`mixed`). Then `found.top` and `found.sample` are longer than asked for. Their
  order is fixed, so cut off what is beyond your own size.
- In the first round there is no head, and no label. Keep the whole pool (`ids=None`), and let the rule say why.
- Fewer than k candidates are no error: `narrow` below adds items of a uniform sample, and the rule says so.

To add one: a file in this folder with a frozen dataclass, keywords only, whose fields are its config; and one line in
`registry.py`. The line enrols it in the laws, in configs and in the command line. Its docstring says what it costs and
when to use it, and docs/narrowing.md has a section for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from raysal.context import RoundContext
from raysal.fleet import Fleet, confine, keep
from raysal.memory import Memory
from raysal.models.trainers.base import Trainer
from raysal.narrowing.round_sweep import refuse_hidden_layer, round_sweep
from raysal.scoring.sweep import Sweep, SweepRequest
from raysal.strategies.base import Selector


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What a strategy may pick from, and how it was found."""

    ids: NDArray[np.int64] | None
    """[n], best first where the narrower has an order; None is all that is available"""
    rule: str
    """how they were found, for the round's record"""
    memory: Memory | None = None
    """what the narrower will want to know in the next round"""
    as_pool: bool = False
    """whether the strategy is to take them for the whole pool, also in what it covers and judges items by"""


class Narrower(ABC):
    """Names a round's candidates. Its constructor fields are its config."""

    @abstractmethod
    def narrow(self, fleet: Fleet, context: RoundContext) -> tuple[Sweep, Candidates]:
        """Sweep the pool once, and name the candidates.

        Args:
            fleet: the pool's partitions, in a program from which what must not be offered was taken out.
            context: what the round knows; its key is that of the stage.

        Returns:
            What the sweep found, with a uniform sample of at least k items; and the candidates, all of them available.

        Raises:
            ConfigError: the narrower cannot work with this head, or this pool.
            PoolError: an index is asked for that does not exist or is damaged; or a vector is not finite.
            PoolExhausted: it drops items, and fewer than k are left.
        """

    def request(self, context: RoundContext) -> SweepRequest:
        """What it asks the sweep for, which is looked at before a run begins. Pure.

        Args:
            context: what the round knows.

        Returns:
            The request; that of the narrower inside, where there is one.
        """
        del context
        return SweepRequest()

    def wants_index(self) -> bool:
        """Whether it, or one inside it, may search the pool's index."""
        return False

    def needs_target(self) -> bool:
        """Whether it, or one inside it, goes by the classes that are looked for, and they must be named."""
        return False

    def strategies(self) -> Sequence[Selector]:
        """The strategies that it, or one inside it, asks for picks."""
        return ()

    def looks_at_head(self) -> bool:
        """Whether its candidates depend on the head, where there is one."""
        return True


class OneSweep(Narrower):
    """A narrower that needs nothing but the round's sweep, so that several of them can share one (`mixed`)."""

    SIZE_FIELD: ClassVar[str | None] = None
    """The field that says how many candidates it names at most; None where it has no such field."""

    @abstractmethod
    def request(self, context: RoundContext) -> SweepRequest:
        """What the sweep is to find. Pure.

        Args:
            context: what the round knows.

        Returns:
            The request. Its `key`, and a sample of at least k items, are added later.
        """

    @abstractmethod
    def candidates(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Candidates:
        """The candidates, from what the sweep found.

        Args:
            fleet: the pool's partitions, for a small question about the items that were found.
            context: what the round knows; the same as in `request`.
            found: what the sweep found: its `searches` are those of `request`, in that order, while `top` and
                `sample` may be longer than asked for.

        Returns:
            The candidates.
        """

    def accumulates(self) -> bool:
        """Whether it, or one inside it, has a memory from round to round."""
        return False

    def narrow(self, fleet: Fleet, context: RoundContext) -> tuple[Sweep, Candidates]:
        """The sweep that `request` asks for, and the `candidates` from it."""
        found = round_sweep(fleet, context, self.request(context))
        return found, self.candidates(fleet, context, found)


def narrow(fleet: Fleet, narrower: Narrower, context: RoundContext) -> tuple[Sweep, Candidates]:
    """Sweep once, and set the fleet's candidates to those that the narrower names.

    Where they would not fill a batch of k, items of a uniform sample are added, and the rule says so. So a batch is
    never cut short while the pool has items left. Where the narrower says that they stand for the pool (`as_pool`), all
    other items are excluded for the rest of the program.

    Args:
        fleet: as in `Narrower.narrow`.
        narrower: names the candidates.
        context: what the round knows; its key is that of the stage.

    Returns:
        What the sweep found, and the candidates, what was added included.

    Raises:
        ConfigError, PoolError, PoolExhausted: as `Narrower.narrow`.
    """
    found, candidates = narrower.narrow(fleet, context)
    if candidates.ids is not None:
        left = sum(fleet.each(keep, candidates.ids))
        if left < context.k:
            added = found.sample[0][~np.isin(found.sample[0], candidates.ids)][: context.k - left]
            candidates = replace(
                candidates,
                ids=np.concatenate([candidates.ids, added]),
                rule=f"{candidates.rule}, topped up with {len(added)} uniform",
            )
            fleet.each(keep, candidates.ids)
        if candidates.as_pool:
            fleet.each(confine, candidates.ids)
    return found, candidates


def searches_index(narrower: Narrower, trainer: Trainer) -> bool:
    """Whether rounds of a narrower may search the pool's index.

    Args:
        narrower: names the candidates.
        trainer: makes the heads of these rounds.

    Returns:
        What `wants_index` says.

    Raises:
        ConfigError: they may, and the trainer's heads see vectors through a hidden layer.
    """
    if narrower.wants_index():
        refuse_hidden_layer(trainer.hidden_layer)
    return narrower.wants_index()
