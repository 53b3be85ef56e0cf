"""Background: items drawn uniformly that count as not looked for, until somebody labels them.

Batches of a search are full of what is looked for, and a head that sees little else believes everything to be that. The
background tells it what the rest of the pool is like. It is never in the ledger, and no count of labels knows it: which
items it has is a function of the seed, the pool and the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from raysal.config import RunConfig
from raysal.errors import ConfigError
from raysal.fleet import Fleet, Partition
from raysal.labels import Ledger
from raysal.labels.records import Labelled
from raysal.models.head import Head
from raysal.models.likelihood import Likelihood
from raysal.pool import Pool
from raysal.rng import derive, item_uniform
from raysal.rounds.held_out import HeldOut
from raysal.types import NONE


@dataclass(frozen=True, kw_only=True)
class Background:
    """The items of a run that count as not looked for.

    An item belongs to it by its hash, so that to ask costs nothing of the pool: about `update.background` items of all,
    never a held-out one. It leaves when somebody labels it, disputed or not, and returns when all labels of it are
    withdrawn.
    """

    ledger: Ledger
    held_out: HeldOut | None
    key: int
    """of `raysal.rng`"""
    share: float
    """of the pool's items"""
    weight: float
    """what each counts, in labels"""
    target: tuple[str, ...]
    exclusive: bool
    """whether an item has one class"""

    @classmethod
    def of(cls, ledger: Ledger, config: RunConfig, pool: Pool, likelihood: Likelihood) -> Self | None:
        """That of a run with this ledger; None where it has none."""
        if not config.update.background or not len(pool):
            return None
        return cls(
            ledger=ledger,
            held_out=HeldOut.of(config, pool),
            key=derive(config.seed, "background"),
            share=config.update.background / len(pool),
            weight=config.update.background_weight,
            target=config.target,
            exclusive=likelihood.exclusive,
        )

    def among(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these items belong to it while nobody labels them, [n]."""
        return drawn_among(ids, self.key, self.share, self.held_out)

    def ids(self, fleet: Fleet, upto: int) -> NDArray[np.int64]:
        """The items it has after an event of the ledger. One round trip, which reads ids alone.

        Args:
            fleet: the pool's partitions.
            upto: number of the event.

        Returns:
            Ids, ascending.
        """
        drawn = np.sort(np.concatenate(fleet.each(drawn_rows, self.key, self.share, self.held_out)))
        labelled = [item.id for item in self.ledger.labels(upto, drawn, votes=True)]
        return drawn[~np.isin(drawn, np.array(labelled, np.int64))]

    def changed_since(self, seq: int, upto: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The items that returned to it, and those that left it, between two events of the ledger; ids, ascending."""
        changes = self.ledger.changed_since(seq, upto, votes=True)
        return changes.lost[self.among(changes.lost)], changes.new[self.among(changes.new)]

    def is_same(self, seq: int, upto: int) -> bool:
        """Whether it has the same items after both of two events of the ledger."""
        return not any(len(ids) for ids in self.changed_since(seq, upto))

    def items(self, ids: NDArray[np.int64], classes: Sequence[str]) -> list[Labelled]:
        """What some of its items say to a head, as if they were labelled: each other class alike.

        With several labels at once they say that there is none.

        Args:
            ids: of the items.
            classes: those of the fit that learns from them, or did.

        Returns:
            A record for each item, without a key.

        Raises:
            ConfigError: every class is looked for.
        """
        others = [name for name in classes if name not in self.target]
        if self.exclusive and not others:
            error = no_other_class()
            raise error
        shares = tuple((name, 1 / len(others)) for name in others) if self.exclusive else ()
        label = others[0] if self.exclusive else NONE
        return [
            Labelled(id=id, key="", label=label, weight=self.weight, seq=0, since=0, round=None, shares=shares)
            for id in ids.tolist()
        ]


def by_id(items: Sequence[Labelled], others: Sequence[Labelled]) -> list[Labelled]:
    """Both in order of id."""
    return sorted([*items, *others], key=lambda item: item.id)


def classes_at_fit(head: Head) -> tuple[str, ...]:
    """The classes of a head without those that have joined since its fit, of which its background knew nothing."""
    return head.classes[: len(head.linearised_at)]


def check_background(config: RunConfig, likelihood: Likelihood) -> None:
    """Refuse a background that could say nothing.

    Args:
        config: of a run.
        likelihood: what its labels are.

    Raises:
        ConfigError: labels are numbers, nothing is looked for, or no other class is known from the start.
    """
    if not config.update.background:
        return
    if not likelihood.discrete:
        raise ConfigError("update.background", f"counts items as not looked for, and labels are {likelihood.words}")
    if not config.target:
        problem = "counts items as not looked for, and no class is"
        raise ConfigError("update.background", problem, 'name one: target = ["..."], or leave it out')
    if likelihood.exclusive and not set(config.update.classes) - set(config.target):
        error = no_other_class()
        raise error


def no_other_class() -> ConfigError:
    """That the background has no class to be of."""
    problem = "counts items as not looked for, and no class is known for them"
    return ConfigError("update.background", problem, 'name it: update.classes = ["negative"]')


def drawn_among(ids: NDArray[np.int64], key: int, share: float, held_out: HeldOut | None) -> NDArray[np.bool_]:
    """Which items [n] are drawn: a share of all by hash, without those that are held out."""
    drawn: NDArray[np.bool_] = item_uniform(key, ids) < share
    return drawn if held_out is None else drawn & ~held_out.among(ids)


# Functions of a partition.


def drawn_rows(partition: Partition, key: int, share: float, held_out: HeldOut | None) -> NDArray[np.int64]:
    """The ids of a partition that are drawn, labelled or not."""
    return np.asarray(partition.ids[drawn_among(partition.ids, key, share, held_out)])
