"""A head for items that may have several labels at once, or none: independent logistic regressions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raysal.models.likelihood import SIGMOID, Likelihood
from raysal.models.trainers.logistic import Logistic


@dataclass(frozen=True, kw_only=True)
class MultiLabel(Logistic):
    """A sigmoid for every label by itself, with `Logistic`'s solver, penalty and posteriors around it:

        minimise  Σ_i m_i Σ_c BCE(w_c h_i + b_c, y_ic) + prior/2 |W|² + prior/(2 s) |b|²,    prior = l2 · M · s

    Labels are "a|b", and "-" for an item that has none. What a label does not name is not there: there is no "not
    looked at". `l2` is free of scale as `Logistic`'s is; a label nobody has given yet keeps a finite, low bias.

    The Gauss-Newton matrix has a block for every label, so `structure = "diagonal"` loses only what lies within one,
    and `full` is exact. `shared` has one covariance for all, and the item's weight in it, `curvature`, is 1 (gaussian;
    above every label's own) or p (1 - p) of its least sure label (categorical). `cv` deals the folds evenly over the
    sets of labels there are.

    Cost: as `Logistic`, with C labels for classes.

    Raises:
        ConfigError: as `Logistic`.
    """

    likelihood: ClassVar[Likelihood] = SIGMOID
