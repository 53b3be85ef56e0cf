"""The frame of a head: the coordinates in which its penalty and its posterior live.

Vectors come with any origin and in any unit. A penalty on weights means something only beside the spread of the
features, and a penalty on the bias only where the features are zero. So a head is fitted in a frame of its own:
features less their mean, each over the root of its standard deviation (Pareto scaling, van den Berg et al., BMC
Genomics 2006), all over the root of what is then their total variance. Adding a constant vector to all features, or
multiplying them by a number, changes nothing there. Outside, weights are those of the vectors as they are.

Pareto scaling lies between the vectors as they are, whose penalty is that of their widest feature, and standardised
ones, where a feature that hardly varies counts as much as any. On embeddings it changes next to nothing, since their
features are alike; in tables of unlike units it keeps one column from hiding the others (RESULTS.md, "The default
head").
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
LEAST = 0.3
"""Standard deviation that a feature has at least for its scale, in units of the median of those that vary. One that no
labelled item shows may vary in others: without a least one, such an item would lie arbitrarily far away."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """The affine map from vectors h [d] to features [(h - centre) / size, constant] of D = d + 1 numbers.

    With h̃ = [h, 1] it is the product T h̃ of a matrix T [D, D]. No method forms T; each costs O(n D).

    Raises:
        UserError: a number is not finite, or a size or the constant is not above 0.
    """

    centre: NDArray[np.float64]
    """[d]"""
    size: NDArray[np.float64]
    """[d] of each feature; a number stands for all of them"""
    constant: float = 1.0
    """The constant feature. Under a prior of precision p on every weight of the frame, the bias at the centre has the
    precision p / constant²."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "centre", frozen(self.centre, "head.frame.centre"))
        size = np.broadcast_to(np.asarray(self.size, dtype=np.float64), self.centre.shape)
        object.__setattr__(self, "size", frozen(size, "head.frame.size"))
        for name, least in (("size", float(self.size.min())), ("constant", self.constant)):
            if not (math.isfinite(least) and least > 0):
                raise UserError(f"head.frame.{name}", f"{least!r} is not a finite number above 0")

    @classmethod
    def of(cls, evidence: Evidence) -> Self:
        """The frame in which labelled features have the mean 0 and the total variance 1, by their weights.

        Features that are all alike have no variance. Their size is then their length, or 1 where that is 0.

        Args:
            evidence: the labels.

        Returns:
            The frame, with the constant 1.
        """
        plain = cls.isotropic(evidence)
        shares = evidence.weights / evidence.weights.sum()
        variances = shares @ plain.features(evidence.features) ** 2
        varying = variances > ROUNDING * (shares @ (evidence.features / plain.size) ** 2)
        if not varying.any():
            return plain
        deviations = np.sqrt(np.where(varying, variances, 0.0))
        deviations = np.maximum(deviations, LEAST * np.median(deviations[varying]))
        return replace(plain, size=plain.size * np.sqrt(deviations * (variances / deviations).sum()))

    @classmethod
    def isotropic(cls, evidence: Evidence) -> Self:
        """As `of`, with one size for all features."""
        shares = evidence.weights / evidence.weights.sum()
        centre = shares @ evidence.features
        variance = float(shares @ ((evidence.features - centre) ** 2).sum(axis=1))
        square = float(shares @ (evidence.features**2).sum(axis=1))
        if variance <= ROUNDING * square:
            variance = square
        return cls(centre=centre, size=np.full(len(centre), np.sqrt(variance) or 1.0))

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
