"""The maths of BAIT with Fisher matrices of rank one: arrays in, arrays out."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import UserError
from raysal.numerics import one_thread

PENDING = 16
"""Updates that are kept as vectors before they are folded into the matrices, all in one product."""


class Downdate(NamedTuple):
    """What adding x x' to the precision (or taking it away) changes for every other row y: u = M x, w = M F M x,
    the factor c = s / (1 + s x'u) with s = 1 (-1), and q = x'w.
    """

    u: NDArray[np.float64]
    w: NDArray[np.float64]
    c: float
    q: float

    def apply(self, along_u: Any, along_w: Any, variance: Any, fall: Any) -> None:
        """Bring y' M y and y' M F M y [n] up to date in place, given y'u and y'w [n]; numpy or torch."""
        scaled = along_u * self.c
        variance -= scaled * along_u
        fall += scaled * (scaled * self.q - 2 * along_w)


class Posterior:
    """M, the inverse of a precision [d, d], under additions of rank one, beside a fixed F [d, d]. O(d^2) each.

    On one thread: in matrices of this size the last bits would depend on their number.

    Raises:
        UserError: the precision is not positive definite.
    """

    def __init__(self, precision: NDArray[np.float64], fisher: NDArray[np.float64]) -> None:
        self.fisher = torch.from_numpy(fisher)
        with one_thread():
            root, failed = torch.linalg.cholesky_ex(torch.from_numpy(precision))
            if failed:
                raise UserError("precision", "is not positive definite", "give the prior a larger ridge")
            self.covariance = torch.cholesky_inverse(root)
        self._held = 0
        self._u = torch.empty(PENDING, len(fisher), dtype=torch.float64)
        self._cu = torch.empty_like(self._u)

    @classmethod
    def of(cls, ridge: float, fisher: NDArray[np.float64], labelled: NDArray[np.float64]) -> Self:
        """From the rows [n, d] of labelled items and a prior of `ridge` tr(F) / d; of 1 where F is zero."""
        prior = ridge * float(np.trace(fisher)) / len(fisher)
        rows = torch.from_numpy(labelled)
        with one_thread():
            known = (rows.T @ rows).numpy()
        return cls(known + (prior if prior > 0 else 1.0) * np.eye(len(fisher)), fisher)

    def times(self, x: torch.Tensor) -> torch.Tensor:
        """M x [d]."""
        product = self.covariance @ x
        if self._held:
            product -= (self._u[: self._held] @ x) @ self._cu[: self._held]
        return product

    def add(self, x: NDArray[np.float64], sign: float = 1.0) -> Downdate:
        """Add sign x x' to the precision."""
        row = torch.from_numpy(x)
        with one_thread():
            u = self.times(row)
            w = self.times(self.fisher @ u)
            c, q = sign / (1 + sign * float(row @ u)), float(row @ w)
            self._u[self._held] = u
            torch.mul(u, c, out=self._cu[self._held])
            self._held += 1
            if self._held == PENDING:
                self.fold()
        return Downdate(u.numpy(), w.numpy(), c, q)

    def fold(self) -> None:
        """Bring the matrix itself up to date."""
        self.covariance.addmm_(self._cu[: self._held].T, self._u[: self._held], alpha=-1)
        self._held = 0

    def judge(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """X' M x and x' M F M x [n] of rows [n, d]."""
        rows = torch.from_numpy(x)
        with one_thread():
            self.fold()
            turned = rows @ self.covariance
            variance, fall = (turned * rows).sum(1), ((turned @ self.fisher) * turned).sum(1)
        return variance.numpy(), fall.numpy()

    def without_least(self, x: NDArray[np.float64], k: int) -> NDArray[np.int64]:
        """Take rows of x [m, d], all of them added before, away until k are left, each time the one that raises the
        trace least, ties to the later; returns the places of the rest, ascending.
        """
        rows = torch.from_numpy(x)
        variance, fall = self.judge(x)
        left = np.arange(len(x))
        while len(left) > k:
            # Exact arithmetic keeps x'Mx below 1 for a row that M has seen.
            rise = fall[left] / np.maximum(1 - variance[left], np.finfo(np.float64).eps)
            drop = len(left) - 1 - int(rise[::-1].argmin())
            step = self.add(x[left[drop]], -1.0)
            with one_thread():
                along_u, along_w = rows @ torch.from_numpy(step.u), rows @ torch.from_numpy(step.w)
            step.apply(along_u.numpy(), along_w.numpy(), variance, fall)
            left = np.delete(left, drop)
        return left


def greedy_trace(x: NDArray[np.float64], posterior: Posterior, k: int) -> NDArray[np.int64]:
    """The k rows of x [n, d] that lower the trace most, one after the other, ties to the lower; `posterior` takes
    them in.
    """
    variance, fall = posterior.judge(x)
    picks = np.empty(k, np.int64)
    for place in range(k):
        gain = fall / (1 + variance)
        gain[picks[:place]] = -np.inf
        picks[place] = gain.argmax()
        step = posterior.add(x[picks[place]])
        along = x @ np.stack([step.u, step.w], axis=1)
        step.apply(along[:, 0], along[:, 1], variance, fall)
    return picks
