"""Quasi-Newton steps until an objective has settled, from a start that is nearly right."""

from __future__ import annotations

from collections.abc import Callable

from raysal.update.descent import Matrix, Objective, descend

AT_ONCE = 50
"""Steps between two looks at how much is left; what they learnt of the curvature is dropped then."""


def settle(
    objective: Objective,
    start: Matrix,
    precondition: Callable[[Matrix], Matrix],
    *,
    max_iter: int,
    tol: float,
) -> Matrix:
    """Weights [C, D] where the next step would lower the objective by less than tol² per unit of evidence, or where no
    step lowers it any more, or after `max_iter` steps of `descend`. Never above `start`.

    What a step would bring is gᵀ P g / 2 with the `precondition` P, which has the units of an inverse Hessian: neither
    the unit of the features nor the number of labels matters.
    """
    rows, mass = objective.evidence.rows, float(objective.evidence.weights.sum())
    weights = start
    for done in range(0, max_iter, AT_ONCE):
        gradient = objective.gradient(weights, rows @ weights.T, rows)
        if 0.5 * float((gradient * precondition(gradient)).sum()) <= tol**2 * mass:
            return weights
        moved = descend(objective, weights, precondition, min(AT_ONCE, max_iter - done))
        if (moved == weights).all():
            return moved
        weights = moved
    return weights
