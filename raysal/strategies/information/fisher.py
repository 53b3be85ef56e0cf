"""The maths of BAIT: Fisher matrices of low rank, and their trace under updates. Arrays in, arrays out.

The Fisher matrix of an item is V'V with V = R (x) h, [r, m d]: its features h [d], and R [r, m] from what the head
predicts (`raysal.strategies.information.fisher_forms`). V is formed for a few items in the driver only. Coordinate
a d + j of a matrix belongs to output a and feature j.

Arrays over items have the items last, and small matrices are multiplied entry by entry: the bits of an item then
depend neither on its place nor on the items beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import UserError
from raysal.numerics import one_thread, slices
from raysal.scoring.row_values import refuse_broken
from raysal.strategies.information.rank_one import LEAST_PIVOT, RankOne

PENDING_COLUMNS = 16
"""Columns of updates that are kept apart until they are applied to the matrix, all in one product; or those of one."""
DENSE_ROWS = 256
"""Rows of V of some items that are formed at once."""


class Information(NamedTuple):
    """V of n items that lie in the driver, in factors."""

    roots: torch.Tensor
    """R, float64 [r, m, n]"""
    features: torch.Tensor
    """h, float64 [n, d]"""

    @classmethod
    def of_rows(cls, roots: NDArray[np.floating], features: NDArray[np.floating]) -> Information:
        """Of arrays with the items first.

        Args:
            roots: R [n, r, m].
            features: h [n, d].

        Returns:
            The same in float64.

        Raises:
            PoolError: a row is not finite; it names the row.
        """
        wide: NDArray[np.float64] = np.ascontiguousarray(features, dtype=np.float64)
        last: NDArray[np.float64] = np.ascontiguousarray(np.moveaxis(roots, 0, 2), dtype=np.float64)
        found = cls(torch.from_numpy(last), torch.from_numpy(wide))
        finite = torch.isfinite(found.features).all(1) & torch.isfinite(found.roots).all(1).all(0)
        refuse_broken(np.arange(len(wide)), finite.numpy())
        return found

    def __len__(self) -> int:
        return len(self.features)

    @property
    def width(self) -> int:
        """M d, the length of a row of V."""
        return int(self.roots.shape[1] * self.features.shape[1])

    def rows(self) -> NDArray[np.float64] | None:
        """V of every item, [n, d], where it is one row of one output; else None."""
        return (self.features * self.roots[0, 0, :, None]).numpy() if self.roots.shape[:2] == (1, 1) else None

    def matrices(self, items: slice) -> torch.Tensor:
        """V of some items, [items, r, m d]."""
        own = self.roots[:, :, items].permute(2, 0, 1)
        return (own[:, :, :, None] * self.features[items, None, None, :]).reshape(len(own), own.shape[1], self.width)

    def blocks(self) -> Iterator[slice]:
        """Slices over the items, each of which has at most DENSE_ROWS rows of V, or is one item."""
        yield from slices(len(self), max(1, DENSE_ROWS // self.roots.shape[0]))

    def total(self) -> NDArray[np.float64]:
        """The sum of V'V, [m d, m d]. On one thread, O(n m^2 d^2)."""
        m, d = self.roots.shape[1], self.features.shape[1]
        total = np.empty((m, d, m, d))
        with one_thread():
            for a, b, shares in output_pairs(self.roots):
                total[a, :, b] = ((self.features * shares[:, None]).T @ self.features).numpy()
                total[b, :, a] = total[a, :, b]
        return total.reshape(m * d, m * d)

    def along(self, columns: torch.Tensor) -> torch.Tensor:
        """V times columns [m d, q], float64 [r, q, n]. On one thread."""
        m, d = self.roots.shape[1], self.features.shape[1]
        with one_thread():
            turned = self.features @ columns.reshape(m, d, -1).transpose(0, 1).reshape(d, -1)
            return contracted(self.roots, turned.T.reshape(m, -1, len(self)))


def output_pairs(roots: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Each pair of outputs a <= b, and entry [a, b] of R'R of every item, [n]; of R [r, m, n]."""
    for a in range(roots.shape[1]):
        for b in range(a, roots.shape[1]):
            yield a, b, summed(roots[:, a] * roots[:, b])


def summed(terms: torch.Tensor) -> torch.Tensor:
    """The sum over the first axis, one term after the other."""
    total = terms[0].clone()
    for term in terms[1:]:
        total += term
    return total


def contracted(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Matrices [x, y, n] times matrices [y, z, n], or times one matrix [y, z]: [x, z, n]."""
    wide = right if right.dim() == 3 else right[:, :, None]
    total = left[:, 0, None] * wide[None, 0]
    for place in range(1, left.shape[1]):
        total += left[:, place, None] * wide[None, place]
    return total


def trace_changes(variance: torch.Tensor, fall: torch.Tensor, sign: float = 1.0) -> torch.Tensor:
    """tr(B (I + s A)^-1) of every item: by how much it changes tr(M F). O(n r^3), by symmetric elimination.

    Args:
        variance: A = V M V', float64 [r, r, n].
        fall: B = V M F M V', float64 [r, r, n].
        sign: s, 1 for an item that is added, -1 for one that is taken away.

    Returns:
        float64 [n]
    """
    r = len(variance)
    left, right = variance * sign, fall
    for place in range(r):
        left[place, place] += 1
    total = torch.zeros_like(fall[0, 0])
    for _ in range(r):
        # Exact arithmetic keeps the pivots above 0: M has seen an item that is taken away.
        pivot = left[0, 0].clamp_min(LEAST_PIVOT)
        total += right[0, 0] / pivot
        factor = left[1:, 0] / pivot
        left = left[1:, 1:] - factor[:, None] * left[None, 0, 1:]
        cross = factor[:, None] * right[None, 0, 1:]
        right = right[1:, 1:] - cross - cross.transpose(0, 1) + factor[:, None] * factor[None] * right[0, 0]
    return total


class LowRankUpdate(NamedTuple):
    """What adding V'V to the precision, or taking it away, changes for every other item.

    With s = 1 (-1 where it is taken away): U = M V', W = M F U, K = (s I + V U)^-1, Q = U' F U.
    """

    u: NDArray[np.float64]
    """[m d, r]"""
    w: NDArray[np.float64]
    """[m d, r]"""
    k: NDArray[np.float64]
    """[r, r]"""
    q: NDArray[np.float64]
    """[r, r]"""

    def apply(self, along_u: torch.Tensor, along_w: torch.Tensor, variance: torch.Tensor, fall: torch.Tensor) -> None:
        """Bring Y M Y' and Y M F M Y' of other items up to date in place.

        Args:
            along_u: Y U of each, [r, r, n].
            along_w: Y W of each, [r, r, n].
            variance: Y M Y', [r, r, n].
            fall: Y M F M Y', [r, r, n].
        """
        k, q = (torch.from_numpy(matrix).to(variance.device) for matrix in (self.k, self.q))
        scaled = contracted(along_u, k)
        variance -= contracted(scaled, along_u.transpose(0, 1))
        cross = contracted(scaled, along_w.transpose(0, 1))
        fall -= cross
        fall -= cross.transpose(0, 1)
        fall += contracted(contracted(scaled, q), scaled.transpose(0, 1))


class Covariance:
    """M, the inverse of a precision [D, D], under updates of low rank, beside a fixed F [D, D]. O(r D^2) each.

    On one thread: in matrices of this size the last bits would depend on their number.

    Raises:
        UserError: the precision is not positive definite.
    """

    def __init__(self, precision: NDArray[np.float64], fisher: NDArray[np.float64]) -> None:
        self._fisher = torch.from_numpy(fisher)
        with one_thread():
            root, failed = torch.linalg.cholesky_ex(torch.from_numpy(precision))
            if failed:
                raise UserError("precision", "is not positive definite", "give the prior a larger ridge")
            self._matrix = torch.cholesky_inverse(root).contiguous()  # comes in columns, which products take long for
        self._pending = 0
        self._u = self._scaled = torch.empty(0, len(fisher), dtype=torch.float64)

    def matrix(self) -> NDArray[np.float64]:
        """M, float64 [D, D], after all updates so far."""
        with one_thread():
            self._apply_pending()
        return self._matrix.numpy()

    def around_fisher(self) -> NDArray[np.float64]:
        """M F M, float64 [D, D]. O(D^3)."""
        with one_thread():
            self._apply_pending()
            return (self._matrix @ (self._fisher @ self._matrix)).numpy()

    def _product(self, columns: torch.Tensor) -> torch.Tensor:
        """M times columns [D, r]."""
        product = self._matrix @ columns
        if self._pending:
            product -= self._scaled[: self._pending].T @ (self._u[: self._pending] @ columns)
        return product

    def add(self, v: torch.Tensor, sign: float = 1.0) -> LowRankUpdate:
        """Add V'V to the precision.

        Args:
            v: float64 [r, D].
            sign: -1 to take it away, if it was added before.

        Returns:
            What it changes for other items.
        """
        with one_thread():
            u = self._product(v.T)
            turned = self._fisher @ u
            w = self._product(turned)
            inner = v @ u
            seen, axes = torch.linalg.eigh((inner + inner.T) / 2)
            if sign < 0:  # exact arithmetic keeps them below 1, as M has seen V
                seen = seen.clamp_max(1 - LEAST_PIVOT)
            k = (axes / (seen + sign)) @ axes.T
            q = u.T @ turned
            self._keep_pending(u.T, k @ u.T)
        return LowRankUpdate(u.numpy(), w.numpy(), k.numpy(), q.numpy())

    def _keep_pending(self, u: torch.Tensor, scaled: torch.Tensor) -> None:
        """Keep an update by U' and K U', [r, D] both. For one thread."""
        last = self._pending + len(u)
        if last > len(self._u):
            self._apply_pending()
            last = len(u)
            self._u, self._scaled = torch.empty(2, max(PENDING_COLUMNS, last), self._u.shape[1], dtype=u.dtype)
        self._u[self._pending : last], self._scaled[self._pending : last] = u, scaled
        self._pending = last

    def _apply_pending(self) -> None:
        """Bring the matrix itself up to date. For one thread."""
        if self._pending:
            self._matrix.addmm_(self._scaled[: self._pending].T, self._u[: self._pending], alpha=-1)
        self._pending = 0

    def variance_and_fall(self, items: Information) -> tuple[torch.Tensor, torch.Tensor]:
        """V M V' and V M F M V' of every item, float64 [r, r, n] both. O(n r D^2)."""
        r = items.roots.shape[0]
        variance = torch.empty(r, r, len(items), dtype=torch.float64)
        fall = torch.empty_like(variance)
        with one_thread():
            self._apply_pending()
            for own in items.blocks():
                v = items.matrices(own)
                turned = v.reshape(-1, items.width) @ self._matrix
                weighed = (turned @ self._fisher).reshape(v.shape)
                turned = turned.reshape(v.shape)
                variance[:, :, own] = (turned @ v.transpose(1, 2)).permute(1, 2, 0)
                fall[:, :, own] = (weighed @ turned.transpose(1, 2)).permute(1, 2, 0)
        return variance, fall

    def of_rank_one(self, v: NDArray[np.float64]) -> RankOne:
        """Items of rank one, V of each [n, d], from the matrix as it is."""
        return RankOne(v, self.matrix(), self._fisher.numpy())

    def without_least(self, items: Information, k: int) -> NDArray[np.int64]:
        """Take items away until k are left, each time the one that raises tr(M F) least, ties to the later.

        Args:
            items: of n items, all of them added before.
            k: how many are left.

        Returns:
            Places of those left, ascending.
        """
        if (v := items.rows()) is not None:
            return self.of_rank_one(v).without_least(k)
        variance, fall = self.variance_and_fall(items)
        left = np.arange(len(items))
        while len(left) > k:
            with one_thread():
                rise = trace_changes(variance[:, :, left], fall[:, :, left], -1.0).numpy()
            drop = len(left) - 1 - int(rise[::-1].argmin())
            gone = int(left[drop])
            update = self.add(items.matrices(slice(gone, gone + 1))[0], -1.0)
            along_u, along_w = (items.along(torch.from_numpy(columns)) for columns in (update.u, update.w))
            with one_thread():
                update.apply(along_u, along_w, variance, fall)
            left = np.delete(left, drop)
        return left


def bait_of_rows(
    roots: NDArray[np.floating],
    features: NDArray[np.floating],
    precision: NDArray[np.float64],
    fisher: NDArray[np.float64],
    k: int,
    *,
    backward: int = 0,
) -> NDArray[np.int64]:
    """Rows that greedily minimise tr(M F), M the inverse of (precision + sum of V'V over picks).

    O(n r m d) a pick after O(n r (m d)^2). Ties go to the lower row.

    Args:
        roots: R [n, r, m]; for the binary form sqrt(p (1 - p)), [n, 1, 1].
        features: h [n, d].
        precision: float64 [m d, m d].
        fisher: F, float64 [m d, m d].
        k: how many rows.
        backward: how many more are picked, and dropped again.

    Returns:
        Rows int64 [k], in pick order.

    Raises:
        UserError: k + backward rows are more than there are, or the precision is not positive definite.
        PoolError: a row is not finite; it names the row.
    """
    if not 1 <= k <= k + backward <= len(features):
        raise UserError("k", f"{k} of {len(features)} rows, and {backward} to drop", f"ask for {len(features)} in all")
    items = Information.of_rows(roots, features)
    covariance = Covariance(precision, fisher)
    if (v := items.rows()) is not None:
        every = covariance.of_rank_one(v)
        picks = every.most_telling(k + backward).places
        return picks[every.only(picks).without_least(k)] if backward else picks
    variance, fall = covariance.variance_and_fall(items)
    picks = np.empty(k + backward, np.int64)
    for place in range(k + backward):
        gain = trace_changes(variance, fall).numpy()
        gain[picks[:place]] = -np.inf
        picks[place] = best = int(gain.argmax())
        update = covariance.add(items.matrices(slice(best, best + 1))[0])
        along_u, along_w = (items.along(torch.from_numpy(columns)) for columns in (update.u, update.w))
        update.apply(along_u, along_w, variance, fall)
    if not backward:
        return picks
    return picks[covariance.without_least(Information(items.roots[:, :, picks], items.features[picks]), k)]
