"""A head for items with several labels at once, or none: independent logistic regressions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raysal.models.likelihood import SIGMOID, Likelihood
from raysal.models.trainers.logistic import Logistic


@dataclass(frozen=True, kw_only=True)
class MultiLabel(Logistic):
    """A sigmoid for every label by itself, with the solver, the penalty and the posteriors of `Logistic`.

        minimise  Σ_i m_i Σ_c BCE(w_c z_i + b_c, y_ic) + l2/2 ‖W‖² + 0.1/2 ‖b‖²

    Labels are "a|b", and "-" for an item that has none. A label that is not named is absent: there is no "not looked
    at". z and `l2` are those of `Logistic`. A label that no item has yet gets a finite, low bias.

    The Gauss-Newton matrix has a block for every label. `structure = "diagonal"` therefore loses only what lies within
    a block, and `full` is exact. `shared` has one covariance for all labels. The weight of an item in it, `curvature`,
    is 1 with gaussian, above the curvature of every label; with categorical it is p (1 - p) of the least sure label.
    `cv` assigns the folds evenly over the sets of labels there are.

    Cost: as `Logistic`, with C labels for classes.

    Raises:
        ConfigError: as `Logistic`.
    """

    likelihood: ClassVar[Likelihood] = SIGMOID
