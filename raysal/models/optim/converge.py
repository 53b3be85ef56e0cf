"""Quasi-Newton steps until an objective is at its minimum, from a start that is nearly there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from raysal.models.optim.quasi_newton import Matrix, Objective, descend
from raysal.models.posterior import Shared
from raysal.numerics import one_thread_if_small

FIRST_STEPS = 20
"""Steps before the first check of how much is left; twice as many before the next check, and so on. Each check drops
what the steps have learnt of the curvature."""


def minimise(
    objective: Objective,
    start: Matrix,
    precondition: Callable[[Matrix], Matrix],
    *,
    max_iter: int,
    tol: float,
) -> Matrix:
    """The weights at the minimum of an objective; the objective is never above that of `start`.

    A step would bring gᵀ P g / 2, with the gradient g and the preconditioner P, which has the unit of an inverse
    Hessian. Neither the unit of the features nor the number of labels changes when it stops.

    Args:
        objective: what is minimised.
        start: weights [C, D].
        precondition: a function from gradients [C, D] to steps [C, D].
        max_iter: steps of `descend` at most.
        tol: it stops where the next step would bring less than tol² per unit of evidence.

    Returns:
        The weights [C, D]: those, or where no step lowers the objective, or after `max_iter` steps.
    """
    rows, mass = objective.evidence.rows, float(objective.evidence.weights.sum())
    weights, left, steps = start, max_iter, FIRST_STEPS
    while left > 0:
        gradient = objective.gradient(weights, rows @ weights.T, rows)
        if 0.5 * float((gradient * precondition(gradient)).sum()) <= tol**2 * mass:
            return weights
        moved = descend(objective, weights, precondition, min(steps, left))
        if (moved == weights).all():
            return moved
        weights, left, steps = moved, left - steps, 2 * steps
    return weights


def preconditioner(rows: Matrix, counts: NDArray[np.float64], prior: float) -> Callable[[Matrix], Matrix]:
    """The product with (prior · I + Σ_i counts_i h_i h_iᵀ)⁻¹. O(n D² + D³), then O(C D²) for each gradient.

    Args:
        rows: h [n, D]
        counts: [n], each > 0.
        prior: precision of every weight without rows.

    Returns:
        A function from gradients [C, D] to steps [C, D].

    Raises:
        ConfigError: the prior is too weak beside the rows for float64.
    """
    with one_thread_if_small(len(rows), rows.shape[1], 1):
        return Shared.of_counts(rows, counts, prior).preconditioner()
