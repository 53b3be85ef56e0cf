"""A variance for every single weight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from raysal.models.likelihood import Curvature, Weighting
from raysal.models.posterior.base import Gaussian, Matrix, Quadratic
from raysal.models.posterior.square_root import LEAST_LEFT, nearly_all, never_absorbed


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagonal(Gaussian):
    """A variance for every single weight: the diagonal P [C, D] of the full precision.

    P = prior + Σ_i λ_i h̃_i², with λ_i the second derivatives of the loss in each output. Memory 8 C D bytes; absorbing
    b rows costs O(b C D).
    """

    name: ClassVar[str] = "diagonal"
    default_step: ClassVar[float] = 0.03
    has_span: ClassVar[bool] = False
    precision: Matrix
    """P [C, D]"""
    prior: float

    @classmethod
    def _fit(cls, rows: Matrix, curvature: Curvature, prior: float, classes: int, weighting: Weighting) -> Self:
        """P from all rows. O(n C D)."""
        del weighting
        empty = np.full((classes, rows.shape[1]), prior)
        return cls(precision=empty, prior=prior)._absorb(rows, curvature)

    @property
    def width(self) -> int:
        """See `Gaussian.width`."""
        return int(self.precision.shape[1])

    @property
    def output_count(self) -> int:
        """C."""
        return len(self.precision)

    def _variance(self) -> Quadratic:
        """The form v_c = Σ_d h̃_d² / P_cd."""
        return Quadratic(np.eye(self.width), 1.0 / self.precision)

    def _deviations(self, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """The quotient noise / √P. O(T C D)."""
        return np.asarray(noise / np.sqrt(self.precision))

    def _absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        """P + Σ λ h̃². O(b C D)."""
        return self._with(self.precision + curvature.diagonal().T @ rows**2)

    def _retract(self, rows: Matrix, curvature: Curvature) -> Self:
        """P - Σ λ h̃². O(b C D)."""
        left = self.precision - curvature.diagonal().T @ rows**2
        if (left < self.prior - 1e-9 * self.precision).any():  # what rounding may take, beside much evidence
            raise never_absorbed()
        if (left < LEAST_LEFT * self.precision).any():
            raise nearly_all()
        return self._with(np.maximum(left, self.prior))

    def _solve(self, gradient: Matrix) -> Matrix:
        """The quotient G / P. O(C D)."""
        return np.asarray(gradient / self.precision)

    def add_classes(self, more: int) -> Self:
        """P with rows of the prior appended."""
        return self._with(np.vstack([self.precision, np.full((more, self.width), self.prior)]))

    def _with(self, precision: Matrix) -> Self:
        return replace(self, precision=precision)
