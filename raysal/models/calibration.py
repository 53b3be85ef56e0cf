"""The temperature of a head: the one number that makes most of what probabilities say true."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import UserError
from raysal.models.likelihood import SOFTMAX, Likelihood

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures stay within these. There is no best one where every held-out label is predicted, nor where outputs say
nothing."""
STEPS = 100
"""Newton's steps at most."""


def fit_temperature(
    outputs: NDArray[Any],
    targets: NDArray[Any],
    weights: NDArray[Any] | None = None,
    likelihood: Likelihood = SOFTMAX,
) -> float:
    """The temperature T at which outputs / T have the least loss on held-out labels (Guo et al., ICML 2017).

    The loss is convex in 1/T. Newton's steps search the zero of its slope within a bracket, which is halved where a
    step would leave it. About ten steps of O(n C) find it to 1e-9, whatever the outputs.

    Args:
        outputs: [n, C]
        targets: [n, C]
        weights: [n]; none means 1.
        likelihood: what the labels are.

    Returns:
        The temperature, within 0.05 and 20. It is 1 where nothing depends on it: there are no labels, all outputs are
        alike, or labels are numbers.

    Raises:
        UserError: an output is not finite.
    """
    f, t = np.asarray(outputs, np.float64), np.asarray(targets, np.float64)
    m = np.ones(len(f)) if weights is None else np.asarray(weights, np.float64)
    if not np.isfinite(f).all():
        raise UserError("outputs", "hold numbers that are not finite", "fit anew")
    f = likelihood.centred(f) if len(f) else f
    if not likelihood.discrete or not len(f) or not f.any():
        return 1.0
    mass = likelihood.target_mass(t)

    def slope(beta: float) -> tuple[float, float]:
        """The first and second derivatives of the loss at 1/T = beta."""
        p = likelihood.responses(beta * f)
        first, second = (mass * p - t) * f, mass * likelihood.curvature_terms(p, f)
        return float(m @ first.sum(axis=1)), float(m @ second.sum(axis=1))

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(high)[0] <= 0:
        return COLDEST
    if slope(low)[0] >= 0:
        return HOTTEST
    beta = 1.0
    for _ in range(STEPS):
        first, second = slope(beta)
        low, high = (beta, high) if first < 0 else (low, beta)
        moved = beta - first / second if second > 0 else high
        moved = moved if low < moved < high else (low * high) ** 0.5
        if first == 0 or abs(moved - beta) <= 1e-9 * beta:
            break
        beta = moved
    return float(1 / beta)
