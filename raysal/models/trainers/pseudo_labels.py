"""Logistic regression that also learns from items without a label, where it is sure of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError, LabelError
from raysal.models.evidence import Evidence, gather_evidence, with_constant
from raysal.models.likelihood import IDENTITY, SOFTMAX, softmax
from raysal.models.optim.converge import minimise, preconditioner
from raysal.models.optim.quasi_newton import Matrix, Objective
from raysal.models.trainers.base import Context, Fit
from raysal.models.trainers.logistic import COARSE, Logistic, Problem
from raysal.numerics import one_thread_if_small

LABEL_CURVATURE, PSEUDO_LABEL_CURVATURE = 0.25, 0.1
"""Curvature p (1 - p) that the preconditioner assumes: the most of a label, and a typical one of a pseudo-label."""


@dataclass(frozen=True, kw_only=True)
class PseudoLabels(Logistic):
    """Logistic regression on the labels, and on a sample of unlabelled items as the model itself would label them.

    It is FixMatch (Sohn et al., NeurIPS 2020) on vectors, with the thresholds of FlexMatch (Zhang et al., NeurIPS
    2021). It starts at the logistic solution and does this `rounds` times: an unlabelled item whose most probable class
    c has p > T_c gets the label c; then the weights are fitted to labels and pseudo-labels, starting at the last
    weights. Let N_c be the items with p > `cutoff` for c, and N the other items. Then x_c = N_c / max(N_1, ..., N_C, N)
    and T_c = cutoff · x_c / (2 - x_c), but at least `floor`. Classes that are learnt later have a lower threshold, and
    all thresholds are low while little is learnt. An image model would see each item in two distortions. Vectors have
    none; what a pseudo-label teaches is its certainty.

    With M the total weight of the labels and m the size of the sample, a pseudo-label has the weight weight · M / m. If
    all items had one, they would together count `weight` times as much as the labels. No class gets more than 1/C of
    that: with more items, their weights are scaled down alike.

    Pseudo-labels belong to one fit. They never enter the ledger, the next fit makes its own, and none outlives the head
    that was wrong about it. They are not evidence: what the head believes of items that it is sure of adds nothing to
    the labels. Counting it would shrink the covariance most where the head only agrees with itself. The posterior,
    `prior`, `labels_seen` and `fitted_on` are therefore those of the labels alone, around the mean found, and `update`
    goes on from there by labels alone.

    Pseudo-labels can also mislead. With `guard`, the loss of the labels of each of the `folds` under a fit to the other
    folds is summed, with and without pseudo-labels. The head is the logistic one unless the loss is lower with them. It
    is also the logistic one where there are no unlabelled items, fewer than 2 labels, or labels of one class only. The
    same fits with pseudo-labels give the `temperature` of `cv`.

    Cost: that of `Logistic`; O(m d² + d³) once; O((n + m) C d) for each quasi-Newton step, some tens in every round.
    With the guard, or a temperature of `cv`, `folds` more such fits at a coarse tolerance.

    Raises:
        ConfigError: as `Logistic`.
        LabelError: (by `fit`) unlabelled vectors are of another length, or hold a number that cannot be used.
    """

    cutoff: float = 0.95
    """Probability above which an item of a well-learnt class gets a pseudo-label."""
    floor: float = 0.5
    """Least threshold of any class."""
    weight: float = 1.0
    """Of all pseudo-labels together over that of the labels, when every item of the sample has one."""
    sample: int = 2000
    """Unlabelled items that it wants to see."""
    rounds: int = 4
    """How often pseudo-labels are made and the weights fitted to them."""
    guard: bool = True
    """Whether cross-validation decides if the pseudo-labels help."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least, most in (("cutoff", 0.0, 1.0), ("floor", 0.0, 1.0), ("weight", 0.0, 1e6)):
            value = getattr(self, name)
            if not least < value <= most:
                raise ConfigError(f"update.trainer.{name}", f"{value!r} is not in ({least:g}, {most:g}]")
        for name, fewest in (("sample", 0), ("rounds", 1)):
            if getattr(self, name) < fewest:
                raise ConfigError(f"update.trainer.{name}", f"{getattr(self, name)} is below {fewest}")

    def learn(self, evidence: Evidence, classes: Sequence[str], seed: int, context: Context) -> Fit:
        """See `Fitter.learn`. It reads `context.unlabelled`; `seed` also assigns the folds of the guard."""
        del classes
        problem = self.problem(evidence, seed, context)
        mean, named = self.solution(problem), evidence.targets.argmax(axis=1)
        if context.unlabelled is None or not len(context.unlabelled) or (named == named[0]).all():
            return self.fit_around(
                problem, mean, self.choose_temperature(problem, lambda: self.held_out(problem, seed))
            )
        sample = problem.frame.features(check_sample(context.unlabelled, evidence.features.shape[1]))
        training = SelfTraining(self, problem, sample)
        held_out = functools.cache(lambda: training.held_out(seed))
        helps = not self.guard or training.helps(*held_out())
        if helps:
            mean = training.refitted(mean, problem.evidence, self.tol)
        return self.fit_around(problem, mean, self.choose_temperature(problem, lambda: held_out()[1 if helps else 0]))


class SelfTraining:
    """Fits to labels and to pseudo-labels of a sample [m, d], all in the frame of the labels."""

    def __init__(self, trainer: PseudoLabels, problem: Problem, sample: Matrix) -> None:
        self.trainer, self.problem, self.evidence = trainer, problem, problem.evidence
        self.mass = float(self.evidence.weights.sum())
        self.sample = with_constant(sample, self.evidence.constant)
        share = PSEUDO_LABEL_CURVATURE * trainer.weight * self.mass / len(sample)
        counts = np.append(LABEL_CURVATURE * self.evidence.weights, np.full(len(sample), share))
        self._condition = preconditioner(np.vstack([self.evidence.rows, self.sample]), counts, problem.prior)

    def refitted(self, mean: Matrix, evidence: Evidence, tol: float) -> Matrix:
        """The weights that labels and pseudo-labels lead to.

        Args:
            mean: weights [C, D] of the labels alone, to start at.
            evidence: the labels.
            tol: tolerance of each fit.

        Returns:
            Weights [C, D].
        """
        mass = float(evidence.weights.sum())
        before: Matrix | None = None
        for _ in range(self.trainer.rounds):
            pseudo = self.pseudo_labels(mean, mass)
            if before is not None and np.array_equal(pseudo, before):
                break
            before, which = pseudo, pseudo.any(axis=1)
            weights = pseudo[which].sum(axis=1)
            both = replace(
                evidence,
                features=np.vstack([evidence.features, self.sample[which, :-1]]),
                targets=np.vstack([evidence.targets, pseudo[which] / weights[:, None]]),
                weights=np.append(evidence.weights, weights),
            )
            objective = Objective(SOFTMAX, both, self.problem.prior)
            mean = minimise(objective, mean, self._condition, max_iter=self.trainer.max_iter, tol=tol)
        return mean

    def pseudo_labels(self, mean: Matrix, mass: float) -> Matrix:
        """The pseudo-labels that weights make.

        Args:
            mean: weights [C, D].
            mass: total weight of the labels.

        Returns:
            [m, C], with the weight of a pseudo-label in the column of its class; a row of 0 for an item without one.
        """
        p = softmax(self.sample @ mean.T)
        top, chosen = p.max(axis=1), p.argmax(axis=1)
        taken = top > thresholds(p, self.trainer.cutoff, self.trainer.floor)[chosen]
        found = np.zeros_like(p)
        found[np.flatnonzero(taken), chosen[taken]] = 1.0
        return np.asarray(self.trainer.weight * mass * found / np.maximum(len(p), len(p.T) * found.sum(axis=0)))

    def held_out(self, seed: int) -> tuple[Matrix, Matrix]:
        """The outputs of fits to the labels outside the fold of each item.

        Args:
            seed: assigns the folds.

        Returns:
            Outputs [n, C] without pseudo-labels, and with them.
        """
        plain, refitted = np.zeros_like(self.evidence.targets), np.zeros_like(self.evidence.targets)
        for held in self.trainer.folds_of(self.evidence, seed):
            rest = self.evidence.take(~held)
            # From zero: the weights of all labels would know those that are held out.
            mean = self._fit_to_labels(np.where(held, 0.0, self.evidence.weights))
            plain[held] = self.evidence.rows[held] @ mean.T
            refitted[held] = self.evidence.rows[held] @ self.refitted(mean, rest, COARSE).T
        return plain, refitted

    def helps(self, plain: Matrix, refitted: Matrix) -> bool:
        """Whether the loss of the labels is lower under outputs `refitted` with pseudo-labels than under plain ones."""
        targets, weights = self.evidence.targets, self.evidence.weights
        return SOFTMAX.total_loss(refitted, targets, weights) < SOFTMAX.total_loss(plain, targets, weights)

    def _fit_to_labels(self, weights: NDArray[np.float64]) -> Matrix:
        """Weights by labels alone, which count by `weights` [n]."""
        with one_thread_if_small(len(weights), self.evidence.features.shape[1], self.evidence.targets.shape[1]):
            return self.trainer.solution(replace(self.problem, start=None), tol=COARSE, weights=weights)


def thresholds(p: Matrix, cutoff: float, floor: float) -> NDArray[np.float64]:
    """The thresholds of FlexMatch.

    Args:
        p: probabilities [m, C] of the unlabelled items.
        cutoff: threshold of a well-learnt class.
        floor: least threshold.

    Returns:
        The probability [C] above which an item of each class gets a pseudo-label.
    """
    sure = p.max(axis=1) > cutoff
    return learnt_thresholds(
        np.bincount(p.argmax(axis=1)[sure], minlength=p.shape[1]), int((~sure).sum()), cutoff, floor
    )


def learnt_thresholds(learnt: NDArray[np.int64], unsure: int, cutoff: float, floor: float) -> NDArray[np.float64]:
    """The thresholds of FlexMatch for counts of items.

    Args:
        learnt: items that are surely of each class [C].
        unsure: the other items.
        cutoff: threshold of a well-learnt class.
        floor: least threshold.

    Returns:
        The probability [C] above which an item of each class gets a pseudo-label.
    """
    share = learnt / max(int(learnt.max()), unsure, 1)
    bars: NDArray[np.float64] = np.maximum(cutoff * share / (2 - share), floor)
    return bars


def check_sample(unlabelled: NDArray[Any], dim: int) -> Matrix:
    """Check unlabelled vectors.

    Args:
        unlabelled: [m, d]
        dim: length of the labelled vectors.

    Returns:
        The vectors in float64.

    Raises:
        LabelError: they have another length, or hold a number that cannot be used; the error names the row.
    """
    try:
        rows = gather_evidence(unlabelled, ["0"] * len(unlabelled), None, ("0",), IDENTITY).features
    except LabelError as error:
        raise LabelError(f"unlabelled {error.where}", error.problem, error.fix) from None
    if rows.shape[1] != dim:
        raise LabelError("unlabelled", f"vectors of {rows.shape[1]} numbers", f"the labelled have {dim}")
    return rows


def summed_loss(mean: Matrix, evidence: Evidence) -> float:
    """The summed loss of labels under weights [C, D]."""
    return SOFTMAX.total_loss(evidence.rows @ mean.T, evidence.targets, evidence.weights)
