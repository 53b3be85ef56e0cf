"""The whole matrix over all weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.models.likelihood import Curvature, Weighting
from raysal.models.posterior import square_root
from raysal.models.posterior.base import Gaussian, Matrix, Quadratic
from raysal.models.posterior.square_root import root_of_inverse

LARGEST_FULL = 6_000
"""Weights of a head beyond which a matrix over all of them is refused: 6,000 take 288 MB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Full(Gaussian):
    """The whole generalised Gauss-Newton matrix, (C D)² numbers: the measure of the other structures, for small
    heads. Absorbing b rows O(b C (C D)²)."""

    name: ClassVar[str] = "full"
    exact_for_numbers: ClassVar[bool] = True
    stride: ClassVar[float] = 0.3
    root: Matrix
    """[C D, C D] with Σ = root rootᵀ; the weights of an output lie together."""
    classes: int
    prior: float

    @classmethod
    def fit(
        cls, rows: Matrix, curvature: Curvature, prior: float, classes: int, weighting: Weighting = "gaussian"
    ) -> Self:
        """From the prior and all rows at once. O(n C (C D)² + (C D)³).

        Raises:
            ConfigError: the head has more weights than are sensible, or the prior is too weak beside the evidence.
        """
        del weighting
        size = classes * rows.shape[1]
        if size > LARGEST_FULL:
            problem = f"{classes} classes x {rows.shape[1]} features are {size} weights, more than {LARGEST_FULL}"
            raise ConfigError("update.trainer.structure", problem, "use shared, kronecker or diagonal")
        wide = jacobians(rows, curvature)
        root = root_of_inverse(wide, np.ones(len(wide)), prior)
        return cls(root=root, classes=classes, prior=prior)

    @property
    def dim(self) -> int:
        return len(self.root) // self.classes

    @property
    def output_count(self) -> int:
        """C."""
        return self.classes

    def absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        wide = jacobians(rows, curvature)
        return self._with(square_root.update(self.root, wide, np.ones(len(wide))))

    def retract(self, rows: Matrix, curvature: Curvature) -> Self:
        wide = jacobians(rows, curvature)
        return self._with(square_root.downdate(self.root, wide, np.ones(len(wide))))

    def solve(self, gradient: Matrix) -> Matrix:
        return np.asarray(self.root @ (gradient.reshape(-1) @ self.root)).reshape(gradient.shape)

    def variance(self) -> Quadratic:
        blocks = self.root.reshape(self.classes, self.dim, -1).transpose(0, 2, 1)
        combine = np.kron(np.eye(self.classes), np.ones((1, len(self.root))))
        return Quadratic(blocks.reshape(-1, self.dim), np.asarray(combine, np.float64))

    def draws(self, mean: Matrix, noise: Matrix) -> NDArray[np.float64]:
        return np.asarray(mean + (noise.reshape(len(noise), -1) @ self.root.T).reshape(noise.shape))

    def add_classes(self, more: int) -> Self:
        size, extra = len(self.root), more * self.dim
        root = np.zeros((size + extra, size + extra))
        root[:size, :size] = self.root
        root[size:, size:] = np.eye(extra) / np.sqrt(self.prior)
        return type(self)(root=root, classes=self.classes + more, prior=self.prior)

    def _with(self, root: Matrix) -> Self:
        return type(self)(root=root, classes=self.classes, prior=self.prior)


def jacobians(rows: Matrix, curvature: Curvature) -> Matrix:
    """[n C, C D]: the rows whose outer products add up to the full Gauss-Newton matrix of `rows` [n, D]."""
    roots = curvature.roots()  # [n, C, C]
    wide = np.einsum("nck,nd->nkcd", roots, rows)
    return np.asarray(wide.reshape(roots.shape[0] * roots.shape[2], -1))
