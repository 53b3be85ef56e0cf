"""A few quasi-Newton steps on the penalised loss of everything seen, starting from a mean that is nearly right.

The posterior is the preconditioner: it knows the directions in which the labels say little, and so a handful of steps
does what a fit from zero takes dozens for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raysal.models.evidence import Evidence
from raysal.models.likelihood import Likelihood

Matrix = NDArray[np.float64]
ENOUGH = 1e-4
"""Share of the predicted decrease that a step must bring (Armijo)."""
SHORTEST = 2.0**-20
"""Steps are not cut below this share of the first one tried."""


@dataclass(frozen=True)
class Objective:
    """Σ m_i loss_i + penalty / 2 · W², over weights W [C, D]."""

    likelihood: Likelihood
    evidence: Evidence
    penalty: NDArray[np.float64]
    """[D]"""

    def value(self, weights: Matrix, outputs: Matrix) -> float:
        fit = self.likelihood.total_loss(outputs, self.evidence.targets, self.evidence.weights)
        return fit + 0.5 * float((self.penalty * weights**2).sum())

    def second_derivative(self, direction: Matrix, outputs: Matrix, along: Matrix) -> float:
        """Along a direction of weights [C, D], which moves the outputs [n, C] by `along` [n, C]."""
        terms = self.likelihood.curvature_terms(self.likelihood.responses(outputs), along)
        fit = terms.sum(axis=1) @ self.evidence.weights
        return float(fit + (self.penalty * direction**2).sum())

    def gradient(self, weights: Matrix, outputs: Matrix, rows: Matrix) -> Matrix:
        residual = (self.likelihood.responses(outputs) - self.evidence.targets) * self.evidence.weights[:, None]
        return np.asarray(residual.T @ rows + self.penalty * weights)


def descend(objective: Objective, start: Matrix, precondition: Callable[[Matrix], Matrix], steps: int) -> Matrix:
    """Weights [C, D] after at most `steps` steps of L-BFGS (Nocedal & Wright, 2006, alg. 7.4) from `start`, with
    `precondition` for the inverse Hessian it begins with, whose scale does not matter. Its value is never above that of
    `start`.

    Every direction is first followed as far as Newton's step along it: its curvature costs O(n C), as outputs are
    linear in the weights. On Fashion-MNIST and on texts 8 such steps are worth 16 of the length that L-BFGS proposes.

    O(steps · (n C D + one preconditioning)), memory O(steps · C D).
    """
    rows = objective.evidence.rows
    # Outputs and targets lie output by output, [n, C] to the eye: what follows goes along items, then, and not along a
    # few classes at a time, which takes twice as long.
    evidence = replace(objective.evidence, targets=np.asfortranarray(objective.evidence.targets))
    objective = replace(objective, evidence=evidence)
    weights, outputs = start, (start @ rows.T).T
    value = objective.value(weights, outputs)
    gradient = objective.gradient(weights, outputs, rows)
    pairs: list[tuple[Matrix, Matrix]] = []
    for _ in range(steps):
        direction = -_two_loops(gradient, pairs, precondition)
        slope = float((gradient * direction).sum())
        if not slope < 0:
            break
        along = (direction @ rows.T).T
        share = longest = -slope / objective.second_derivative(direction, outputs, along)
        while share >= SHORTEST * longest:
            moved, seen = weights + share * direction, outputs + share * along
            after = objective.value(moved, seen)
            if after <= value + ENOUGH * share * slope:
                break
            share /= 2
        else:
            break
        if after == value:  # what is left to gain is below rounding
            break
        fresh = objective.gradient(moved, seen, rows)
        change = (moved - weights, fresh - gradient)
        if float((change[0] * change[1]).sum()) > 0:
            pairs.append(change)
        weights, outputs, value, gradient = moved, seen, after, fresh
    return weights


def _two_loops(
    gradient: Matrix, pairs: list[tuple[Matrix, Matrix]], precondition: Callable[[Matrix], Matrix]
) -> Matrix:
    """The inverse Hessian that the pairs (step, change of gradient) tell of, times the gradient."""
    left, parts = gradient.copy(), []
    for step, change in reversed(pairs):
        part = float((step * left).sum()) / float((step * change).sum())
        parts.append(part)
        left -= part * change
    found = precondition(left)
    if pairs:
        step, change = pairs[-1]
        found = found * (float((step * change).sum()) / float((precondition(change) * change).sum()))
    for (step, change), part in zip(pairs, reversed(parts), strict=True):
        found = found + step * (part - float((change * found).sum()) / float((step * change).sum()))
    return found
