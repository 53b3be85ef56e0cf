"""How the loss of labels curves in the outputs: the weights of the generalised Gauss-Newton matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysal.models.likelihood.base import Likelihood
from raysal.models.likelihood.tensors import LEAST

Weighting = Literal["gaussian", "categorical"]
"""What a label counts for in one covariance for all outputs; see `Curvature.counts`."""


@dataclass(frozen=True)
class Curvature:
    """How the loss of n items curves in their outputs, each item times its weight."""

    likelihood: Likelihood
    responses: NDArray[np.float64]
    """[n, C], of the mean that the head is linearised at"""
    weights: NDArray[np.float64]
    """[n], each > 0"""

    def diagonal(self) -> NDArray[np.float64]:
        """The second derivatives [n, C] of the loss in each output."""
        return np.asarray(self.likelihood.second_derivatives(self.responses) * self.weights[:, None])

    def hessian_roots(self) -> NDArray[np.float64]:
        """Matrices S [n, C, C] with S Sᵀ the Hessian in the outputs, times the weight."""
        return self.likelihood.hessian_roots(self.responses, self.weights)

    def hessian_sum(self) -> NDArray[np.float64]:
        """The sum of the Hessians in the outputs, each times its weight, [C, C]."""
        return self.likelihood.hessian_sum(self.responses, self.weights)

    def counts(self, weighting: Weighting) -> NDArray[np.float64]:
        """One number [n] for all outputs of an item.

        Args:
            weighting: `gaussian` counts an item as 1, which bounds every output's own curvature from above.
                `categorical` counts it by `Likelihood.confidence_weights`, at least 1e-9.

        Returns:
            The number of each item, times its weight.
        """
        if weighting == "gaussian":
            return self.weights
        return np.asarray(self.weights * np.maximum(self.likelihood.confidence_weights(self.responses), LEAST))
