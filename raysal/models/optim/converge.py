"""Quasi-Newton steps until an objective has settled, from a start that is nearly right."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysal.models.evidence import Evidence, mean_square
from raysal.models.optim.quasi_newton import Matrix, Objective, descend
from raysal.models.posterior.square_root import root_of_inverse
from raysal.numerics import one_thread_if_small

AT_FIRST = 20
"""Steps before the first look at how much is left, twice as many before the next, and so on: with every look what the
steps learnt of the curvature is dropped."""


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
    weights, left, steps = start, max_iter, AT_FIRST
    while left > 0:
        gradient = objective.gradient(weights, rows @ weights.T, rows)
        if 0.5 * float((gradient * precondition(gradient)).sum()) <= tol**2 * mass:
            return weights
        moved = descend(objective, weights, precondition, min(steps, left))
        if (moved == weights).all():
            return moved
        weights, left, steps = moved, left - steps, 2 * steps
    return weights


def in_units(evidence: Evidence) -> tuple[Evidence, float]:
    """The labels with features of mean square 1, and the root mean square that they had. There the penalty of
    `Logistic` is the same for weights and bias, and a preconditioner with one prior for both fits it."""
    size = math.sqrt(mean_square(evidence))
    return replace(evidence, features=evidence.features / size), size


def scaled(mean: Matrix, size: float) -> Matrix:
    """Weights [C, D] for features divided by `size`."""
    return np.column_stack([mean[:, :-1] * size, mean[:, -1]])


def preconditioner(rows: Matrix, counts: NDArray[np.float64], prior: float) -> Callable[[Matrix], Matrix]:
    """Gradients times (prior · I + Σ counts_i h_i h_iᵀ)⁻¹ over `rows` h [n, D]. O(n D² + D³), then O(C D²) each."""
    with one_thread_if_small(len(rows), rows.shape[1], 1):
        root = root_of_inverse(rows, counts, prior)
    return lambda gradient: np.asarray((gradient @ root) @ root.T)
