"""How the mean of a head moves once its posterior has changed: three ways, none of which changes the precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysal.models.evidence import Evidence, mean_square
from raysal.models.head import Head
from raysal.models.optim.quasi_newton import Objective, descend
from raysal.models.posterior import Gaussian

Matrix = NDArray[np.float64]
HALVINGS = 10
"""How often a step that raises the loss is halved before the mean stays where it is."""
LEAST_BIAS_PRIOR = 1e-8
"""Share of the prior of a weight that the prior of the bias counts as at least; digits are lost below."""


def objective_of(head: Head, seen: Evidence) -> Objective:
    """What a new fit would minimise.

    Where the prior of the last fit was in proportion to its labels (`Head.mass`), the penalty grows with the labels.

    Args:
        head: the head of the last fit or update.
        seen: the labels of the new fit.

    Returns:
        The penalised loss of these labels.
    """
    square = mean_square(seen)
    grown = float(seen.weights.sum()) * square / head.mass if head.mass else 1.0
    penalty = np.full(head.dim + 1, head.prior * grown)
    penalty[-1] /= square  # that of the bias, as in `Logistic`
    return Objective(head.likelihood, replace(seen, weights=seen.weights / head.noise), penalty)


def quasi_newton_mean(head: Head, posterior: Gaussian, seen: Evidence, steps: int) -> Matrix:
    """The mean after some quasi-Newton steps on the penalised loss of everything seen. Its loss never rises.

    Args:
        head: the head before.
        posterior: the new posterior, whose covariance is the first guess of the inverse Hessian.
        seen: all labels so far.
        steps: how many.

    Returns:
        The mean [C, D].
    """
    objective = objective_of(head, seen)
    more = max(float(objective.penalty[-1]), LEAST_BIAS_PRIOR * head.prior) - head.prior
    return descend(objective, head.mean, with_bias_prior(posterior, more, head.mean.shape), steps)


def with_bias_prior(posterior: Gaussian, more: float, shape: tuple[int, int]) -> Callable[[Matrix], Matrix]:
    """`Gaussian.solve` with more precision for every bias.

    The posterior has the prior of the weights for the bias as well. With vectors of length 1 that is next to nothing
    beside the penalty of the bias, and the direction of the mean vector would seem free to move. With long vectors it
    would seem fixed. By Woodbury's identity, from the covariance [C, C] of the biases: O(C D²) with one covariance for
    all classes.

    Args:
        posterior: the posterior.
        more: what is added to the precision of every bias.
        shape: (C, D) of the weights.

    Returns:
        A function from gradients [C, D] to steps [C, D].
    """
    classes, dim = shape
    of_bias = posterior.row_solver(np.eye(1, dim, dim - 1))
    biases = np.array([of_bias(0, output)[:, -1] for output in np.eye(classes)])
    inner = more * np.linalg.inv(np.eye(classes) + more * biases)

    def solve(gradient: Matrix) -> Matrix:
        found = posterior.solve(gradient)
        return np.asarray(found - of_bias(0, inner @ found[:, -1]))

    return solve


def newton_mean(head: Head, posterior: Gaussian, added: Evidence, removed: Evidence | None) -> Matrix:
    """The mean after one Newton step, which is exact where the loss is quadratic (recursive least squares).

    Args:
        head: the head before.
        posterior: the new posterior.
        added: labels that were absorbed.
        removed: labels that were taken back.

    Returns:
        The mean [C, D].
    """
    gradient = np.zeros_like(head.mean)
    for sign, evidence in ((1.0, added), (-1.0, removed)):
        if evidence is not None:
            residual = evidence.targets - evidence.rows @ head.mean.T
            gradient += sign * (residual * evidence.weights[:, None]).T @ evidence.rows / head.noise
    return np.asarray(head.mean + posterior.solve(gradient))


def stepped_mean(
    head: Head, posterior: Gaussian, added: Evidence, removed: Evidence | None, step: float, passes: int
) -> Matrix:
    """The mean after steps for the new labels alone, label by label.

    A step is halved where the loss of the new labels would rise, up to 10 times; then the mean stays.

    Args:
        head: the head before.
        posterior: the new posterior.
        added: labels that were absorbed.
        removed: labels that were taken back; their steps come first, with the other sign.
        step: length of a step, in units of the covariance.
        passes: how often the steps for the new labels are made.

    Returns:
        The mean [C, D].
    """
    rows = added.rows
    before = head.likelihood.total_loss(rows @ head.mean.T, added.targets, added.weights)
    back = None if removed is None else _LabelSteps(head, posterior, removed)
    forth = _LabelSteps(head, posterior, added)
    for _ in range(HALVINGS + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            mean = head.mean if back is None else back(head.mean, -step)
            for _ in range(passes):
                mean = forth(mean, step)
            after = head.likelihood.total_loss(rows @ mean.T, added.targets, added.weights)
        if np.isfinite(mean).all() and not after > before:
            return mean
        step /= 2
    return head.mean


class _LabelSteps:
    """Steps of the mean, one for each label in their order."""

    def __init__(self, head: Head, posterior: Gaussian, evidence: Evidence) -> None:
        self._likelihood, self._evidence, self._rows = head.likelihood, evidence, evidence.rows
        self._sizes = evidence.weights / head.noise
        self._solve = posterior.row_solver(self._rows)

    def __call__(self, mean: Matrix, step: float) -> Matrix:
        for i, row in enumerate(self._rows):
            residual = self._evidence.targets[i] - self._likelihood.responses((mean @ row)[None])[0]
            mean = mean + self._solve(i, step * self._sizes[i] * residual)
        return mean
