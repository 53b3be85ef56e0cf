"""Maximum likelihood that accounts for which labels the model itself asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError, LabelError
from raysal.models.evidence import Evidence
from raysal.models.frame import Frame
from raysal.models.head import Head
from raysal.models.likelihood import SOFTMAX, sigmoid
from raysal.models.optim.converge import minimise, preconditioner
from raysal.models.optim.quasi_newton import Matrix, Objective
from raysal.models.trainers.base import Context, Fit
from raysal.models.trainers.logistic import COARSE, Logistic, Problem
from raysal.models.trainers.pseudo_labels import check_sample, summed_loss
from raysal.numerics import one_thread_if_small

Vector = NDArray[np.float64]
TINY = 1e-300
"""Scores below this count as this in a logarithm."""
CURVATURE = 0.25
"""The largest second derivative of the loss of a label in one output."""
NEVER = np.iinfo(np.int64).max
"""The round that asked for an item that still has no label."""


@dataclass(frozen=True, kw_only=True)
class DependencyAware(Logistic):
    """Logistic regression whose likelihood includes the choice of what to label (DMLE).

    Kalkanli et al., TMLR 2025, arXiv 2503.05969. An item that the model asked for is not a random one: it is more
    likely under weights that give it a high acquisition score U. With the weights m_i and the sums of `Logistic`, and
    b = `beta`,

        minimise  Σ m_i CE_i + b Σ' m_i g_i + penalty,    Σ' over the labels that a round asked for.

    g depends on how the batch was sampled, by `acquisition`: softmax, odds exp(b U), g = -U; power, odds U^b,
    g = -log U; soft_rank, odds rank^-b, g = log rank. U is the `score` of the labelled item under the weights sought:
    entropy in nats, least_confidence or margin. The normaliser over the pool is left out, as in the paper.

    A rank is a step function with gradient 0. Taken literally, as in the code of the authors, soft_rank is plain
    maximum likelihood. Here the rank is 1 + Σ_j sigmoid((U_j - U_i) / `softness`) over the items that were in the pool
    when the item was chosen: labels of its own and of later rounds, and a sample of `others` unlabelled items (none
    where the caller has none). Rules that take the k best are the limit of small `softness`.

    Every g is bounded below, since U is bounded (by log C, or 1). With the penalty there is a minimum, but the
    objective is not convex. Quasi-Newton steps from the logistic solution search it; the objective never rises above
    that of the logistic solution. With a large `beta` the minimum explains the choice and not the labels: where the
    labels have a higher loss than under a head that knows nothing, the head is the logistic one. With 1 it keeps the
    head from being too sure of what it asked for, much as smoothed labels would.

    With `steps`, the minimum is not sought. That many full-batch steps of Adam of length `rate` start at the previous
    head (at the logistic solution where it has other classes): 10 of 1e-4 in the paper. The moments of Adam start at
    zero.

    The posterior holds the curvature of the labels alone, at that mean. The correction is not evidence: its curvature
    may be negative, and `update` could not take it back label by label. Between fits the mean follows the plain
    likelihood. Where no label was asked for by a round, or there is one class, the head is the logistic one.

    A `temperature` of `cv` is that of corrected fits, each without a fold of the labels. It does not go with `steps`,
    which start at a head that has seen all labels.

    Cost: one posterior more, and O(n C d) for each step; soft_rank O(n (n + others)) more; with `cv` as many more fits
    as there are `folds`.

    Raises:
        ConfigError: as `Logistic`; or `steps` and a temperature of `cv`.
    """

    acquisition: Literal["power", "soft_rank", "softmax"] = "softmax"
    score: Literal["entropy", "least_confidence", "margin"] = "entropy"
    beta: float = 1.0
    softness: float = 0.1
    """Width of the step in a rank, in units of the score."""
    others: int = 1000
    """Unlabelled items to rank among, with soft_rank."""
    steps: int = 0
    """Steps of Adam instead of the minimum; 0 for the minimum."""
    rate: float = 1e-4
    """Length of a step of Adam, for features whose mean variance is 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("beta", 0.0), ("softness", TINY), ("rate", TINY), ("others", 0), ("steps", 0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                raise ConfigError(f"update.trainer.{name}", f"{value!r} is not a number of at least {least:g}")
        if self.steps and self.temperature == "cv":
            problem = "cv does not go with steps, which start from a head that has seen every label"
            raise ConfigError("update.trainer.temperature", problem, "give a number, or leave out steps")
        for name, known in (("acquisition", ("softmax", "power", "soft_rank")), ("score", tuple(SCORE_OF))):
            if getattr(self, name) not in known:
                problem = f"unknown {getattr(self, name)!r}"
                raise ConfigError(f"update.trainer.{name}", problem, f"use one of: {', '.join(known)}")

    @property
    def sample(self) -> int:
        """Unlabelled items that it wants to see."""
        return self.others if self.acquisition == "soft_rank" else 0

    def learn(self, evidence: Evidence, classes: Sequence[str], seed: int, context: Context) -> Fit:
        """See `Fitter.learn`. It reads all of `context`; a round below 0 is of a label that nobody asked for.

        Args:
            evidence: the labels.
            classes: names of the outputs.
            seed: assigns the folds of `cv`.
            context: rounds, unlabelled items and the previous head.

        Returns:
            What the head is made of.

        Raises:
            LabelError: there is not one round for each label.
        """
        problem = self.problem(evidence, seed, context)
        mean = self.solution(problem)
        asked = np.full(len(evidence), -1) if context.rounds is None else np.asarray(context.rounds)
        if asked.shape != (len(evidence),):
            raise LabelError("rounds", f"shape {asked.shape} for {len(evidence)} labels", "give one round per label")
        others = self._others(problem, context.unlabelled)

        def outputs() -> Matrix:
            return self.held_out(problem, seed)

        corrects = self.beta > 0 and (asked >= 0).any() and len(classes) > 1
        if self.steps:
            start = _start(mean, problem.frame, classes, context.previous)
            rates = self.rate * _units(problem)
            mean = descend_by_adam(
                self.objective(problem.evidence, asked, problem.prior, others), start, self.steps, rates
            )
        elif corrects:
            corrected = self._corrected(mean, problem, problem.evidence, asked, others, self.tol)
            if corrected is not mean:
                mean = corrected

                def outputs() -> Matrix:
                    return self._held_out_corrected(problem, asked, others, seed)

        return self.fit_around(problem, mean, self.choose_temperature(problem, outputs))

    def _others(self, problem: Problem, unlabelled: NDArray[Any] | None) -> Matrix | None:
        """The items to rank among, as features of the frame; None where ranks are not asked for or there are none."""
        if self.acquisition != "soft_rank" or unlabelled is None or not len(unlabelled):
            return None
        return problem.frame.features(check_sample(unlabelled, problem.evidence.features.shape[1]))

    def _corrected(
        self,
        logistic: Matrix,
        problem: Problem,
        evidence: Evidence,
        asked: NDArray[np.int64],
        others: Matrix | None,
        tol: float,
    ) -> Matrix:
        """The mean of the least corrected loss, or the logistic mean where the correction drowns the labels."""
        objective = self.objective(evidence, asked, problem.prior, others)
        condition = preconditioner(evidence.rows, CURVATURE * evidence.weights, problem.prior)
        mean = minimise(objective, logistic, condition, max_iter=self.max_iter, tol=tol)
        return logistic if summed_loss(mean, evidence) > summed_loss(np.zeros_like(mean), evidence) else mean

    def _held_out_corrected(
        self, problem: Problem, asked: NDArray[np.int64], others: Matrix | None, seed: int
    ) -> Matrix:
        """As `held_out`, of corrected fits."""
        outputs, tol = np.zeros_like(problem.evidence.targets), max(self.tol, COARSE)
        for held in self.folds_of(problem.evidence, seed):
            rest = problem.evidence.take(~held)
            with one_thread_if_small(len(rest), rest.features.shape[1], rest.targets.shape[1]):
                mean = self.solution(
                    replace(problem, start=None), tol=tol, weights=np.where(held, 0.0, problem.evidence.weights)
                )
            mean = self._corrected(mean, problem, rest, asked[~held], others, tol)
            outputs[held] = problem.evidence.rows[held] @ mean.T
        return outputs

    def objective(
        self, evidence: Evidence, asked: NDArray[np.int64], prior: float, others: Matrix | None = None
    ) -> CorrectedLoss:
        """What is minimised.

        Args:
            evidence: the labels, in their frame.
            asked: [n] the round that asked for each label, below 0 for none.
            prior: of the head.
            others: [m, d] items without a label, in the frame.

        Returns:
            The objective, a function of weights [C, D].
        """
        if others is not None and self.acquisition == "soft_rank":
            evidence, asked = _with_unlabelled(evidence, asked, others)
        return CorrectedLoss(SOFTMAX, evidence, prior, asked=asked, trainer=self)


@dataclass(frozen=True)
class CorrectedLoss(Objective):
    """The penalised loss, corrected for how the labels were chosen. Items without a label have weight 0 in the loss."""

    asked: NDArray[np.int64]
    """[n] the round that asked for each item; -1 for none, `NEVER` for an item without a label"""
    trainer: DependencyAware

    def value(self, weights: Matrix, outputs: Matrix) -> float:
        """See `Objective.value`."""
        scores, _ = SCORE_OF[self.trainer.score](outputs)
        return super().value(weights, outputs) + self.trainer.beta * self._correction(scores)[0]

    def gradient(self, weights: Matrix, outputs: Matrix, rows: Matrix) -> Matrix:
        """See `Objective.gradient`."""
        scores, slopes = SCORE_OF[self.trainer.score](outputs)
        pull = self.trainer.beta * self._correction(scores)[1][:, None] * slopes
        return np.asarray(super().gradient(weights, outputs, rows) + pull.T @ rows)

    def _correction(self, scores: Vector) -> tuple[float, Vector]:
        """The sum Σ' m_i g_i, and its slope in every score [n]."""
        chosen = (self.asked >= 0) & (self.asked < NEVER)
        weights = np.where(chosen, self.evidence.weights, 0.0)
        if self.trainer.acquisition == "softmax":
            return -float(weights @ scores), -weights
        if self.trainer.acquisition == "power":
            held = np.maximum(scores, TINY)
            return -float(weights @ np.log(held)), np.where(scores > TINY, -weights / held, 0.0)
        width, which = self.trainer.softness, np.flatnonzero(chosen)
        rivals = self.asked >= self.asked[which, None]
        rivals[np.arange(len(which)), which] = False
        above = np.where(rivals, sigmoid((scores - scores[which, None]) / width), 0.0)
        rank = 1.0 + above.sum(axis=1)
        steep = above * (1.0 - above) * (weights[which] / (width * rank))[:, None]
        slope = steep.sum(axis=0)
        slope[which] -= steep.sum(axis=1)
        return float(weights[which] @ np.log(rank)), slope


def _entropy(outputs: Matrix) -> tuple[Vector, Matrix]:
    p, log_p, _ = _distribution(outputs)
    entropy = -(p * log_p).sum(axis=1)
    return entropy, -p * (log_p + entropy[:, None])


def _least_confidence(outputs: Matrix) -> tuple[Vector, Matrix]:
    p, _, doubt = _distribution(outputs)
    top = np.arange(len(p)), outputs.argmax(axis=1)
    slope = p * p[top][:, None]
    slope[top] = -p[top] * doubt
    return doubt, slope


def _margin(outputs: Matrix) -> tuple[Vector, Matrix]:
    p, _, doubt = _distribution(outputs)
    _, slope = _least_confidence(outputs)
    rest = outputs.copy()
    rest[np.arange(len(p)), outputs.argmax(axis=1)] = -np.inf
    second = np.arange(len(p)), rest.argmax(axis=1)
    slope -= p * p[second][:, None]
    slope[second] += p[second]
    return doubt + p[second], slope


def _distribution(outputs: Matrix) -> tuple[Matrix, Matrix, Vector]:
    """Softmax, its logarithm, and the probability of all but the largest: nothing cancels where one is near 1."""
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    raised = np.exp(shifted)
    raised[np.arange(len(raised)), outputs.argmax(axis=1)] = 0.0
    others = raised.sum(axis=1)
    log_p = shifted - np.log1p(others)[:, None]
    return np.exp(log_p), log_p, others / (1.0 + others)


SCORE_OF: dict[str, Callable[[Matrix], tuple[Vector, Matrix]]] = {
    "entropy": _entropy,
    "least_confidence": _least_confidence,
    "margin": _margin,
}
"""Functions of outputs [n, C], of two classes or more, to scores [n] and the slope of each in its outputs [n, C]."""


def descend_by_adam(objective: Objective, start: Matrix, steps: int, rate: float | Vector) -> Matrix:
    """Weights after full-batch steps of Adam (Kingma & Ba, ICLR 2015) with its usual constants.

    Args:
        objective: what is lowered.
        start: weights [C, D].
        steps: how many.
        rate: length of a step, the same for all weights or one for each feature [D].

    Returns:
        The weights [C, D].
    """
    rows, mass = objective.evidence.rows, float(objective.evidence.weights.sum())
    weights, first, second = start, np.zeros_like(start), np.zeros_like(start)
    for step in range(1, steps + 1):
        gradient = objective.gradient(weights, rows @ weights.T, rows) / mass
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        move = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        weights = weights - rate * move
    return weights


def _start(mean: Matrix, frame: Frame, classes: Sequence[str], previous: Head | None) -> Matrix:
    """The mean of the previous head, in the frame, if it is of the same classes and features; else this mean."""
    # The corrected loss is of one class of several; outputs of another kind mean something else.
    if previous is None or previous.hidden_layer is not None or previous.likelihood is not SOFTMAX:
        return mean
    same = previous.classes == tuple(classes) and previous.mean.shape == mean.shape
    return frame.inside(previous.mean) if same else mean


def _units(problem: Problem) -> Vector:
    """What one is, for each weight [D] of the frame, in units where every feature and the constant have the size 1."""
    dim = problem.evidence.features.shape[1]
    return np.append(np.full(dim, math.sqrt(dim)), 1.0 / problem.frame.constant)


def _with_unlabelled(
    evidence: Evidence, asked: NDArray[np.int64], sample: Matrix
) -> tuple[Evidence, NDArray[np.int64]]:
    """The labels, followed by items without a label."""
    more = len(sample)
    both = replace(
        evidence,
        features=np.vstack([evidence.features, sample]),
        targets=np.pad(evidence.targets, ((0, more), (0, 0))),
        weights=np.pad(evidence.weights, (0, more)),
    )
    return both, np.append(asked, np.full(more, NEVER))
