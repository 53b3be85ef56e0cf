"""The nearest row of another unit, of each row that has a near one: exact, and without a list of the near pairs.

A row that has found a near one looks for nearer ones alone. So a group of a million jittered copies beside a few rows
that are kept costs a product of the ones with the others, and no list of pairs.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.curation.near.pairs import (
    CANDIDATES_AT_ONCE,
    COLUMNS,
    PAIRS_AT_ONCE,
    at_least,
    columns_for,
    exact_similarities,
)
from raysal.curation.near.unit import UNIT_ROUNDING, Unit, radius_of
from raysal.numerics import shared_out, slices
from raysal.strategies.engine.distances import slack
from raysal.types import Metric

DENSE = 16
"""Where more than one of so many pairs of a block may be near, all of its pairs are compared by one product."""
HELD = 2**20
"""Pairs that may be the nearest of some row, after which they are decided in double precision: 24 MB."""
ABOVE = 1 + 2.0**-20
"""A bound is taken a little larger, for the rounding of its own steps."""


class Nearest(NamedTuple):
    """Items that have a near one, and the most similar of these."""

    ids: NDArray[np.int64]
    """[m], ascending"""
    nearest: NDArray[np.int64]
    """[m], of equally similar ones the lowest id"""
    similarity: NDArray[np.float64]
    """[m]"""

    def only(self, rows: NDArray[np.bool_]) -> Nearest:
        """Some of them."""
        return Nearest(self.ids[rows], self.nearest[rows], self.similarity[rows])

    @classmethod
    def best(cls, ids: NDArray[np.int64], nearest: NDArray[np.int64], similarity: NDArray[np.float64]) -> Self:
        """Keep of each item the most similar one, of equally similar ones the lowest id.

        Args:
            ids: of items, in any order, [p].
            nearest: what each of them may be nearest to, [p].
            similarity: to that, [p].

        Returns:
            Each item once.
        """
        order = np.lexsort((nearest, -similarity, ids))
        ids = ids[order]
        first = np.ones(len(ids), bool)
        first[1:] = ids[1:] != ids[:-1]
        return cls(ids[first], nearest[order][first], similarity[order][first])

    @classmethod
    def joined(cls, pieces: list[Nearest]) -> Self:
        """The best of several."""
        empty = cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        return cls.best(*(np.concatenate([getattr(piece, name) for piece in (empty, *pieces)]) for name in cls._fields))


def nearest_of(
    left: Unit,
    right: Unit,
    threshold: float,
    metric: Metric,
    *,
    threads: int = 1,
    rows: NDArray[np.bool_] | None = None,
) -> Nearest:
    """Find the most similar row of one unit, of each row of another that has one at least as similar as a threshold.

    Cost: at most two products of all rows with all, O(n m d), and less where bounds rule pairs out. Memory O(n).

    Args:
        left: a unit, made for a radius of at least that of the threshold.
        right: another one with the same cells, of distinct vectors: equal ones would all be looked at.
        threshold: a cosine, or minus a squared distance.
        metric: of the pool.
        threads: how many compare.
        rows: of the left those that are asked for, bool [n]; None for all.

    Returns:
        Those that have a near one. The bits do not depend on the rest of a unit.
    """
    search = _Search(left, right, threshold, metric)

    def of_cell(cell: int) -> Nearest:
        own = np.arange(left.starts[cell], left.starts[cell + 1])
        own = own if rows is None else own[rows[own]]
        return search.of_rows(own, columns_for(left, right, cell) if len(own) else own)

    cells = np.flatnonzero(np.diff(left.starts))
    return Nearest.joined(shared_out(of_cell, cells.tolist(), threads))


class _Search:
    """Two units, and what bounds depend on."""

    def __init__(self, left: Unit, right: Unit, threshold: float, metric: Metric) -> None:
        self.left, self.right, self.threshold, self.metric = left, right, threshold, metric
        self.share = slack((left.rows,))
        self.sq_radius = (radius_of(threshold, metric) + left.rounding) ** 2
        # By how much the distance of two rows, as they are compared, is off what their vectors say.
        self.off = left.rounding + (UNIT_ROUNDING if metric == "cosine" else 0.0)
        # By the cosine a zero vector is near to zero vectors alone, whatever its distance to others is.
        self.unlike = torch.from_numpy(right.zero) if metric == "cosine" and right.zero.any() else None

    def of_rows(self, own: NDArray[np.int64], others: NDArray[np.int64]) -> Nearest:
        """The nearest among rows of the right [m] of rows of one cell of the left [r]."""
        limit = torch.full((len(own),), self.sq_radius * ABOVE)
        found: list[Nearest] = []
        held: list[tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor]] = []
        for piece in slices(len(others), COLUMNS):
            some = others[piece]
            row, column = self.right.screen.hits(self.left.screen.left(own, limit), some)
            if len(row) * DENSE > len(own) * len(some):
                pairs = [self._all(own, some)]
            else:
                pairs = [
                    self._pairs(own, some, row[part], column[part]) for part in slices(len(row), CANDIDATES_AT_ONCE)
                ]
            for row, column, least, most in pairs:
                self._tighten(limit, row, most)
                near = least <= limit[torch.from_numpy(row)]
                kept = near.numpy()
                held.append((row[kept], some[column[kept]], least[near]))
            if sum(len(pair[0]) for pair in held) > HELD:
                found.append(self._decided(own, held, limit))
                held = []
        found.append(self._decided(own, held, limit))
        return Nearest.joined(found)

    def _all(
        self, own: NDArray[np.int64], some: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor, torch.Tensor]:
        """Pairs of all rows with all, and their squared distances at least and at most: those that may be a nearest."""
        a, b = torch.from_numpy(own), torch.from_numpy(some)
        norms = self.left.sq_norms[a][:, None] + self.right.sq_norms[b]
        sq = norms - 2 * (self.left.rows[a] @ self.right.rows[b].T)
        error = self.share * (norms + self.sq_radius)
        most = sq + error
        if self.unlike is not None:
            most[:, self.unlike[b]] = torch.inf
        least = sq - error
        limit = torch.minimum(most.amin(1), torch.tensor(self.sq_radius)).clamp_min(0)
        may = least <= ((limit.sqrt() + 2 * self.off) ** 2 * ABOVE)[:, None]
        row, column = np.divmod(np.flatnonzero(may.numpy()), len(some))
        return row, column, least[may], most[may]

    def _pairs(
        self, own: NDArray[np.int64], some: NDArray[np.int64], row: NDArray[np.int64], column: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor, torch.Tensor]:
        """Some pairs, likewise."""
        a, b = torch.from_numpy(own[row]), torch.from_numpy(some[column])
        sq = (
            torch.linalg.vector_norm(self.left.rows.index_select(0, a) - self.right.rows.index_select(0, b), dim=1) ** 2
        )
        error = self.share * (self.left.sq_norms[a] + self.right.sq_norms[b] + self.sq_radius)
        most = sq + error
        if self.unlike is not None:
            most[self.unlike[b]] = torch.inf
        return row, column, sq - error, most

    def _tighten(self, limit: torch.Tensor, row: NDArray[np.int64], most: torch.Tensor) -> None:
        """A row whose squared distance to another one is at most `most` looks for nearer ones alone."""
        within = (most.clamp_min(0).sqrt() + 2 * self.off) ** 2 * ABOVE
        limit.scatter_reduce_(0, torch.from_numpy(row), within, "amin")

    def _decided(
        self,
        own: NDArray[np.int64],
        held: list[tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor]],
        limit: torch.Tensor,
    ) -> Nearest:
        """Decide in double precision."""
        if not held:
            return Nearest.joined([])
        row, columns = (np.concatenate([pair[side] for pair in held]) for side in (0, 1))
        left = (torch.cat([pair[2] for pair in held]) <= limit[torch.from_numpy(row)]).numpy()
        rows, columns = own[row[left]], columns[left]
        values = np.empty(len(rows))
        for piece in slices(len(rows), PAIRS_AT_ONCE):
            values[piece] = exact_similarities(self.left, self.right, rows[piece], columns[piece], self.metric)
        near = at_least(values, self.threshold)
        return Nearest.best(self.left.ids[rows[near]], self.right.ids[columns[near]], values[near])
