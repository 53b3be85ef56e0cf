"""The maths of BAIT with Fisher matrices of rank one: arrays in, arrays out."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

PENDING = 64
"""Updates that are kept as vectors before they are folded into the matrices, all in one product."""


class Downdate(NamedTuple):
    """What adding x x' to the precision (or taking it away) changes for every other row y: u = M x, w = M F M x,
    the factor c = s / (1 + s x'u) with s = 1 (-1), and q = x'w."""

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
    """M, the inverse of a precision [d, d], under additions of rank one, beside a fixed F [d, d]. O(d^2) each."""

    def __init__(self, covariance: NDArray[np.floating], fisher: NDArray[np.float64]) -> None:
        self.covariance: NDArray[np.float64] = np.asarray((covariance + covariance.T) / 2, np.float64)
        self.fisher = fisher
        self._held = 0
        self._u = np.empty((PENDING, len(covariance)))
        self._c = np.empty(PENDING)

    @classmethod
    def of(cls, ridge: float, fisher: NDArray[np.float64], labelled: NDArray[np.float64]) -> Self:
        """From the rows [n, d] of labelled items and a prior of `ridge` tr(F) / d; of 1 where F is zero."""
        prior = ridge * float(np.trace(fisher)) / len(fisher)
        precision = labelled.T @ labelled + (prior if prior > 0 else 1.0) * np.eye(len(fisher))
        return cls(np.linalg.inv(precision), fisher)

    def times(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """M x [d]."""
        product = self.covariance @ x
        if self._held:
            u = self._u[: self._held]
            product -= (self._c[: self._held] * (u @ x)) @ u
        return product

    def add(self, x: NDArray[np.float64], sign: float = 1.0) -> Downdate:
        """Add sign x x' to the precision."""
        u = self.times(x)
        w = self.times(self.fisher @ u)
        step = Downdate(u, w, sign / (1 + sign * float(x @ u)), float(x @ w))
        self._u[self._held], self._c[self._held] = u, step.c
        self._held += 1
        if self._held == PENDING:
            self.fold()
        return step

    def fold(self) -> None:
        """Bring the matrix itself up to date."""
        u = self._u[: self._held]
        self.covariance -= (self._c[: self._held, None] * u).T @ u
        self._held = 0

    def judge(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x' M x and x' M F M x [n] of rows [n, d]."""
        self.fold()
        turned = x @ self.covariance
        return np.einsum("nd,nd->n", turned, x), np.einsum("nd,nd->n", turned @ self.fisher, turned)

    def without_least(self, x: NDArray[np.float64], k: int) -> NDArray[np.int64]:
        """Take rows of x [m, d], all of them added before, away until k are left, each time the one that raises the
        trace least, ties to the later; returns the places of the rest, ascending."""
        variance, fall = self.judge(x)
        left = np.arange(len(x))
        while len(left) > k:
            # Exact arithmetic keeps x'Mx below 1 for a row that M has seen.
            rise = fall[left] / np.maximum(1 - variance[left], np.finfo(np.float64).eps)
            drop = len(left) - 1 - int(rise[::-1].argmin())
            step = self.add(x[left[drop]], -1.0)
            step.apply(x @ step.u, x @ step.w, variance, fall)
            left = np.delete(left, drop)
        return left


def greedy_trace(x: NDArray[np.float64], posterior: Posterior, k: int) -> NDArray[np.int64]:
    """The k rows of x [n, d] that lower the trace most, one after the other, ties to the lower; `posterior` takes
    them in."""
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
