"""How the mean of a head moves once its posterior has changed: three ways, none of which changes the precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysal.models.evidence import Evidence
from raysal.models.head import Head
from raysal.models.optim.quasi_newton import Objective, descend
from raysal.models.posterior import Gaussian

Matrix = NDArray[np.float64]
HALVINGS = 10
"""How often a step that raises the loss is halved before the mean stays where it is."""


def objective_of(head: Head, seen: Evidence) -> Objective:
    """What a new fit would minimise, with the frame and the prior of the last one.

    Args:
        head: the head of the last fit or update.
        seen: the labels of the new fit.

    Returns:
        The penalised loss of these labels, a function of weights of the head's frame.
    """
    inside = seen if head.frame is None else head.frame.evidence(seen)
    return Objective(head.likelihood, replace(inside, weights=inside.weights / head.noise), head.prior)


def inside(head: Head, mean: Matrix) -> Matrix:
    """Weights [C, D] of vectors as they are, as weights of the head's frame."""
    return mean if head.frame is None else head.frame.inside(mean)


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
    start = inside(head, head.mean)
    found = descend(objective_of(head, seen), start, posterior.preconditioner(), steps)
    if found is start:  # not even rounding moves a mean that stays
        return head.mean
    return found if head.frame is None else head.frame.outside(found)


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
