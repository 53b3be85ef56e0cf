"""The span of the labels: where there are few of them beside the features, a posterior is its prior everywhere else.

A label is evidence about weights along its own features, and about no others. So what n labels say of D weights takes
n + 1 numbers a side and not D. For 30 labels of 8,192 features that is a root of 31 x 31 and a span of 8,192 x 30, 2 MB
and 20 ms for the fit, where a root of 8,193 x 8,193 takes 512 MB and half a minute. Nothing is approximated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from raysal.features import frozen
from raysal.numerics import few_rows

Floats = NDArray[np.float64]
LEAST_LEFT = 1e-12
"""Share of a row's largest number that must lie beyond the span to widen it; what is left out is below rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Span:
    """Orthonormal axes among the features of a frame, and the precision of the prior in all other directions.

    With features z and the constant κ of the frame, a row [z, κ] has the coordinates [z · axes, κ]. What it has beyond
    them is orthogonal to every label.
    """

    axes: NDArray[np.float64]
    """[d, r]"""
    prior: float
    """precision of a weight beyond the axes"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", frozen(self.axes, "head.posterior.axes"))

    @classmethod
    def of_few(cls, rows: Floats, prior: float) -> Self | None:
        """The span of rows, if they are few beside their features (`raysal.numerics.few_rows`); else None. O(n² D).

        Args:
            rows: [n, D], the constant last.
            prior: precision of a weight beyond the axes.

        Returns:
            The span, with one axis for each row.
        """
        if not few_rows(len(rows), rows.shape[1] - 1):
            return None
        return cls(axes=np.linalg.qr(rows[:, :-1].T)[0], prior=prior)

    @property
    def dim(self) -> int:
        """D = d + 1."""
        return int(self.axes.shape[0]) + 1

    @property
    def width(self) -> int:
        """Coordinates of a row, r + 1."""
        return int(self.axes.shape[1]) + 1

    def coordinates(self, rows: Floats) -> Floats:
        """The coordinates [.., r + 1] of rows [.., D]. Weights and gradients go the same way."""
        return np.concatenate([rows[..., :-1] @ self.axes, rows[..., -1:]], axis=-1)

    def spread(self, coordinates: Floats) -> Floats:
        """The rows [.., D] that have these coordinates, and nothing beyond."""
        return np.concatenate([coordinates[..., :-1] @ self.axes.T, coordinates[..., -1:]], axis=-1)

    def beyond(self, rows: Floats) -> Floats:
        """What rows [.., D] have beyond the axes; the constant has nothing there."""
        return rows - self.spread(self.coordinates(rows))

    def widened(self, rows: Floats) -> Self:
        """The span with axes for what some rows have beyond it, after its own. O(n r D + n² D).

        Args:
            rows: [n, D]

        Returns:
            The span; itself where nothing lies beyond.
        """
        largest = np.abs(rows).max(axis=1, keepdims=True)
        if not np.isfinite(largest).all():  # the structure names the row
            return self
        left = self.beyond(self.beyond(rows / np.where(largest > 0, largest, 1.0)))[:, :-1]
        _, sizes, along = np.linalg.svd(left, full_matrices=False)
        fresh = along[sizes > LEAST_LEFT].T
        if not fresh.shape[1]:
            return self
        # Of small remainders only some digits are left: what of the axes has come back is taken out again.
        fresh = np.linalg.qr(fresh - self.axes @ (self.axes.T @ fresh))[0]
        return replace(self, axes=np.hstack([self.axes, fresh]))


def widened(matrix: Floats, width: int, more: int, diagonal: float) -> Floats:
    """A matrix over coordinates with more axes, which come before the constant.

    Args:
        matrix: [C width, C width]; the coordinates of an output lie side by side.
        width: coordinates, the constant included.
        more: axes of each output.
        diagonal: what the matrix has there for each of them; it has 0 beside the diagonal.

    Returns:
        The matrix [C (width + more), C (width + more)].
    """
    outputs, wide = len(matrix) // width, width + more
    places = np.arange(outputs * wide).reshape(outputs, wide)
    own, fresh = np.delete(places, np.s_[width - 1 : wide - 1], axis=1).ravel(), places[:, width - 1 : wide - 1].ravel()
    out = np.zeros((outputs * wide, outputs * wide))
    out[np.ix_(own, own)] = matrix
    out[fresh, fresh] = diagonal
    return out
