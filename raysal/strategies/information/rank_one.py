"""BAIT among items of rank one that lie in the driver: what a change does to all of them is two numbers an item.

The information of an item is v v'. Adding it to the precision changes v'Mv and v'MFMv of the others by their products
with u = M v and w = M F u. To read all items for one u and w takes as long as for several. So the likeliest next items
are looked at together, and what has been added since is taken off from their products by its own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import EXACT_COLUMNS, FLOAT64_STEP, ceil_div, one_thread, padded, round_up, slices

TOGETHER = 8
"""Items that are looked at together. Three to five of them come next; with 16 it was five to eight."""
CACHED_NUMBERS = 2**20
"""Numbers of the items, 8 MB, up to which one thread multiplies them with those that are looked at together. On busy
cores two took 30 times as long."""
TILE_ROWS = 50 * FLOAT64_STEP
"""Items that are multiplied with M in one product, at most."""
HISTORY = 32
"""Changes of M that are kept apart until all are applied to it, in one product."""
LEAST_PIVOT = float(np.finfo(np.float64).eps)
"""What is left of a pivot that rounding has eaten up."""


class Changes(NamedTuple):
    """Items in the order in which they were added."""

    places: NDArray[np.int64]
    falls: NDArray[np.float64]
    """By how much each lowered tr(M F)."""


class RankOne:
    """Items of rank one, while some are added to the precision, and taken away from it again.

    O(n d^2) once, O(n d + d^2) a change; memory 16 n d bytes, later 8, and some 2,000 (n + d).
    The bits depend neither on threads nor on the order of the items.

    Args:
        v: float64 [n, d], a row for each item.
        matrix: M, the inverse of the precision, float64 [d, d].
        fisher: F, float64 [d, d].

    Attributes:
        variance: v'Mv of each item, float64 [n].
        fall: v'MFMv of each item, float64 [n].
    """

    def __init__(self, v: NDArray[np.float64], matrix: NDArray[np.float64], fisher: NDArray[np.float64]) -> None:
        self.n, self.dim = v.shape
        width = round_up(self.dim, EXACT_COLUMNS)
        self._matrix, self._fisher = (padded(one, width, torch.float64, rows=width) for one in (matrix, fisher))
        # Of one shape, so that equal items have equal bits.
        size = round_up(ceil_div(self.n, ceil_div(self.n, TILE_ROWS)), FLOAT64_STEP)
        rows = padded(v, width, torch.float64, rows=round_up(self.n, size))
        variance, fall = np.empty((2, len(rows)))
        for own in slices(len(rows), size):
            turned = rows[own] @ self._matrix
            variance[own] = np.einsum("ij,ij->i", turned.numpy(), rows[own].numpy())
            fall[own] = np.einsum("ij,ij->i", (turned @ self._fisher).numpy(), turned.numpy())
        self.variance, self.fall = variance[: self.n], fall[: self.n]
        self._columns = rows[: round_up(self.n, FLOAT64_STEP)].T.contiguous()
        self._ahead: dict[int, torch.Tensor] = {}
        self._changes = torch.empty(2 * HISTORY, self._columns.shape[1] + width, dtype=torch.float64)
        self._inverses, self._own = np.empty((2, HISTORY))
        self._count = 0

    def matrix(self) -> NDArray[np.float64]:
        """M after all changes so far, float64 [d, d]."""
        self._apply()
        return self._matrix[: self.dim, : self.dim].numpy()

    def only(self, places: NDArray[np.int64]) -> RankOne:
        """Some of the items, after all changes so far."""
        size = slice(self.dim)
        return RankOne(self._columns[size, places].T.numpy(), self.matrix(), self._fisher[size, size].numpy())

    def most_telling(self, count: int, spare: NDArray[np.float64] | None = None) -> Changes:
        """Add items one by one, each the one that lowers tr(M F) most, ties to the first.

        Args:
            count: how many.
            spare: numbers below zero, [n]: the order of items that do not lower it; without them, by what they do.

        Returns:
            Their places, and by how much each lowered it.
        """
        found = Changes(np.empty(count, np.int64), np.empty(count))
        for turn in range(count):
            value = self.fall / np.maximum(1 + self.variance, LEAST_PIVOT)
            if spare is not None:
                value = np.where(value > 0, value, spare)
            value[found.places[:turn]] = -np.inf
            found.places[turn] = best = int(value.argmax())
            found.falls[turn] = value[best]
            self.change(best, 1, value)
        return found

    def without_least(self, k: int) -> NDArray[np.int64]:
        """Take items away, all of which were added before, each time the one that raises tr(M F) least.

        Args:
            k: how many are left. Ties go to the later.

        Returns:
            Places of those left, ascending.
        """
        left = np.ones(self.n, bool)
        for _ in range(self.n - k):
            value = np.where(left, -self.fall / np.maximum(1 - self.variance, LEAST_PIVOT), -np.inf)
            drop = self.n - 1 - int(value[::-1].argmax())
            left[drop] = False
            self.change(drop, -1, value)
        return np.flatnonzero(left)

    def change(self, place: int, sign: int, wanted: NDArray[np.float64]) -> None:
        """Add an item to the precision, or take it away.

        Args:
            place: which item.
            sign: 1 to add it; -1 to take it away, if it was added before.
            wanted: the larger, the likelier an item is to be one of the next, [n].
        """
        if self._count == HISTORY:
            self._apply()
        if place not in self._ahead:
            self._look_ahead(place, wanted)
        count, own = self._count, slice(2 * self._count, 2 * self._count + 2)
        found = torch.sub(self._ahead.pop(place), self._since(place), out=self._changes[own])
        u, w = found.numpy()[:, : self.n]
        # Exact arithmetic keeps what is taken away below 1, as M has seen it.
        inverse = 1 / (1 + u[place] if sign > 0 else min(u[place], 1 - LEAST_PIVOT) - 1)
        scaled = u * inverse
        self.variance -= scaled * u
        self.fall -= scaled * (2 * w - scaled * w[place])
        self._inverses[count], self._own[count] = inverse, w[place]
        self._count += 1

    def _threads(self) -> AbstractContextManager[None]:
        """One thread for products of a cache's size: their bits are the same, and several wait for one another."""
        return one_thread() if self._columns.numel() <= CACHED_NUMBERS else nullcontext()

    def _look_ahead(self, place: int, wanted: NDArray[np.float64]) -> None:
        """Multiply all items with u and w, by M as it was last applied, of an item and of others likely to be next."""
        wanted = wanted.copy()
        wanted[list(self._ahead)] = -np.inf
        wanted[place] = np.inf
        places = np.argpartition(wanted, max(self.n - TOGETHER, 0))[-TOGETHER:]
        with self._threads():
            u = self._columns[:, places].T @ self._matrix
            both = torch.cat([u, u @ self._fisher @ self._matrix])
            products = torch.cat([both @ self._columns, both], 1).reshape(2, len(places), -1).unbind(1)
        self._ahead.update(zip(places.tolist(), products, strict=True))

    def _since(self, place: int) -> torch.Tensor:
        """What the changes since M was applied have taken off from what was looked at of an item, [2, ...]."""
        own = self._changes[: 2 * self._count]
        along, inverses = own[:, place].numpy(), self._inverses[: self._count]
        shares = np.zeros((2, 2 * self._count))
        shares[0, ::2] = shares[1, 1::2] = inverses * along[::2]
        shares[1, ::2] = inverses * (along[1::2] - self._own[: self._count] * shares[0, ::2])
        with self._threads():
            return torch.from_numpy(shares) @ own

    def _apply(self) -> None:
        """Apply the changes to M, and forget what was looked at ahead."""
        u = self._changes[: 2 * self._count : 2, self._columns.shape[1] :]
        with one_thread():
            self._matrix -= (u * torch.from_numpy(self._inverses[: self._count, None])).T @ u
        self._count = 0
        self._ahead.clear()
