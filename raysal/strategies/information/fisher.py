"""The maths of BAIT with Fisher matrices of rank one: arrays in, arrays out."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import UserError
from raysal.numerics import one_thread

PENDING_UPDATES = 16
"""Updates that are kept as vectors before they are applied to the matrix, all in one product."""


class RankOneUpdate(NamedTuple):
    """What adding x x' to the precision, or taking it away, changes for every other row y.

    With s = 1 (-1 where it is taken away): u = M x, w = M F M x, c = s / (1 + s x'u), q = x'w.
    """

    u: NDArray[np.float64]
    """[d]"""
    w: NDArray[np.float64]
    """[d]"""
    c: float
    q: float

    def apply(self, along_u: Any, along_w: Any, variance: Any, fall: Any) -> None:
        """Bring y' M y and y' M F M y up to date in place; NumPy or torch.

        Args:
            along_u: y'u [n].
            along_w: y'w [n].
            variance: y' M y [n].
            fall: y' M F M y [n].
        """
        scaled = along_u * self.c
        variance -= scaled * along_u
        fall += scaled * (scaled * self.q - 2 * along_w)


class Covariance:
    """M, the inverse of a precision [d, d], under updates of rank one, beside a fixed F [d, d]. O(d^2) each.

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
            self._matrix = torch.cholesky_inverse(root)
        self._pending = 0
        self._u = torch.empty(PENDING_UPDATES, len(fisher), dtype=torch.float64)
        self._cu = torch.empty_like(self._u)

    @classmethod
    def of_labelled(cls, ridge: float, fisher: NDArray[np.float64], labelled: NDArray[np.float64]) -> Self:
        """That of labelled items and a prior.

        Args:
            ridge: the prior is `ridge` tr(F) / d times the identity, or the identity where F is zero.
            fisher: F, float64 [d, d].
            labelled: rows x float64 [n, d] of the labelled items.

        Returns:
            The inverse of prior and sum of x x'.
        """
        prior = ridge * float(np.trace(fisher)) / len(fisher)
        rows = torch.from_numpy(labelled)
        with one_thread():
            known = (rows.T @ rows).numpy()
        return cls(known + (prior if prior > 0 else 1.0) * np.eye(len(fisher)), fisher)

    def matrix(self) -> NDArray[np.float64]:
        """M, float64 [d, d], after all updates so far."""
        with one_thread():
            self._apply_pending()
        return self._matrix.numpy()

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        """M x [d]."""
        product = self._matrix @ x
        if self._pending:
            product -= (self._u[: self._pending] @ x) @ self._cu[: self._pending]
        return product

    def add(self, x: NDArray[np.float64], sign: float = 1.0) -> RankOneUpdate:
        """Add x x' to the precision.

        Args:
            x: float64 [d].
            sign: -1 to take it away, if it was added before.

        Returns:
            What it changes for other rows.
        """
        row = torch.from_numpy(x)
        with one_thread():
            u = self._product(row)
            w = self._product(self._fisher @ u)
            c, q = sign / (1 + sign * float(row @ u)), float(row @ w)
            self._u[self._pending] = u
            torch.mul(u, c, out=self._cu[self._pending])
            self._pending += 1
            if self._pending == PENDING_UPDATES:
                self._apply_pending()
        return RankOneUpdate(u.numpy(), w.numpy(), c, q)

    def _apply_pending(self) -> None:
        """Bring the matrix itself up to date. For one thread."""
        if self._pending:
            self._matrix.addmm_(self._cu[: self._pending].T, self._u[: self._pending], alpha=-1)
        self._pending = 0

    def variance_and_fall(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """For each row x: x' M x and x' M F M x. O(n d^2).

        Args:
            x: float64 [n, d].

        Returns:
            Both float64 [n]. Adding a row lowers tr(M F) by fall / (1 + variance).
        """
        rows = torch.from_numpy(x)
        with one_thread():
            self._apply_pending()
            turned = rows @ self._matrix
            variance, fall = (turned * rows).sum(1), ((turned @ self._fisher) * turned).sum(1)
        return variance.numpy(), fall.numpy()

    def without_least(self, x: NDArray[np.float64], k: int) -> NDArray[np.int64]:
        """Take rows away until k are left, each time the one that raises tr(M F) least, ties to the later.

        Args:
            x: float64 [m, d], all of them added before.
            k: how many are left.

        Returns:
            Places of those left, ascending.
        """
        rows = torch.from_numpy(x)
        variance, fall = self.variance_and_fall(x)
        left = np.arange(len(x))
        while len(left) > k:
            # Exact arithmetic keeps x'Mx below 1 for a row that M has seen.
            rise = fall[left] / np.maximum(1 - variance[left], np.finfo(np.float64).eps)
            drop = len(left) - 1 - int(rise[::-1].argmin())
            update = self.add(x[left[drop]], -1.0)
            with one_thread():
                along_u, along_w = rows @ torch.from_numpy(update.u), rows @ torch.from_numpy(update.w)
            update.apply(along_u.numpy(), along_w.numpy(), variance, fall)
            left = np.delete(left, drop)
        return left


def greedy_trace(x: NDArray[np.float64], covariance: Covariance, k: int) -> NDArray[np.int64]:
    """The rows that lower tr(M F) most, one after the other, ties to the lower.

    Args:
        x: float64 [n, d].
        covariance: M, which takes them in.
        k: how many.

    Returns:
        Rows int64 [k], in pick order.
    """
    variance, fall = covariance.variance_and_fall(x)
    picks = np.empty(k, np.int64)
    for place in range(k):
        gain = fall / (1 + variance)
        gain[picks[:place]] = -np.inf
        picks[place] = gain.argmax()
        update = covariance.add(x[picks[place]])
        along = x @ np.stack([update.u, update.w], axis=1)
        update.apply(along[:, 0], along[:, 1], variance, fall)
    return picks
