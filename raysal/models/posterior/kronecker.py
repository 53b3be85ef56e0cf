"""The Kronecker product of a matrix over outputs and a matrix over features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from raysal.models.likelihood import Curvature, Weighting
from raysal.models.posterior.base import Gaussian, Matrix, Quadratic, RowSolver
from raysal.models.posterior.span import Span, widened
from raysal.models.posterior.square_root import LEAST_LEFT, nearly_all, never_absorbed


@dataclass(frozen=True, kw_only=True, eq=False)
class Kronecker(Gaussian):
    """The precision prior · I + B ⊗ A / n (KFAC for a last layer: Ritter et al., ICLR 2018).

    A = Σ m_i h̃_i h̃_iᵀ [D, D], B = Σ m_i Λ_i [C, C] with Λ_i the Hessian of the loss in the outputs, and n = Σ m_i. The
    sums are kept, and so absorbing is exact in A and B, though a product of sums is not the sum of products. Variances
    come from the eigenvectors A = V diag(μ) Vᵀ and B = U diag(λ) Uᵀ, without any Jacobian:
    v_k = Σ_a U_ka² Σ_j (v_jᵀ h̃)² / (λ_a μ_j / n + prior). Memory 8 (D² + C²) bytes. The eigenvectors are computed when
    they are first needed, O(D³ + C³); one update therefore costs as much as many.
    """

    name: ClassVar[str] = "kronecker"
    default_step: ClassVar[float] = 0.1
    inputs: Matrix
    """A [D, D]"""
    outputs: Matrix
    """B [C, C]"""
    count: float
    """n"""
    prior: float

    @classmethod
    def _fit(cls, rows: Matrix, curvature: Curvature, prior: float, classes: int, weighting: Weighting) -> Self:
        """A, B and n from all rows. O(n (D² + C²))."""
        del weighting
        dim = rows.shape[1]
        nothing = cls(inputs=np.zeros((dim, dim)), outputs=np.zeros((classes, classes)), count=0.0, prior=prior)
        return nothing._absorb(rows, curvature)

    @property
    def width(self) -> int:
        """See `Gaussian.width`."""
        return len(self.inputs)

    @property
    def output_count(self) -> int:
        """C."""
        return len(self.outputs)

    def _variance(self) -> Quadratic:
        """The form v_k = Σ_a U_ka² Σ_j (v_jᵀ h̃)² σ_aj, with the eigenvalues σ of Σ."""
        u, v, values = self._axes
        return Quadratic(v.T, u**2 @ values)

    def _deviations(self, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """The product U (noise · √σ) Vᵀ. O(T C D (C + D))."""
        u, v, values = self._axes
        scaled = noise * np.sqrt(values)
        return np.asarray(u @ (scaled.reshape(-1, len(v)) @ v.T).reshape(noise.shape))

    def _absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        """A, B and n with more in their sums. O(b (D² + C²))."""
        return self._with(rows, curvature, 1.0)

    def _retract(self, rows: Matrix, curvature: Curvature) -> Self:
        """A, B and n with less in their sums. O(b (D² + C²) + D³)."""
        less = self._with(rows, curvature, -1.0)
        least = min(np.linalg.eigvalsh(less.inputs)[0] / max(float(np.trace(self.inputs)), 1e-300), less.count)
        if least < -1e-9:
            raise never_absorbed()
        # A bound on the precision in any direction, before and after.
        most = [np.trace(of.inputs) * np.trace(of.outputs) / max(of.count, 1e-300) + of.prior for of in (self, less)]
        if most[1] < LEAST_LEFT * most[0]:
            raise nearly_all()
        return less

    def _solve(self, gradient: Matrix) -> Matrix:
        """The product U ((Uᵀ G V) · σ) Vᵀ. O(C D (C + D))."""
        u, v, values = self._axes
        return np.asarray(u @ ((u.T @ gradient @ v) * values) @ v.T)

    def _row_solver(self, rows: Matrix) -> RowSolver:
        """As `solve`, with the rows rotated once. O(b D²), then O(C D (C + D)) for each residual."""
        u, v, values = self._axes
        rotated = rows @ v
        return lambda i, residual: np.asarray(u @ (np.outer(residual @ u, rotated[i]) * values) @ v.T)

    def _widened(self, span: Span) -> Self:
        """A with rows and columns of zeros."""
        return replace(self, inputs=widened(self.inputs, self.width, span.width - self.width, 0.0), span=span)

    def add_classes(self, more: int) -> Self:
        """B with rows and columns of zeros appended."""
        outputs = np.pad(self.outputs, (0, more))
        return replace(self, outputs=outputs)

    def _with(self, rows: Matrix, curvature: Curvature, sign: float) -> Self:
        """With the sums of these rows added, or taken away by the sign -1."""
        moved = (rows.T * (sign * curvature.weights)) @ rows
        return replace(
            self,
            inputs=self.inputs + 0.5 * (moved + moved.T),
            outputs=self.outputs + sign * curvature.hessian_sum(),
            count=self.count + sign * float(curvature.weights.sum()),
        )

    @cached_property
    def _axes(self) -> tuple[Matrix, Matrix, Matrix]:
        """(U [C, C], V [D, D], the eigenvalues σ [C, D] of Σ)."""
        of_outputs, u = np.linalg.eigh(self.outputs)
        of_inputs, v = np.linalg.eigh(self.inputs)
        evidence = np.outer(np.maximum(of_outputs, 0), np.maximum(of_inputs, 0))
        return u, v, 1.0 / (evidence / max(self.count, 1e-300) + self.prior)
