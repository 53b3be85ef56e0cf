"""The whole matrix over all weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.models.likelihood import Curvature, Weighting
from raysal.models.posterior import square_root
from raysal.models.posterior.base import Gaussian, Matrix, Quadratic
from raysal.models.posterior.span import Span, widened
from raysal.models.posterior.square_root import root_of_inverse

LARGEST_FULL = 6_000
"""Weights of a head beyond which a matrix over all of them is refused: 6,000 take 288 MB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Full(Gaussian):
    """The whole generalised Gauss-Newton matrix over all C D weights: for small heads, and to measure the others by.

    Memory 8 (C D)² bytes; absorbing b rows costs O(b C (C D)²). Kept as a square root R [C D, C D] with Σ = R Rᵀ.
    """

    name: ClassVar[str] = "full"
    exact_for_numbers: ClassVar[bool] = True
    default_step: ClassVar[float] = 0.1
    root: Matrix
    """R [C D, C D]; the weights of an output lie side by side."""
    classes: int
    """C"""
    prior: float

    @classmethod
    def _fit(cls, rows: Matrix, curvature: Curvature, prior: float, classes: int, weighting: Weighting) -> Self:
        """R from all rows. O(n C (C D)² + (C D)³).

        Args:
            rows: [n, D]
            curvature: of the labels of these rows.
            prior: precision of every weight before any label.
            classes: C
            weighting: not used.

        Returns:
            The posterior.

        Raises:
            ConfigError: the head has more than 6,000 weights, or the prior is too weak beside the evidence.
        """
        del weighting
        check_size(classes, rows.shape[1])
        wide = jacobians(rows, curvature)
        root = root_of_inverse(wide, np.ones(len(wide)), prior)
        return cls(root=root, classes=classes, prior=prior)

    @property
    def width(self) -> int:
        """See `Gaussian.width`."""
        return len(self.root) // self.classes

    @property
    def output_count(self) -> int:
        """C."""
        return self.classes

    def _variance(self) -> Quadratic:
        """The form v_c = ‖R_cᵀ h̃‖², with R_c [D, C D] the rows of output c."""
        blocks = self.root.reshape(self.classes, self.width, -1).transpose(0, 2, 1)
        combine = np.kron(np.eye(self.classes), np.ones((1, len(self.root))))
        return Quadratic(blocks.reshape(-1, self.width), np.asarray(combine, np.float64))

    def _deviations(self, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """The product R noise, with the noise of a sample as one vector. O(T (C D)²)."""
        return np.asarray((noise.reshape(len(noise), -1) @ self.root.T).reshape(noise.shape))

    def _absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        """R by `square_root.update` of `jacobians`. O(b C (C D)²)."""
        wide = jacobians(rows, curvature)
        return self._with(square_root.update(self.root, wide, np.ones(len(wide))))

    def _retract(self, rows: Matrix, curvature: Curvature) -> Self:
        """R by `square_root.downdate` of `jacobians`. O(b C (C D)²)."""
        wide = jacobians(rows, curvature)
        return self._with(square_root.downdate(self.root, wide, np.ones(len(wide))))

    def _solve(self, gradient: Matrix) -> Matrix:
        """The product R Rᵀ g, with the gradient as one vector g. O((C D)²)."""
        return np.asarray(self.root @ (gradient.reshape(-1) @ self.root)).reshape(gradient.shape)

    def _widened(self, span: Span) -> Self:
        """R with I / √prior on the diagonal of each output."""
        check_size(self.classes, span.width)
        root = widened(self.root, self.width, span.width - self.width, 1 / math.sqrt(span.prior))
        return replace(self, root=root, span=span)

    def add_classes(self, more: int) -> Self:
        """R with I / √prior appended on the diagonal."""
        size, extra = len(self.root), more * self.width
        root = np.zeros((size + extra, size + extra))
        root[:size, :size] = self.root
        root[size:, size:] = np.eye(extra) / np.sqrt(self.prior)
        return replace(self, root=root, classes=self.classes + more)

    def _with(self, root: Matrix) -> Self:
        return replace(self, root=root)


def check_size(classes: int, width: int) -> None:
    """Refuse a matrix over too many weights, with a ConfigError."""
    if (size := classes * width) > LARGEST_FULL:
        problem = f"{classes} classes x {width} features are {size} weights, more than {LARGEST_FULL}"
        raise ConfigError("update.trainer.structure", problem, "use shared, kronecker or diagonal")


def jacobians(rows: Matrix, curvature: Curvature) -> Matrix:
    """The rows J [n C, C D] with Jᵀ J the full Gauss-Newton matrix of labels at `rows` h̃ [n, D]."""
    roots = curvature.hessian_roots()  # [n, C, C]
    wide = np.einsum("nck,nd->nkcd", roots, rows)
    return np.asarray(wide.reshape(roots.shape[0] * roots.shape[2], -1))
