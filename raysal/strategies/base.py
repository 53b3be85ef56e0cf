"""What a strategy is: it picks a batch of k from the candidates of a fleet, in pick order, without gathering them.

A strategy is what people name (`badge`, `bait`); a `Selector` is the object that carries it out. It is a frozen,
keyword-only dataclass; its constructor fields are its config. It has one method, `select`, and says with `needs_head`
whether it needs a label first. `select` runs in the driver. It sends functions to the partitions by `fleet.each`, one
round trip a call, and picks from what they answer.

A strategy whose picks depend on one another keeps what a partition knows in `partition.state`. Its functions of a
partition have the same names in the same order in every file:

    start     lay out the candidates' state
    propose   name the best candidate here
    add_pick  take the pick into the state

Where a round trip can be saved, `start` and `add_pick` answer with what `propose` says. `engine/` has what such
strategies share: rows and proposals (`dense`), and the lazy search of the whole pool (`lazy_greedy`). A strategy that
picks all at once needs none of this: see `simple`. One that compares candidates with one another takes a bounded
number of them to the driver (`engine.shortlist`).

What every strategy keeps; the tests of laws hold each registered one to it:

- k distinct ids of candidates, none of them labelled, leased or excluded. There are as many scores and reasons.
- The same picks, scores and reasons to the last bit for any partitions, chunks and threads, local or on Ray. So
  products have one shape (`raysal.numerics`), and sums over partitions are of whole numbers or in a fixed order.
- Ties go by a hash of (key, item), never by the lower id: else a constant score takes the first files of a folder.
  `best_of`, `CandidateRows` and the lazy engine take the key `context.ties`; a shortlist comes in that order.
- Randomness comes from `context.key`: the number of an item from its id (`item_uniform`), any other from a generator
  with a derived key. It never comes from positions, a clock or earlier calls. Each use derives a key of its own.
- Where picks(k) is not a prefix of picks(k + 1), the docstring says so.
- Memory of the driver does not grow with the pool.
- It never ends short: once its rule has no more to say, the rest is a uniform sample, and the reason says so.

Pitfalls:

- A worker may restart between two calls; the calls so far are then replayed. So what a function of a partition answers,
  and what it leaves in `partition.state`, depends on its arguments and on that state alone.
- A round trip costs milliseconds. One for each pick is affordable, one for each pick and row is not.
- A vector may be broken. Refuse items without finite numbers (`refuse_broken`), or they win every comparison.
- The head may be sure of everything, have one class, or predict numbers. `RoundContext.linear` refuses heads that a
  strategy cannot work with; the tests of degenerate cases try the others.

To add one: a file with its class and one line in `registry`. The line enrols it in the laws, in configs and in the
command line. The docstring of the class is its card: the rule and its paper; what it needs; cost in time, memory and
round trips; the prefix property; what its score is; and what it is not for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raysal.context import RoundContext
from raysal.errors import ConfigError, PoolExhausted
from raysal.fleet import Fleet, Partition
from raysal.scoring.top_k import BestItems, lowest_hashes


@dataclass(frozen=True, kw_only=True)
class Picks:
    """A batch."""

    ids: NDArray[np.int64]
    """[k] in pick order"""
    scores: NDArray[np.float64]
    """[k] what each was picked for; its meaning is the strategy's own"""
    reasons: tuple[str, ...] = field(default=())
    """[k] why each was picked, in a few words"""
    shares: tuple[str, ...] = field(default=())
    """[k] the way by which each was found, of a strategy that shares out its batch (`RoundContext.yields`)"""


class Selector(ABC):
    """The object that carries out a strategy. Its constructor fields are its config (frozen, keywords only)."""

    @property
    @abstractmethod
    def needs_head(self) -> bool:
        """Whether it cannot work before the first label."""

    @property
    def can_start_cold(self) -> bool:
        """Whether it is fit to pick the first batch, before any label. False also for one that would pick outliers."""
        return not self.needs_head

    @property
    def looks_at_head(self) -> bool:
        """Whether a head changes its picks or reasons where there is one; `raysal.select` then makes one of labels."""
        return True

    @property
    def needs_target(self) -> bool:
        """Whether it goes by the classes that are looked for (`RoundContext.target`), and they must be named."""
        return False

    @property
    def uses_like(self) -> bool:
        """Whether it goes by queries for what is looked for (`RoundContext.like`)."""
        return False

    @property
    def uses_held_out(self) -> bool:
        """Whether labels of held-out items decide its picks; half of these items then measure nothing."""
        return False

    @property
    def takes_probabilities(self) -> bool:
        """Whether given probabilities (`raysal.scoring.given_probabilities`) will do in place of a head."""
        return False

    @abstractmethod
    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Pick k of the candidates.

        Args:
            fleet: the pool's partitions; their `candidates()` are what may be picked.
            context: what the round knows; its key is that of the stage.
            k: 1 <= k <= number of candidates, which `raysal.strategies.base.select` checks.

        Returns:
            k distinct candidates in pick order, the same for any partitions of the pool.

        Raises:
            ConfigError: the strategy cannot work with this head.
            PoolError: a vector is not finite; it names the item.
        """

    def inner_parts(self) -> Sequence[Selector]:
        """The strategies that it holds and asks for picks; most hold none."""
        return ()


def select(fleet: Fleet, selector: Selector, context: RoundContext, k: int) -> Picks:
    """Pick a batch of k from the fleet's candidates. One round trip before those of the strategy.

    Args:
        fleet: the pool's partitions.
        selector: carries out the strategy.
        context: what the round knows; its key is that of the stage.
        k: how many.

    Returns:
        The batch.

    Raises:
        ConfigError: k is below 1; or the selector needs a head and there is none, or not one it can work with.
        PoolExhausted: fewer than k candidates are left.
        PoolError: a vector is not finite; it names the item.
    """
    if k < 1:
        raise ConfigError("k", f"{k} is not a batch", "ask for at least 1")
    left = sum(fleet.each(count_candidates))
    if k > left:
        raise PoolExhausted(wanted=k, available=left)
    return selector.select(fleet, context, k)


# Functions of a partition that strategies share.


def count_candidates(partition: Partition) -> int:
    """How many rows may be picked here."""
    return len(partition.candidates())


def position_of(ids: NDArray[np.int64], item: int) -> int | None:
    """Where an id stands among ascending ids [n], or None if it is not there."""
    place = int(np.searchsorted(ids, item))
    return place if place < len(ids) and ids[place] == item else None


def sample_candidates(partition: Partition, key: int, k: int) -> BestItems:
    """The candidates of lowest hash here: over partitions, a uniform sample of all candidates, however they are cut.

    Args:
        partition: where they live.
        key: key of `raysal.rng`.
        k: how many; all where there are fewer.

    Returns:
        Ids and 1 - hash, best first.
    """
    return lowest_hashes(partition.ids, key, k, partition.available & partition.candidate)
