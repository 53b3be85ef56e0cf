"""How common classes are where a head predicts, and the biases that suit it: EM under label shift."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.models.likelihood import softmax

Floats = NDArray[np.float64]
STEPS = 1000
"""Steps of EM at most. Its likelihood has one maximum, which these come near to wherever labels say something."""
CLOSE = 1e-9
"""Change of every prevalence at which EM stops."""


class Prevalence(NamedTuple):
    """What EM found."""

    shares: Floats
    """[C] of the classes among all items; they add up to 1"""
    shift: Floats
    """[C] to be added to outputs; 0 for a class without evidence"""


def estimate_prevalence(outputs: Floats, items: float, known: Floats, trained: Floats) -> Prevalence:
    """The shares of classes in a pool, by EM over what a head says of a sample (Saerens, Latinne & Decaestecker, 2002).

    "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural Computation 14. It takes p(x | class)
    to be the same among labels and in the pool. Then the odds of a class change by its share in the pool over that
    among the labels, and shares are the mean of what the changed head says. Labelled items count as what they are:
    without them, a head that is unsure of what it looks for ends with a share of 0.

    Labels that a strategy picked break that assumption, as they are chosen by x. docs/models.md says what that costs.

    Args:
        outputs: [s, C] of a uniform sample of the unlabelled items, over the temperature.
        items: how many unlabelled items there are.
        known: [C] labelled items by class.
        trained: [C] weights of classes in the evidence of the fit.

    Returns:
        Shares and shifts. O(s C) a step.
    """
    some = trained > 0
    shares = np.where(some, trained, 0.0) / trained.sum()
    if not len(outputs) or some.sum() < 2:
        return Prevalence(shares, np.zeros(len(trained)))
    start, everything = shares[some], items + known[some].sum()
    raised = outputs[:, some] - outputs[:, some].max(1, keepdims=True)
    own = start
    for _ in range(STEPS):
        p = softmax(raised + np.log(np.maximum(own, 1e-300)) - np.log(start))
        new = (known[some] + p.mean(0) * items) / everything
        close, own = np.abs(new - own).max() < CLOSE, new
        if close:
            break
    shares[some] = own
    shift = np.zeros(len(trained))
    change = np.log(np.maximum(own, 1e-300)) - np.log(start)
    shift[some] = change - change.mean()
    return Prevalence(shares, shift)
