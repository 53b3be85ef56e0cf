"""One covariance for the weights of every output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from raysal.models.likelihood import Curvature, Weighting
from raysal.models.posterior import square_root
from raysal.models.posterior.base import Gaussian, Matrix, Pull, Quadratic
from raysal.models.posterior.square_root import root_of_inverse


@dataclass(frozen=True, kw_only=True, eq=False)
class Shared(Gaussian):
    """One covariance Σ [D, D] for the weights of every output, the matrix SNGP keeps (Liu et al., 2020; for updates
    Huseljic et al., arXiv 2210.06112): prior · I + Σ_i m_i h̃_i h̃_iᵀ, m_i by `weighting` (`Curvature.counts`).

    8 D² bytes whatever C; absorbing b rows O(b D²). Kept as a root R with Σ = R Rᵀ, so that no variance can turn
    negative however often it is updated.
    """

    name: ClassVar[str] = "shared"
    exact_for_numbers: ClassVar[bool] = True
    root: Matrix
    """[D, D]"""
    weighting: Weighting = "gaussian"

    @property
    def stride(self) -> float:
        # Gaussian takes every label for 1 where its own curvature is at most 1/4; above 4 steps overshoot. On
        # Fashion-MNIST 3 kept a fifth to four fifths of what a new fit gains; 10, as published, often lost more.
        return 3.0 if self.weighting == "gaussian" else 1.0

    @classmethod
    def fit(
        cls, rows: Matrix, curvature: Curvature, prior: float, classes: int, weighting: Weighting = "gaussian"
    ) -> Self:
        """From the prior and all rows at once, whatever the number of classes. O(n D² + D³).

        Raises:
            ConfigError: the prior is too weak beside the evidence for float64.
        """
        del classes
        return cls(root=root_of_inverse(rows, curvature.counts(weighting), prior), weighting=weighting)

    @property
    def dim(self) -> int:
        return len(self.root)

    @property
    def covariance(self) -> Matrix:
        """R Rᵀ."""
        return np.asarray(self.root @ self.root.T)

    @property
    def by_confidence(self) -> bool:
        """Whether `weighting` is categorical."""
        return self.weighting == "categorical"

    def absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        root = square_root.update(self.root, rows, curvature.counts(self.weighting))
        return type(self)(root=root, weighting=self.weighting)

    def retract(self, rows: Matrix, curvature: Curvature) -> Self:
        root = square_root.downdate(self.root, rows, curvature.counts(self.weighting))
        return type(self)(root=root, weighting=self.weighting)

    def solve(self, gradient: Matrix) -> Matrix:
        return np.asarray((gradient @ self.root) @ self.root.T)

    def pulls(self, rows: Matrix) -> Pull:
        solved = self.solve(rows)
        return lambda i, residual: np.outer(residual, solved[i])

    def variance(self) -> Quadratic:
        return Quadratic(self.root.T, np.ones((1, self.dim)))

    def draws(self, mean: Matrix, noise: Matrix) -> NDArray[np.float64]:
        # One product: of a stack of small ones each would be spread over the threads, and wait for them.
        return np.asarray(mean + (noise.reshape(-1, self.dim) @ self.root.T).reshape(noise.shape))

    def add_classes(self, more: int) -> Self:
        del more
        return self
