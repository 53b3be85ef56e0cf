"""The Kronecker product of a matrix over features and a matrix over outputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from raysal.models.likelihood import Curvature, Weighting
from raysal.models.posterior.base import Gaussian, Matrix, Pull, Quadratic
from raysal.models.posterior.square_root import LEFT, nearly_all, never_absorbed


@dataclass(frozen=True, kw_only=True, eq=False)
class Kronecker(Gaussian):
    """prior · I + B ⊗ A / n, with A = Σ m_i h̃_i h̃_iᵀ, B = Σ m_i Λ_i the summed Hessians in the outputs, and
    n = Σ m_i (KFAC for a last layer: Ritter et al., ICLR 2018).

    Both sums are kept, so absorbing is exact in them, though the product of sums is not the sum of products. Variances
    come from the eigenvectors A = V diag(μ) Vᵀ and B = U diag(λ) Uᵀ without any Jacobian: v_k = Σ_a U_ka² Σ_j
    (v_jᵀh̃)² / (λ_a μ_j / n + prior). 8 (D² + C²) bytes; the eigenvectors are computed where they are needed,
    O(D³ + C³), so that one update costs as much as many.
    """

    name: ClassVar[str] = "kronecker"
    stride: ClassVar[float] = 0.1
    inputs: Matrix
    """A [D, D]"""
    outputs: Matrix
    """B [C, C]"""
    count: float
    """n"""
    prior: float

    @classmethod
    def fit(
        cls, rows: Matrix, curvature: Curvature, prior: float, classes: int, weighting: Weighting = "gaussian"
    ) -> Self:
        """From the prior and all rows at once. O(n (D² + C²))."""
        del weighting
        dim = rows.shape[1]
        nothing = cls(inputs=np.zeros((dim, dim)), outputs=np.zeros((classes, classes)), count=0.0, prior=prior)
        return nothing.absorb(rows, curvature)

    @property
    def dim(self) -> int:
        return len(self.inputs)

    @property
    def output_count(self) -> int:
        """C."""
        return len(self.outputs)

    def absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        return self._moved(rows, curvature, 1.0)

    def retract(self, rows: Matrix, curvature: Curvature) -> Self:
        less = self._moved(rows, curvature, -1.0)
        least = min(np.linalg.eigvalsh(less.inputs)[0] / max(float(np.trace(self.inputs)), 1e-300), less.count)
        if least < -1e-9:
            raise never_absorbed()
        # A bound on the precision in any direction, before and after.
        most = [np.trace(of.inputs) * np.trace(of.outputs) / max(of.count, 1e-300) + of.prior for of in (self, less)]
        if most[1] < LEFT * most[0]:
            raise nearly_all()
        return less

    def _moved(self, rows: Matrix, curvature: Curvature, sign: float) -> Self:
        moved = (rows.T * (sign * curvature.weights)) @ rows
        return type(self)(
            inputs=self.inputs + 0.5 * (moved + moved.T),
            outputs=self.outputs + sign * curvature.summed(),
            count=self.count + sign * float(curvature.weights.sum()),
            prior=self.prior,
        )

    @cached_property
    def _axes(self) -> tuple[Matrix, Matrix, Matrix]:
        """(U [C, C], V [D, D], eigenvalues of Σ [C, D])."""
        of_outputs, u = np.linalg.eigh(self.outputs)
        of_inputs, v = np.linalg.eigh(self.inputs)
        evidence = np.outer(np.maximum(of_outputs, 0), np.maximum(of_inputs, 0))
        return u, v, 1.0 / (evidence / max(self.count, 1e-300) + self.prior)

    def solve(self, gradient: Matrix) -> Matrix:
        u, v, values = self._axes
        return np.asarray(u @ ((u.T @ gradient @ v) * values) @ v.T)

    def pulls(self, rows: Matrix) -> Pull:
        u, v, values = self._axes
        turned = rows @ v
        return lambda i, residual: np.asarray(u @ (np.outer(residual @ u, turned[i]) * values) @ v.T)

    def variance(self) -> Quadratic:
        u, v, values = self._axes
        return Quadratic(v.T, u**2 @ values)

    def draws(self, mean: Matrix, noise: Matrix) -> NDArray[np.float64]:
        u, v, values = self._axes
        scaled = noise * np.sqrt(values)
        return np.asarray(mean + u @ (scaled.reshape(-1, len(v)) @ v.T).reshape(noise.shape))

    def add_classes(self, more: int) -> Self:
        outputs = np.pad(self.outputs, (0, more))
        return type(self)(inputs=self.inputs, outputs=outputs, count=self.count, prior=self.prior)
