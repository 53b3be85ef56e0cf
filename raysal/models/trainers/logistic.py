"""Logistic regression with a Laplace posterior."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from raysal import rng
from raysal.errors import ConfigError
from raysal.models.calibration import fit_temperature
from raysal.models.evidence import Evidence, mean_square
from raysal.models.likelihood import SOFTMAX, Curvature, Likelihood, Weighting
from raysal.models.optim.lbfgs import Design
from raysal.models.posterior import GAUSSIANS, Posterior
from raysal.models.trainers.base import Context, Fit, Fitter

COARSE = 1e-4
"""Tolerance that is enough to rank penalties by held-out loss."""


@dataclass(frozen=True, kw_only=True)
class Logistic(Fitter):
    """Multinomial logistic regression by L-BFGS in float64, and a Gaussian posterior around it.

    With weights m_i, M = Σ m_i, and s = Σ m_i ‖h_i‖² / (M d), the mean square of one feature (1 if all are 0):

        minimise  Σ m_i CE(W h_i + b, y_i) + prior/2 ‖W‖² + prior/(2 s) ‖b‖²,    prior = l2 · M · s

    `l2` therefore means the same for any number of labels, any length of the vectors and any unit of the features: a
    constant that multiplies all features changes no probability. The bias is penalised as the weight of a constant
    feature of typical size √s. That is light, and enough that a class without a label has a finite, low bias. Features
    are not centred: the solver does not need it, and the posterior is over the features as they are.

    The posterior has the `structure` shared, (prior · I + Σ m_i c_i h̃_i h̃_iᵀ)⁻¹ for every class, with h̃ = [h, 1].
    The `curvature` c_i is 1 with gaussian, an upper bound of the curvature of every class that does not depend on W;
    with categorical it is p_max (1 - p_max) (Huseljic et al., arXiv 2210.06112). The structures kronecker, diagonal and
    full keep more or less of the exact matrix (`raysal.models.posterior`). The prior on the bias is that of the
    weights.

    Cost: O(n d min(n, d)) once, O(n C min(n, d)) for each iteration, O(n d² + d³) for the covariance. 800 x 1280 with
    10 classes took 0.5 s on one core, a third of it for the covariance. The result is a function of the arguments; on
    another kind of machine its last bits may differ.

    Raises:
        ConfigError: a field is out of range, or (by `fit`) `l2` is too weak for the precision to be inverted.
    """

    likelihood: ClassVar[Likelihood] = SOFTMAX
    l2: float | Literal["cv"] = 1e-2
    """Penalty, free of scale; `cv` takes the one of `grid` with the lowest held-out loss."""
    grid: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    folds: int = 5
    structure: Literal["diagonal", "full", "kronecker", "shared"] = "shared"
    curvature: Weighting = "gaussian"
    max_iter: int = 500
    tol: float = 1e-6
    """Largest coordinate of the scaled mean gradient at which to stop; probabilities are then right to about 1e-5."""
    temperature: float | Literal["cv"] = 1.0
    """What outputs are divided by before they become probabilities. `cv` takes the one under which held-out labels are
    most likely, and costs as many fits as there are `folds`."""

    def __post_init__(self) -> None:
        numbers: list[tuple[str, object]] = [("tol", self.tol), *(("grid", value) for value in self.grid)]
        numbers += [(name, value) for name in ("l2", "temperature") if (value := getattr(self, name)) != "cv"]
        for name, value in numbers:
            if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
                raise ConfigError(f"update.trainer.{name}", f"{value!r} is not a finite number above 0")
        if not self.grid:
            raise ConfigError("update.trainer.grid", "is empty", "give at least one penalty")
        if self.folds < 2:
            raise ConfigError("update.trainer.folds", f"{self.folds} is below 2")
        if self.max_iter < 1:
            raise ConfigError("update.trainer.max_iter", f"{self.max_iter} is below 1")
        if self.structure not in GAUSSIANS:
            problem = f"unknown {self.structure!r}"
            raise ConfigError("update.trainer.structure", problem, "use shared, kronecker, diagonal or full")
        if self.curvature not in ("gaussian", "categorical"):
            raise ConfigError("update.trainer.curvature", f"unknown {self.curvature!r}", "use gaussian or categorical")

    def learn(self, evidence: Evidence, classes: Sequence[str], seed: int, context: Context) -> Fit:
        """See `Fitter.learn`. `seed` assigns the folds of `cv`."""
        del classes, context
        square = mean_square(evidence)
        constant = math.sqrt(square)
        l2 = self.choose_l2(evidence, seed) if isinstance(self.l2, str) else self.l2
        design = Design(_with_constant(evidence, constant), evidence.weights)
        solution = self._solve(design, evidence, l2 * square, self.tol)
        weight, bias = solution[:, :-1], solution[:, -1] * constant
        mean = np.column_stack([weight, bias])
        mass = float(evidence.weights.sum()) * square
        prior = l2 * mass
        return Fit(
            mean=mean,
            posterior=self.posterior(evidence, mean, prior),
            prior=prior,
            mass=mass,
            temperature=self.choose_temperature(evidence, lambda: self.held_out(evidence, l2, seed)),
        )

    def posterior(self, evidence: Evidence, mean: NDArray[np.float64], prior: float) -> Posterior:
        """The posterior around a mean [C, d + 1]."""
        return laplace_posterior(self.likelihood, evidence, mean, prior, self.structure, self.curvature)

    def choose_l2(self, evidence: Evidence, seed: int) -> float:
        """The penalty of `grid` with the lowest held-out loss over the folds.

        Args:
            evidence: the labels.
            seed: assigns the folds.

        Returns:
            The penalty; ties go to the stronger one. While all labels are of one class every penalty does equally well,
            and it is the middle one.
        """
        grid = sorted(set(self.grid), reverse=True)
        named = self.likelihood.groups(evidence.targets)
        if (named == named[0]).all():
            return grid[len(grid) // 2]
        losses = np.zeros(len(grid))
        square = mean_square(evidence)
        for held, train, rows, design in self._folds(evidence, seed):
            for place, l2 in enumerate(grid):
                solution = self._solve(design, train, l2 * square, max(self.tol, COARSE))
                outputs = rows @ solution.T
                losses[place] += self.likelihood.total_loss(outputs, evidence.targets[held], evidence.weights[held])
        return grid[int(losses.argmin())]

    def choose_temperature(self, evidence: Evidence, held_out: Callable[[], NDArray[np.float64]]) -> float:
        """The temperature, as given or by cross-validation.

        Args:
            evidence: the labels.
            held_out: makes outputs [n, C] of heads that were fitted without the fold of each item.

        Returns:
            The field; with `cv`, the temperature under which the labels are most likely. It is 1 while there are fewer
            labels than twice the folds, or all are alike, as they say nothing of it then.
        """
        if not isinstance(self.temperature, str):
            return self.temperature
        named = self.likelihood.groups(evidence.targets)
        if len(evidence) < 2 * self.folds or (named == named[0]).all():
            return 1.0
        return fit_temperature(held_out(), evidence.targets, evidence.weights, self.likelihood)

    def held_out(self, evidence: Evidence, l2: float, seed: int) -> NDArray[np.float64]:
        """Outputs [n, C] for every item, each by a fit to the labels outside its fold."""
        outputs, square = np.zeros_like(evidence.targets), mean_square(evidence)
        for held, train, rows, design in self._folds(evidence, seed):
            outputs[held] = rows @ self._solve(design, train, l2 * square, max(self.tol, COARSE)).T
        return outputs

    def _folds(
        self, evidence: Evidence, seed: int
    ) -> Iterator[tuple[NDArray[np.bool_], Evidence, NDArray[np.float64], Design]]:
        """For each fold: which items [n] are held out, the others, the held-out rows, the others ready for a fit."""
        fold_of = assign_folds(self.likelihood.groups(evidence.targets), self.folds, seed)
        rows = _with_constant(evidence, math.sqrt(mean_square(evidence)))
        for fold in range(int(fold_of.max()) + 1):
            held = fold_of == fold
            train = evidence.take(~held)
            yield held, train, rows[held], Design(rows[~held], train.weights)

    def _solve(self, design: Design, evidence: Evidence, penalty: float, tol: float) -> NDArray[np.float64]:
        return design.solve(evidence.targets, penalty, max_iter=self.max_iter, tol=tol, likelihood=self.likelihood)


def laplace_posterior(
    likelihood: Likelihood,
    evidence: Evidence,
    mean: NDArray[np.float64],
    prior: float,
    structure: str,
    weighting: Weighting,
) -> Posterior:
    """The Laplace approximation around a mean.

    Args:
        likelihood: what the labels are.
        evidence: the labels.
        mean: [C, d + 1]
        prior: precision of every weight before any label.
        structure: name of the structure.
        weighting: what a label counts for, where all outputs share one covariance.

    Returns:
        The posterior.
    """
    rows, classes = evidence.rows, len(mean)
    curvature = Curvature(likelihood, likelihood.responses(rows @ mean.T), evidence.weights)
    return GAUSSIANS[structure].fit(rows, curvature, prior, classes, weighting)


def assign_folds(groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """A fold for each item; the sizes of folds differ by at most one, also within each group.

    The items of a group, in the order of a hash of (seed, row), go to the folds in turn. Each group begins where the
    group before it ended. A group with fewer items than folds is absent from some.

    Args:
        groups: [n] of the items (`Likelihood.groups`).
        folds: how many there are.
        seed: of the hash.

    Returns:
        [n] in 0 .. min(folds, n) - 1.
    """
    shuffle = rng.item_uniform(rng.derive(seed, "update", "folds"), np.arange(len(groups), dtype=np.int64))
    order = np.lexsort((shuffle, groups))
    fold_of = np.empty(len(groups), dtype=np.int64)
    fold_of[order] = np.arange(len(groups)) % min(folds, len(groups))
    return fold_of


def _with_constant(evidence: Evidence, constant: float) -> NDArray[np.float64]:
    """Features [n, d] with a constant feature as the last column."""
    return np.hstack([evidence.features, np.full((len(evidence.features), 1), constant)])
