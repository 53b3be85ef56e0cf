"""What a label would do to the head and to its loss, to first order, from the posterior alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.models.evidence import Evidence
from raysal.models.head import Head
from raysal.models.posterior import Quadratic


def gain_of(head: Head) -> Quadratic:
    """The squared length of Σ h̃, the direction in which a closed-form step moves the weights of every output.

    Lengths are those of the head's frame. There a step does not depend on the origin and the unit of the vectors.

    Args:
        head: the head.

    Returns:
        The form; its number is ‖Σ h̃‖².

    Raises:
        ConfigError: outputs do not share one covariance.
    """
    form = head.posterior.step()
    if form is None:
        problem = f"the expected change of a head needs one covariance, not {head.posterior.name}"
        raise ConfigError("score", problem, "use shared")
    return form


def refuse_ensemble(head: Head) -> None:
    """Refuse a head without a covariance, for `influence_of`.

    Args:
        head: the head.

    Raises:
        ConfigError: the head is an ensemble.
    """
    if not head.posterior.closed_form:
        raise ConfigError("score", "influence needs a covariance, and an ensemble has none", "use bald or mean_std")


def influence_of(head: Head, reference: Evidence) -> NDArray[np.float64]:
    """The influence V = Σ ∇L, with ∇L the gradient of the mean loss on some labels, the reference.

    One unit more of weight for an item of gradient g changes that loss by -⟨V, g⟩ (Koh & Liang, ICML 2017; Liu et al.,
    ISAL, ICCV 2021). The reference should not be what the head was fitted to: there ∇L is what the penalty holds back.

    Args:
        head: the head.
        reference: the labels; without any, V is zero.

    Returns:
        V [C, D]

    Raises:
        ConfigError: the head is an ensemble.
    """
    refuse_ensemble(head)
    rows = reference.rows
    residual = head.likelihood.responses(rows @ head.mean.T) - reference.targets
    gradient = (residual * reference.weights[:, None]).T @ rows / (reference.weights.sum() or 1.0)
    return head.posterior.updatable().solve(np.asarray(gradient))
