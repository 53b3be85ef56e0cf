"""Logistic regression with a Laplace posterior."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import StrictBool

from raysal import rng
from raysal.errors import ConfigError, LabelError
from raysal.models.calibration import fit_temperature
from raysal.models.evidence import Evidence
from raysal.models.frame import Frame
from raysal.models.likelihood import SOFTMAX, Curvature, Likelihood, Weighting
from raysal.models.optim.lbfgs import Design
from raysal.models.penalty import Choice, Prior, choose_penalty
from raysal.models.posterior import GAUSSIANS, Posterior
from raysal.models.trainers.base import NOTHING, Context, Fit, Fitter

COARSE = 1e-4
"""Tolerance of fits that only judge held-out items."""
BIAS_PRIOR = 0.1
"""Precision of the prior on the bias at the centre of the frame. The bias is as good as free: one label outweighs this
prior up to a bias of 10. A class without a label has a probability of about 1 / (4 n): on digits 0.27 / n with 20
labels and 0.14 / n with 500. With 0.01 such a class was too improbable: 10 to 20 uniform labels of ten classes cost 0.2
to 0.6 nats more on other items. What margin found of rare classes was the same for 0.01 to 0.3."""
ENOUGH = 200
"""Labels that are enough to judge a penalty: with more, some folds are not fitted. From 1,000 labels on it is one of
five, which takes a third of the time of a choice and chose within 0.01 nats of it on four sets."""
FEWEST = 20
"""Labels that judge the penalty of two answers, at least, where others do not judge."""
GAIN = 1.0
"""Nats by which held-out labels must be more likely with standardised features. It keeps ties, as of labels that say
nothing, from changing the frame from round to round. With 10 to 50 labels of six sets, 3 lost tables a half of what
they gain, and 0 took standardised features on principal axes twice as often."""
GRID = tuple(10 ** (2 * step / 3) for step in range(2, -8, -1))
"""Penalties that `cv` tries."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a linear head is fitted to: labels in their frame, ready for fits, and the prior of every weight."""

    frame: Frame
    evidence: Evidence
    """in the frame"""
    design: Design
    prior: float
    start: NDArray[np.float64] | None = None
    """weights [C, D] near the solution, where some are known"""


@dataclass(frozen=True, kw_only=True)
class Logistic(Fitter):
    """Multinomial logistic regression by L-BFGS in float64, and a Gaussian posterior around it.

    With the weights m_i of the labels, and features z = (h - centre) / size of the `Frame`, in which labelled items
    have the mean 0 and the total variance 1:

        minimise  Σ m_i CE(W z_i + b, y_i) + l2/2 ‖W‖² + 0.1/2 ‖b‖²

    So 1 / `l2` is the variance that an output has over the items under the prior. The bias is all but free; a class
    without a label has a finite, low one. A constant vector that is added to all features, or a number that multiplies
    them, changes no probability beyond rounding.

    With `l2` cv, the default, the penalty is the one under which held-out labels are most likely, times a prior on the
    penalty itself (`raysal.models.penalty`). On other items its log loss is close to that of the best single penalty in
    hindsight (RESULTS.md, "The default head").

    With `standardise` cv, the default, each feature has a size of its own where held-out labels are more likely so, by
    `GAIN`. That is tried where features are not alike (`Frame.alike`): in tables of unlike units, and not with vectors
    of most encoders. A rotation of standardised features is another problem; one of others is the same.

    The posterior has the `structure` shared, (l2 · I + Σ m_i c_i z̃_i z̃_iᵀ)⁻¹ for every class, with z̃ = [z, κ] and
    κ² = l2 / 0.1. The `curvature` c_i is 1 with gaussian, an upper bound of the curvature of every class that does not
    depend on W; with categorical it is p_max (1 - p_max) (Huseljic et al., arXiv 2210.06112). The structures kronecker,
    diagonal and full keep more or less of the exact matrix (`raysal.models.posterior`).

    Cost: O(n d min(n, d)) once, O(n C min(n, d)) for each iteration, O(n d² + d³) for the covariance (of few labels of
    wide features O(n² d + n³): `raysal.models.posterior.span`), and for cv about 80 iterations of O(n C folds min(n, d,
    256)). Where features are not alike, both frames are rotated and judged. The result is a function of the arguments;
    on another kind of machine its last bits may differ.

    Raises:
        ConfigError: a field is out of range, or (by `fit`) `l2` is too weak for the precision to be inverted.
    """

    likelihood: ClassVar[Likelihood] = SOFTMAX
    l2: float | Literal["cv"] = "cv"
    """Penalty, in the unit of the frame; `cv` chooses it by held-out labels."""
    grid: tuple[float, ...] = GRID
    """Penalties that `cv` tries; beside a number for `l2` it does nothing."""
    standardise: StrictBool | Literal["cv"] = "cv"
    """Whether each feature has a size of its own; `cv` lets held-out labels say."""
    folds: int = 5
    structure: Literal["diagonal", "full", "kronecker", "shared"] = "shared"
    curvature: Weighting = "gaussian"
    max_iter: int = 500
    tol: float = 1e-6
    """Largest coordinate of the scaled mean gradient at which to stop; probabilities are then right to about 1e-4."""
    temperature: float | Literal["cv"] = 1.0
    """What outputs are divided by before they become probabilities. `cv` takes the one under which held-out labels are
    most likely, and costs as many fits as there are `folds`."""

    def __post_init__(self) -> None:
        numbers: list[tuple[str, object]] = [("tol", self.tol), *(("grid", value) for value in self.grid)]
        numbers += [(name, value) for name in ("l2", "temperature") if (value := getattr(self, name)) != "cv"]
        for name, value in numbers:
            if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
                use = "" if name in ("tol", "grid") else "use cv or a number"
                raise ConfigError(f"update.trainer.{name}", f"{value!r} is not a finite number above 0", use)
        if not self.grid:
            raise ConfigError("update.trainer.grid", "is empty", "give at least one penalty")
        if self.standardise != "cv" and not isinstance(self.standardise, bool):
            raise ConfigError("update.trainer.standardise", f"unknown {self.standardise!r}", "use cv, true or false")
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
        """See `Fitter.learn`. `seed` assigns the folds of `cv`; the rounds of the context say which labels judge."""
        del classes
        problem = self.problem(evidence, seed, context)
        mean = self.solution(problem)
        return self.fit_around(problem, mean, self.choose_temperature(problem, lambda: self.held_out(problem, seed)))

    def problem(self, evidence: Evidence, seed: int, context: Context = NOTHING) -> Problem:
        """The problem that labels pose.

        Args:
            evidence: the labels, of vectors as they are.
            seed: assigns the folds of `cv`.
            context: of it, the rounds.

        Returns:
            The problem, its penalty chosen.

        Raises:
            LabelError: there is not one round for each label.
        """
        asked = None if context.rounds is None else np.asarray(context.rounds)
        if asked is not None and asked.shape != (len(evidence),):
            raise LabelError("rounds", f"shape {asked.shape} for {len(evidence)} labels", "give one round per label")
        frames, best = self.frames(evidence), None
        for frame in frames:
            inside = frame.evidence(evidence)
            design = Design(inside)
            if len(frames) == 1 and not isinstance(self.l2, str):
                choice = Choice(self.l2, None, 0.0)
            else:
                choice = self.choose_l2(design, inside, seed, asked, compare=len(frames) > 1)
            if best is None or choice.cost < best[0].cost - GAIN:
                best = choice, frame, inside, design
        assert best is not None
        choice, frame, inside, design = best
        frame = frame.with_constant(math.sqrt(choice.penalty / BIAS_PRIOR))
        if choice.start is not None:
            choice.start[:, -1] /= frame.constant
        return Problem(
            frame=frame,
            evidence=replace(inside, constant=frame.constant),
            design=design,
            prior=choice.penalty,
            start=choice.start,
        )

    def frames(self, evidence: Evidence) -> list[Frame]:
        """The frames, with the constant 1, among which held-out labels choose."""
        frame = Frame.isotropic(evidence)
        if self.standardise is True:
            return [frame.standardised(evidence)]
        if self.standardise == "cv" and not frame.alike(evidence):
            return [frame, frame.standardised(evidence)]
        return [frame]

    def solution(
        self,
        problem: Problem,
        *,
        tol: float | None = None,
        weights: NDArray[np.float64] | None = None,
        start: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """The weights [C, D] of least penalised loss, in the frame.

        Args:
            problem: the problem.
            tol: where to stop; the field unless given.
            weights: [n] of the labels, some perhaps 0; their own unless given.
            start: weights to begin at; those of the problem unless given.

        Returns:
            The weights.
        """
        return problem.design.solve(
            problem.prior,
            problem.frame.constant,
            max_iter=self.max_iter,
            tol=self.tol if tol is None else tol,
            likelihood=self.likelihood,
            weights=weights,
            start=problem.start if start is None else start,
        )

    def fit_around(self, problem: Problem, mean: NDArray[np.float64], temperature: float) -> Fit:
        """What a head is made of, with the posterior around a mean.

        Args:
            problem: the problem.
            mean: [C, D] in the frame.
            temperature: of the head.

        Returns:
            The mean, outside of the frame, and the posterior.
        """
        posterior = laplace_posterior(
            self.likelihood, problem.evidence, mean, problem.prior, self.structure, self.curvature, problem.frame
        )
        return Fit(mean=problem.frame.outside(mean), posterior=posterior, prior=problem.prior, temperature=temperature)

    def choose_l2(
        self,
        design: Design,
        evidence: Evidence,
        seed: int,
        asked: NDArray[np.int64] | None = None,
        *,
        compare: bool = False,
    ) -> Choice:
        """The penalty by cross-validation (`choose_penalty`), or `l2`, with its cost.

        Where there are two answers, labels that a strategy asked for train and do not judge: they lie near the
        boundary, and held-out loss over them would have every penalty weak. What nobody asked for judges, and the first
        round.

        Args:
            design: the labels.
            evidence: the labels, in their frame with the constant 1.
            seed: assigns the folds.
            asked: [n] the round that asked for each label, -1 for none; None where nothing is known of it.
            compare: whether the cost will be compared with that in another frame.

        Returns:
            The choice. While the labels that judge are fewer than `FEWEST` of two answers, or all of one class, they
            say next to nothing of the penalty, and it is the one of `grid` that is nearest to the usual one. Then all
            labels judge the frame.
        """
        penalties = self.grid if isinstance(self.l2, str) else (self.l2,)
        named = self.likelihood.groups(evidence.targets)
        two_answers = not (self.likelihood.exclusive and evidence.targets.shape[1] > 2)
        judges = np.ones(len(named), bool)
        if two_answers and asked is not None and (asked >= 0).any():
            judges = asked <= asked[asked >= 0].min()
        prior = Prior.of(self.likelihood, design.targets[judges], design.weights[judges])
        few = two_answers and int(judges.sum()) < min(FEWEST, len(named))
        if few or (named[judges] == named[judges][0]).all():
            penalties = (min(penalties, key=lambda l2: prior.cost(math.log10(l2))),)
            if not compare or (named == named[0]).all():
                return Choice(penalties[0], None, 0.0)
            judges = np.ones(len(named), bool)
        fold_of = np.full(len(named), -1)
        own = assign_folds(named[judges], self.folds, seed)
        folds = int(own.max()) + 1
        used = min(math.ceil(ENOUGH * folds / len(own)), folds)
        fold_of[judges] = np.where(own < used, own, -1)
        return choose_penalty(design, fold_of, penalties, BIAS_PRIOR, self.likelihood, prior, share=used / folds)

    def choose_temperature(self, problem: Problem, held_out: Callable[[], NDArray[np.float64]]) -> float:
        """The temperature, as given or by cross-validation.

        Args:
            problem: the labels.
            held_out: makes outputs [n, C] of heads that were fitted without the fold of each item.

        Returns:
            The field; with `cv`, the temperature under which the labels are most likely. It is 1 while there are fewer
            labels than twice the folds, or all are alike, as they say nothing of it then.
        """
        if not isinstance(self.temperature, str):
            return self.temperature
        evidence = problem.evidence
        named = self.likelihood.groups(evidence.targets)
        if len(evidence) < 2 * self.folds or (named == named[0]).all():
            return 1.0
        return fit_temperature(held_out(), evidence.targets, evidence.weights, self.likelihood)

    def held_out(self, problem: Problem, seed: int) -> NDArray[np.float64]:
        """Outputs [n, C] for every item, each by a fit to the labels outside its fold, with the penalty of all."""
        outputs = np.zeros_like(problem.evidence.targets)
        for held in self.folds_of(problem.evidence, seed):
            weights = np.where(held, 0.0, problem.evidence.weights)
            # From zero: the weights of all labels would know those that are held out.
            found = self.solution(replace(problem, start=None), tol=max(self.tol, COARSE), weights=weights)
            outputs[held] = problem.evidence.rows[held] @ found.T
        return outputs

    def folds_of(self, evidence: Evidence, seed: int) -> Iterator[NDArray[np.bool_]]:
        """Which items [n] are held out, for each fold."""
        fold_of = assign_folds(self.likelihood.groups(evidence.targets), self.folds, seed)
        for fold in range(int(fold_of.max()) + 1):
            yield fold_of == fold


def laplace_posterior(
    likelihood: Likelihood,
    evidence: Evidence,
    mean: NDArray[np.float64],
    prior: float,
    structure: str,
    weighting: Weighting,
    frame: Frame,
) -> Posterior:
    """The Laplace approximation around a mean.

    Args:
        likelihood: what the labels are.
        evidence: the labels, in the frame.
        mean: [C, d + 1] in the frame.
        prior: precision of every weight before any label.
        structure: name of the structure.
        weighting: what a label counts for, where all outputs share one covariance.
        frame: the frame.

    Returns:
        The posterior.
    """
    rows, classes = evidence.rows, len(mean)
    curvature = Curvature(likelihood, likelihood.responses(rows @ mean.T), evidence.weights)
    return GAUSSIANS[structure].fit(rows, curvature, prior, classes, weighting, frame)


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
