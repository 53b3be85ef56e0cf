"""The members of an ensemble as a posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.models.frame import Frame
from raysal.models.posterior.base import Gaussian, Matrix, Posterior, Quadratic


@dataclass(frozen=True, kw_only=True, eq=False)
class Members(Posterior):
    """T heads instead of a formula: the members of an ensemble, or the masks of a dropout head.

    Their spread is the posterior. It has no closed form, and new labels need a new fit. Memory 8 T C D bytes.
    """

    name: ClassVar[str] = "members"
    closed_form: ClassVar[bool] = False
    weights: NDArray[np.float64]
    """[T, C, D], of the vectors as they are"""
    frame: Frame | None = None
    """The frame that the members were fitted in."""

    @property
    def dim(self) -> int:
        """D."""
        return int(self.weights.shape[2])

    @property
    def output_count(self) -> int:
        """C."""
        return int(self.weights.shape[1])

    def variance(self) -> Quadratic:
        """The form of the variance over the members, with T - 1 in the denominator."""
        apart = self.weights - self.weights.mean(axis=0)
        members, classes, _ = apart.shape
        combine = np.tile(np.eye(classes), (1, members)) / max(members - 1, 1)
        return Quadratic(apart.reshape(-1, self.dim), combine)

    def samples(self, mean: Matrix, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """The first members, one for each sample that is asked for; there are no others."""
        del mean
        return self.weights[: len(noise)]

    def updatable(self) -> Gaussian:
        """Refused: an ensemble has no closed-form step."""
        raise ConfigError("update.mode", "an ensemble has no closed-form step", 'use mode = "retrain"')
