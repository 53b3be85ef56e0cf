"""Logistic regression that also learns from items nobody labelled, where it is sure of them."""

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
from raysal.models.optim.converge import in_units, preconditioner, scaled, settle
from raysal.models.optim.lbfgs import Design
from raysal.models.optim.quasi_newton import Matrix, Objective
from raysal.models.trainers.base import Context, Fit
from raysal.models.trainers.logistic import COARSE, Logistic, deal_folds
from raysal.numerics import one_thread_if_small

MOST, TYPICAL = 0.25, 0.1
"""What the curvature of a label and of a pseudo-label is taken for in the preconditioner: these are sure of theirs."""


@dataclass(frozen=True, kw_only=True)
class PseudoLabels(Logistic):
    """Logistic regression on the labels, and on a sample of unlabelled items as the model itself would label them:
    FixMatch (Sohn et al., NeurIPS 2020) on vectors, with the thresholds of FlexMatch (Zhang et al., NeurIPS 2021).

    From the logistic solution, `rounds` times: an unlabelled item whose most probable class c has p > T_c is labelled
    c; then the weights are fitted anew, from where they are, to labels and pseudo-labels. With N_c the items that had p
    > `cutoff` for c, and N the rest, x_c = N_c / max(N_1, ..., N_C, N), T_c = cutoff · x_c / (2 - x_c), but at least
    `floor`: classes that are learnt later have a lower bar, and all have while little is learnt. An image model would
    see each item in two distortions; vectors have none, so what a pseudo-label teaches is its certainty.

    With M the labels' total weight and m the size of the sample, a pseudo-label weighs weight · M / m: were all taken,
    they would count `weight` times what the labels do. No class takes more than 1/C of that, however many items fall
    to it: theirs are then scaled down alike.

    Pseudo-labels live as long as one fit. They never enter the ledger, the next fit makes its own, and so none outlives
    the head that was wrong about it. They are not evidence: what the head believes of items it was sure of tells it
    nothing that the labels had not, and counting it would shrink the covariance most where the head only agrees with
    itself, of all places. So the posterior, `prior`, `labels_seen` and `fitted_on` are those of the labels alone,
    around the mean found, and `update` goes on from there by labels alone.

    Pseudo-labels can also mislead. With `guard` the labels are dealt into `folds`, and what the labels of each fold
    lose under a fit to the others is added up, with and without pseudo-labels; unless these lose less, the head is the
    logistic one. So it is where there are no unlabelled items, fewer than 2 labels, or labels of one class only. The
    same fits with pseudo-labels give the `temperature` of `cv`.

    Cost: that of `Logistic`, O(m d² + d³) once, and O((n + m) C d) per quasi-Newton step, some tens in every round;
    with the guard, or a temperature of `cv`, that of `folds` fits more at a coarse tolerance.

    Raises:
        ConfigError: as `Logistic`.
        LabelError: (by `fit`) unlabelled vectors are of another length, or hold a number that cannot be used.
    """

    cutoff: float = 0.95
    """How sure the head must be of an item whose class it has learnt well."""
    floor: float = 0.5
    """How sure in any case."""
    weight: float = 1.0
    """Of all pseudo-labels together, when every item of the sample has one, beside the labels."""
    sample: int = 2000
    """Unlabelled items it wants to see."""
    rounds: int = 4
    """How often pseudo-labels are made, and the weights fitted to them."""
    guard: bool = True

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
        """See `Fitter.learn`. It reads `context.unlabelled`; `seed` also deals the folds of the guard."""
        plain = super().learn(evidence, classes, seed, context)
        named = evidence.targets.argmax(axis=1)
        if context.unlabelled is None or not len(context.unlabelled) or (named == named[0]).all():
            return plain
        unit, size = in_units(evidence)
        sample = checked_sample(context.unlabelled, evidence.features.shape[1]) / size
        student = Student(self, unit, plain.prior / size**2, sample)
        held_out = functools.cache(lambda: student.held_out(named, seed))
        if self.guard and not student.helps(*held_out()):
            return plain
        mean = scaled(student.taught(scaled(plain.mean, size), unit, self.tol), 1 / size)
        return replace(
            plain,
            mean=mean,
            posterior=self.posterior(evidence, mean, plain.prior),
            temperature=self.choose_temperature(evidence, lambda: held_out()[1]),
        )


class Student:
    """Weights taught by labels and by their own sure guesses at the `sample` [m, d]; all features in units of their
    root mean square."""

    def __init__(self, trainer: PseudoLabels, evidence: Evidence, prior: float, sample: Matrix) -> None:
        self.trainer, self.evidence, self.prior = trainer, evidence, prior
        self.mass = float(evidence.weights.sum())
        self.sample = with_constant(sample)
        share = TYPICAL * trainer.weight * self.mass / len(sample)
        counts = np.append(MOST * evidence.weights, np.full(len(sample), share))
        self._condition = preconditioner(np.vstack([evidence.rows, self.sample]), counts, prior)

    def taught(self, mean: Matrix, evidence: Evidence, tol: float) -> Matrix:
        """Weights [C, D] that these labels and pseudo-labels lead to, from those that labels alone did."""
        mass = float(evidence.weights.sum())
        penalty = np.full(mean.shape[1], self.prior * mass / self.mass)
        before: Matrix | None = None
        for _ in range(self.trainer.rounds):
            guesses = self.guesses(mean, mass)
            if before is not None and np.array_equal(guesses, before):
                break
            before, which = guesses, guesses.any(axis=1)
            weights = guesses[which].sum(axis=1)
            both = Evidence(
                features=np.vstack([evidence.features, self.sample[which, :-1]]),
                targets=np.vstack([evidence.targets, guesses[which] / weights[:, None]]),
                weights=np.append(evidence.weights, weights),
            )
            objective = Objective(SOFTMAX, both, penalty)
            mean = settle(objective, mean, self._condition, max_iter=self.trainer.max_iter, tol=tol)
        return mean

    def guesses(self, mean: Matrix, mass: float) -> Matrix:
        """Pseudo-labels [m, C] by weights [C, D]: in the column of its class what each weighs beside labels of total
        weight `mass`; rows of 0 are of items that have none."""
        p = softmax(self.sample @ mean.T)
        top, chosen = p.max(axis=1), p.argmax(axis=1)
        taken = top > thresholds(p, self.trainer.cutoff, self.trainer.floor)[chosen]
        found = np.zeros_like(p)
        found[np.flatnonzero(taken), chosen[taken]] = 1.0
        return np.asarray(self.trainer.weight * mass * found / np.maximum(len(p), len(p.T) * found.sum(axis=0)))

    def held_out(self, named: NDArray[np.int64], seed: int) -> tuple[Matrix, Matrix]:
        """Outputs [n, C] for the labels, which are of these classes, of weights that know none of their fold: without
        pseudo-labels, and with them."""
        fold_of = deal_folds(named, self.trainer.folds, seed)
        plain, taught = np.zeros_like(self.evidence.targets), np.zeros_like(self.evidence.targets)
        for fold in range(int(fold_of.max()) + 1):
            held, rest = fold_of == fold, self.evidence.take(fold_of != fold)
            mean = self._alone(rest)
            plain[held] = self.evidence.rows[held] @ mean.T
            taught[held] = self.evidence.rows[held] @ self.taught(mean, rest, COARSE).T
        return plain, taught

    def helps(self, plain: Matrix, taught: Matrix) -> bool:
        """Whether the labels lose less under the outputs of weights taught by pseudo-labels than under plain ones."""
        targets, weights = self.evidence.targets, self.evidence.weights
        return SOFTMAX.total_loss(taught, targets, weights) < SOFTMAX.total_loss(plain, targets, weights)

    def _alone(self, evidence: Evidence) -> Matrix:
        """The weights of labels alone, from zero: those of all labels would know the ones held out."""
        rows, penalty = evidence.rows, self.prior / self.mass
        with one_thread_if_small(len(rows), rows.shape[1], evidence.targets.shape[1]):
            design = Design(rows, evidence.weights)
            return design.solve(evidence.targets, penalty, max_iter=self.trainer.max_iter, tol=COARSE)


def thresholds(p: Matrix, cutoff: float, floor: float) -> NDArray[np.float64]:
    """How sure the head must be of an item [C], by the class it puts it in; from probabilities [m, C]."""
    sure = p.max(axis=1) > cutoff
    learnt = np.bincount(p.argmax(axis=1)[sure], minlength=p.shape[1])
    share = learnt / max(int(learnt.max()), int((~sure).sum()), 1)
    bars: NDArray[np.float64] = np.maximum(cutoff * share / (2 - share), floor)
    return bars


def checked_sample(unlabelled: NDArray[Any], dim: int) -> Matrix:
    """The vectors [m, dim] in float64.

    Raises:
        LabelError: they are of another length, or hold a number that cannot be used; it names the row.
    """
    try:
        rows = gather_evidence(unlabelled, ["0"] * len(unlabelled), None, ("0",), IDENTITY).features
    except LabelError as error:
        raise LabelError(f"unlabelled {error.where}", error.problem, error.fix) from None
    if rows.shape[1] != dim:
        raise LabelError("unlabelled", f"vectors of {rows.shape[1]} numbers", f"the labelled have {dim}")
    return rows


def lost(mean: Matrix, evidence: Evidence) -> float:
    """What labels lose under weights [C, D], summed."""
    return SOFTMAX.total_loss(evidence.rows @ mean.T, evidence.targets, evidence.weights)
