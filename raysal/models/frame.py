"""The frame of a head: the coordinates in which its penalty and its posterior live.

Vectors come with any origin and in any unit. A penalty on weights means something only beside the spread of the
features, and a penalty on the bias only where the features are zero. So a head is fitted in a frame of its own:
features less their mean, over the root of their total variance. Adding a constant vector to all features, or
multiplying them by a number, changes nothing there. Outside, weights are those of the vectors as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from raysal.errors import UserError
from raysal.features import frozen
from raysal.models.evidence import Evidence

Matrix = NDArray[np.float64]
ROUNDING = (64 * np.finfo(np.float64).eps) ** 2
"""Share of the mean squared length of the vectors below which their total variance is rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """The affine map from vectors h [d] to features [(h - centre) / size, constant] of D = d + 1 numbers.

    With h̃ = [h, 1] it is the product T h̃ of a matrix T [D, D]. No method forms T; each costs O(n D).

    Raises:
        UserError: a number is not finite, or the size or the constant is not above 0.
    """

    centre: NDArray[np.float64]
    """[d]"""
    size: float
    constant: float = 1.0
    """The constant feature. Under a prior of precision p on every weight of the frame, the bias at the centre has the
    precision p / constant²."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "centre", frozen(self.centre, "head.frame.centre"))
        for name in ("size", "constant"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UserError(f"head.frame.{name}", f"{getattr(self, name)!r} is not a finite number above 0")

    @classmethod
    def of(cls, evidence: Evidence) -> Self:
        """The frame in which labelled features have the mean 0 and the total variance 1, by their weights.

        Features that are all alike have no variance. Their size is then their length, or 1 where that is 0.

        Args:
            evidence: the labels.

        Returns:
            The frame, with the constant 1.
        """
        shares = evidence.weights / evidence.weights.sum()
        centre = shares @ evidence.features
        variance = float(shares @ ((evidence.features - centre) ** 2).sum(axis=1))
        square = float(shares @ (evidence.features**2).sum(axis=1))
        if variance <= ROUNDING * square:
            variance = square
        return cls(centre=centre, size=float(np.sqrt(variance)) or 1.0)

    def with_constant(self, constant: float) -> Self:
        """The same frame with another constant feature."""
        return replace(self, constant=constant)

    def features(self, vectors: Matrix) -> Matrix:
        """The features (h - centre) / size of vectors [n, d], without the constant."""
        return np.asarray((vectors - self.centre) / self.size)

    def evidence(self, evidence: Evidence) -> Evidence:
        """Labels of vectors as labels of features."""
        return replace(evidence, features=self.features(evidence.features), constant=self.constant)

    def rows(self, rows: Matrix) -> Matrix:
        """The products T h̃ of rows h̃ [n, D], whose last number need not be 1. Gradients [C, D] go the same way."""
        inside = (rows[:, :-1] - rows[:, -1:] * self.centre) / self.size
        return np.hstack([inside, rows[:, -1:] * self.constant])

    def outside(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights [.., D] over features, as weights over h̃ with the same products: W T."""
        weight = weights[..., :-1] / self.size
        bias = weights[..., -1] * self.constant - weight @ self.centre
        return np.concatenate([weight, bias[..., None]], axis=-1)

    def inside(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `outside`: W T⁻¹."""
        bias = (weights[..., -1] + weights[..., :-1] @ self.centre) / self.constant
        return np.concatenate([weights[..., :-1] * self.size, bias[..., None]], axis=-1)
