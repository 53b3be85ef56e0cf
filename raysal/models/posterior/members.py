"""The members of an ensemble as a posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from raysal.models.posterior.base import Matrix, Posterior, Quadratic


@dataclass(frozen=True, kw_only=True, eq=False)
class Members(Posterior):
    """T heads instead of a formula: the members of an ensemble, or the masks of a dropout head. Their spread is the
    posterior; it has no closed form, so new labels mean a new fit."""

    name: ClassVar[str] = "members"
    closed_form: ClassVar[bool] = False
    weights: NDArray[np.float64]
    """[T, C, D]"""

    @property
    def dim(self) -> int:
        return int(self.weights.shape[2])

    @property
    def output_count(self) -> int:
        """C."""
        return int(self.weights.shape[1])

    def variance(self) -> Quadratic:
        apart = self.weights - self.weights.mean(axis=0)
        members, classes, _ = apart.shape
        combine = np.tile(np.eye(classes), (1, members)) / max(members - 1, 1)
        return Quadratic(apart.reshape(-1, self.dim), combine)

    def draws(self, mean: Matrix, noise: Matrix) -> NDArray[np.float64]:
        """The first T members, whatever `mean` and `noise` say: there are no others."""
        del mean
        return self.weights[: len(noise)]
