"""A selector picks a batch from the fleet's candidates, in pick order, without ever gathering them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raysal.context import RoundContext
from raysal.errors import ConfigError, PoolError, PoolExhausted
from raysal.fleet import Fleet, Partition


@dataclass(frozen=True, kw_only=True)
class Picks:
    """A batch: ids [k] in pick order, the score each was picked for, and why, in a few words each."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    reasons: tuple[str, ...] = field(default=())


class Selector(ABC):
    """A strategy. Its constructor fields are its config (a frozen dataclass, keywords only)."""

    @property
    @abstractmethod
    def needs_head(self) -> bool:
        """Whether it cannot work before the first label."""

    @property
    def can_start_cold(self) -> bool:
        """Whether it is fit to pick the first batch, before any label. False also for one that would pick outliers."""
        return not self.needs_head

    @abstractmethod
    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """k distinct candidates in pick order. 1 <= k <= number of candidates, checked by `select`.

        Deterministic in (pool, candidates, context): the same for any partitions of the pool.
        """

    def inner_parts(self) -> Sequence[Selector]:
        """The strategies that it holds and asks for picks; most hold none."""
        return ()


def select(fleet: Fleet, selector: Selector, context: RoundContext, k: int) -> Picks:
    """A batch of k from the fleet's candidates.

    Raises:
        ConfigError: k is below 1, or the selector needs a head and there is none.
        PoolExhausted: fewer than k candidates are left.
    """
    if k < 1:
        raise ConfigError("k", f"{k} is not a batch", "ask for at least 1")
    left = sum(fleet.each(count_candidates))
    if k > left:
        raise PoolExhausted(wanted=k, available=left)
    return selector.select(fleet, context, k)


def count_candidates(partition: Partition) -> int:
    """How many rows may be picked here."""
    return len(partition.candidates())


def refuse_broken(ids: NDArray[np.int64], finite: NDArray[np.bool_]) -> None:
    """
    Raises:
        PoolError: an item is not `finite`; it names the first.
    """
    broken = ids[~finite]
    if len(broken):
        raise PoolError(f"item {broken[0]}", "its vector is not finite numbers", "embed it again, or leave it out")
