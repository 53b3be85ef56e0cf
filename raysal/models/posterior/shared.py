"""One covariance for the weights of every output."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from raysal.models.likelihood import Curvature, Weighting
from raysal.models.posterior import square_root
from raysal.models.posterior.base import Gaussian, Matrix, Quadratic, RowSolver
from raysal.models.posterior.span import Span, widened
from raysal.models.posterior.square_root import root_of_inverse


@dataclass(frozen=True, kw_only=True, eq=False)
class Shared(Gaussian):
    """One covariance Σ [D, D] for the weights of every output: Σ⁻¹ = prior · I + Σ_i m_i h̃_i h̃_iᵀ.

    It is the matrix that SNGP keeps (Liu et al., NeurIPS 2020; for updates Huseljic et al., arXiv 2210.06112). m_i is
    the weight of label i, by `weighting` (`Curvature.counts`). Memory 8 D² bytes, whatever C; absorbing b rows costs
    O(b D²). It is kept as a square root R with Σ = R Rᵀ. A variance therefore stays positive after any number of
    updates.
    """

    name: ClassVar[str] = "shared"
    exact_for_numbers: ClassVar[bool] = True
    root: Matrix
    """R [D, D]"""
    weighting: Weighting = "gaussian"

    @classmethod
    def of_counts(cls, rows: Matrix, counts: NDArray[np.float64], prior: float) -> Self:
        """The posterior of the precision prior · I + Σ_i counts_i h_i h_iᵀ, in the span of few rows.

        Args:
            rows: h [n, D], of vectors as they are.
            counts: [n], each > 0.
            prior: precision of every weight before any label.

        Returns:
            The posterior.

        Raises:
            ConfigError: the prior is too weak beside the counts for float64.
        """
        span = Span.of_few(rows, prior)
        return cls(root=root_of_inverse(rows if span is None else span.coordinates(rows), counts, prior), span=span)

    @classmethod
    def _fit(cls, rows: Matrix, curvature: Curvature, prior: float, classes: int, weighting: Weighting) -> Self:
        """R from all rows. O(n D² + D³)."""
        del classes
        return cls(root=root_of_inverse(rows, curvature.counts(weighting), prior), weighting=weighting)

    @property
    def default_step(self) -> float:
        """3, or 1 where labels count by confidence."""
        # Gaussian weighting counts every label as 1, though its own curvature is at most 1/4; above 4 steps overshoot.
        # On Fashion-MNIST with 50 to 1,000 labels 3 kept a third to nine tenths of what a new fit gains, and 1 with
        # categorical half to eight tenths; 10, as published, made four of five means worse.
        return 3.0 if self.weighting == "gaussian" else 1.0

    @property
    def width(self) -> int:
        """See `Gaussian.width`."""
        return len(self.root)

    def _covariance(self) -> Matrix:
        """The product R Rᵀ."""
        return np.asarray(self.root @ self.root.T)

    @property
    def by_confidence(self) -> bool:
        """Whether `weighting` is categorical."""
        return self.weighting == "categorical"

    def _variance(self) -> Quadratic:
        """The form v = ‖Rᵀ h̃‖², for all outputs."""
        return Quadratic(self.root.T, np.ones((1, self.width)))

    def _deviations(self, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """The product noise · Rᵀ. O(T C D²)."""
        # One product: each of a stack of small ones would be spread over the threads, and wait for them.
        return np.asarray((noise.reshape(-1, self.width) @ self.root.T).reshape(noise.shape))

    def _absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        """R by `square_root.update`. O(b D² + b² D)."""
        root = square_root.update(self.root, rows, curvature.counts(self.weighting))
        return replace(self, root=root)

    def _retract(self, rows: Matrix, curvature: Curvature) -> Self:
        """R by `square_root.downdate`. O(b D² + b² D)."""
        root = square_root.downdate(self.root, rows, curvature.counts(self.weighting))
        return replace(self, root=root)

    def _solve(self, gradient: Matrix) -> Matrix:
        """The product G R Rᵀ. O(C D²)."""
        return np.asarray((gradient @ self.root) @ self.root.T)

    def _row_solver(self, rows: Matrix) -> RowSolver:
        """The outer products of residuals and Σ h̃. O(b D²) once, O(C D) for each residual."""
        solved = self._solve(rows)
        return lambda i, residual: np.outer(residual, solved[i])

    def _widened(self, span: Span) -> Self:
        """R with I / √prior on the diagonal."""
        root = widened(self.root, self.width, span.width - self.width, 1 / math.sqrt(span.prior))
        return replace(self, root=root, span=span)

    def add_classes(self, more: int) -> Self:
        """Itself: further outputs share R."""
        del more
        return self
