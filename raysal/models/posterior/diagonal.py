"""A variance for every single weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from raysal.models.likelihood import Curvature, Weighting
from raysal.models.posterior.base import Gaussian, Matrix, Quadratic
from raysal.models.posterior.square_root import LEFT, nearly_all, never_absorbed


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagonal(Gaussian):
    """A variance for every single weight: the diagonal of the full matrix. 8 C D bytes; absorbing O(b C D)."""

    name: ClassVar[str] = "diagonal"
    stride: ClassVar[float] = 0.03
    precision: Matrix
    """[C, D]"""
    prior: float

    @classmethod
    def fit(
        cls, rows: Matrix, curvature: Curvature, prior: float, classes: int, weighting: Weighting = "gaussian"
    ) -> Self:
        """From the prior and all rows at once. O(n C D)."""
        del weighting
        empty = np.full((classes, rows.shape[1]), prior)
        return cls(precision=empty, prior=prior).absorb(rows, curvature)

    @property
    def dim(self) -> int:
        return int(self.precision.shape[1])

    @property
    def output_count(self) -> int:
        """C."""
        return len(self.precision)

    def absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        return self._with(self.precision + curvature.diagonal().T @ rows**2)

    def retract(self, rows: Matrix, curvature: Curvature) -> Self:
        left = self.precision - curvature.diagonal().T @ rows**2
        if (left < self.prior - 1e-9 * self.precision).any():  # what rounding may take, beside a large evidence
            raise never_absorbed()
        if (left < LEFT * self.precision).any():
            raise nearly_all()
        return self._with(np.maximum(left, self.prior))

    def solve(self, gradient: Matrix) -> Matrix:
        return np.asarray(gradient / self.precision)

    def variance(self) -> Quadratic:
        return Quadratic(np.eye(self.dim), 1.0 / self.precision)

    def draws(self, mean: Matrix, noise: Matrix) -> NDArray[np.float64]:
        return np.asarray(mean + noise / np.sqrt(self.precision))

    def add_classes(self, more: int) -> Self:
        return self._with(np.vstack([self.precision, np.full((more, self.dim), self.prior)]))

    def _with(self, precision: Matrix) -> Self:
        return type(self)(precision=precision, prior=self.prior)
