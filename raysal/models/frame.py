"""The frame of a head: the coordinates in which its penalty and its posterior live.

Vectors come with any origin and in any unit. A penalty on weights means something only beside the spread of the
features, and a penalty on the bias only where the features are zero. So a head is fitted in a frame of its own:
features less their mean, over the root of their total variance. Adding a constant vector to all features, or
multiplying them by a number, changes nothing there. Outside, weights are those of the vectors as they are.

A frame is isotropic, with one size for all features, or standardised, with a size for each. The first suits embeddings,
also rotated ones, whose small directions say little; the second suits tables of unlike units, where one wide column
would hide the others. `Logistic` chooses by held-out labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from raysal.errors import UserError
from raysal.features import frozen
from raysal.models.evidence import Evidence

Matrix = NDArray[np.float64]
ROUNDING = (64 * np.finfo(np.float64).eps) ** 2
"""Share of the mean squared length of the vectors below which their total variance is rounding."""
OUTLIER = 0.3
"""Share of the farthest label's distance from the mean that the size of a standardised feature is at least. The
deviation of a feature that few labels have says little of how far others lie: an item that has it, too, would decide
everything. Of normal features it changes little: of 1,000 labels the farthest is 3 to 4 deviations away."""
ALIKE = 0.25
"""Geometric over arithmetic mean of the variances of features, from which on they are alike: no feature then hides many
others. Of 17 sets it was 0.3 and more for vectors of images and texts, for tables of one unit, and for 256 principal
axes of images; 0.1 for the principal axes of digits; and 0.08 and less for the five tables of unlike units."""


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
        size = np.array(self.size, dtype=np.float64)
        if size.ndim and size.shape != self.centre.shape:
            raise UserError("head.frame.size", f"shape {size.shape}, and the centre has {self.centre.shape}")
        size = np.array(np.broadcast_to(size, self.centre.shape))
        object.__setattr__(self, "size", frozen(size, "head.frame.size"))
        for name, least in (("size", float(self.size.min())), ("constant", self.constant)):
            if not (math.isfinite(least) and least > 0):
                raise UserError(f"head.frame.{name}", f"{least!r} is not a finite number above 0")

    @classmethod
    def isotropic(cls, evidence: Evidence) -> Self:
        """The frame with one size, in which labelled features have the mean 0 and the total variance 1, by weight.

        Where all items are alike there is no variance. The size is then their length, or 1 where that is 0.

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
        return cls(centre=centre, size=np.full(len(centre), np.sqrt(variance) or 1.0))

    def standardised(self, evidence: Evidence) -> Self:
        """The same frame with sizes of features in proportion to their standard deviations, and the total variance 1.

        A size is at least `OUTLIER` of the farthest label's distance from the mean. A feature that no label shows to
        vary may vary elsewhere: its size is the median of the others.

        Args:
            evidence: the labels of which this is the isotropic frame.

        Returns:
            The frame; itself where nothing varies.
        """
        variances, varying = self.variances(evidence)
        if not varying.any():
            return self
        farthest = np.abs(self.features(evidence.features)).max(axis=0)
        sizes = np.maximum(np.sqrt(variances), OUTLIER * farthest)
        sizes = np.where(varying, sizes, np.median(sizes[varying]))
        return replace(self, size=self.size * sizes * np.sqrt((variances / sizes**2).sum()))

    def variances(self, evidence: Evidence) -> tuple[Matrix, NDArray[np.bool_]]:
        """The variances [d] of features inside, by weight, and which [d] are more than rounding; the others are 0."""
        shares = evidence.weights / evidence.weights.sum()
        variances = shares @ self.features(evidence.features) ** 2
        varying = variances > ROUNDING * (shares @ (evidence.features / self.size) ** 2)
        return np.where(varying, variances, 0.0), varying

    def alike(self, evidence: Evidence) -> bool:
        """Whether features have much the same variance, so that standardising them changes little (`ALIKE`)."""
        variances, varying = self.variances(evidence)
        if not varying.any():
            return True
        own = variances[varying]
        return bool(np.exp(np.log(own).mean()) >= ALIKE * own.mean())

    @property
    def has_one_size(self) -> bool:
        """Whether all features have the same size, as in an isotropic frame."""
        return bool((self.size == self.size[0]).all())

    def fields(self) -> dict[str, Any]:
        """The fields, by name; one size for all features as a number."""
        return {**vars(self), "size": float(self.size[0]) if self.has_one_size else self.size}

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
