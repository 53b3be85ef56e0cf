"""Closed-form steps from the last head to the next: add labels, take labels back, add classes.

The precision of the posterior is a sum over labels, each taken at the mean of the last fit (`Head.linearised_at`). So
it does not depend on the order of the labels or on how they come, counts each once, and can be reduced by what is taken
back. A class that joins changes none of that. The mean is another matter: it moves by guarded steps, whose size and
number never touch the precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import LabelError
from raysal.models.evidence import Evidence, gather_evidence, mean_square
from raysal.models.head import Head
from raysal.models.likelihood import Curvature
from raysal.models.optim.quasi_newton import Objective, descend
from raysal.models.posterior import Gaussian
from raysal.models.posterior.square_root import never_absorbed
from raysal.models.targets import Answer
from raysal.numerics import one_thread_if_small

HALVINGS = 10
"""How often a step that raises the loss is halved before the mean stays where it is."""

FREE = 1e-8
"""Share of the prior of a weight below which that of a bias is not taken, or digits are lost."""


def update(
    head: Head,
    features: NDArray[Any],
    labels: Sequence[Answer],
    weights: NDArray[Any] | None = None,
    *,
    ledger_seq: int,
    step: float | None = None,
    passes: int = 1,
    removed: Evidence | None = None,
    seen: Evidence | None = None,
) -> Head:
    """The head after b new labels (Huseljic et al., arXiv 2210.06112).

    `step` is in units of the covariance; none is what suits the structure (`Gaussian.default_step`).

    - covariance: that of the old precision plus the evidence of these labels, once, whatever `passes` is, less that of
      `removed` labels, which must have been absorbed. Evidence is taken at `head.linearised_at`, so neither the order
      nor the split of the labels over calls matters.
    - mean, from the new labels alone: label by label in the order given, `passes` times: W += step · weight_i · Σ' (t_i
      - p_i) h̃_iᵀ with the new covariance Σ', and p under the mean so far, bias included; a removed label moves it the
      other way first. Where the weighted loss summed over the new labels would rise, `step` is halved, up to 10
      times; after that the mean stays, and only the covariance has learnt. Labels that are numbers take all at once one
      step of length 1, which is exact (recursive least squares) where the structure is shared or full.
    - mean, with `seen`, which is everything labeled so far, the new labels included: `passes` quasi-Newton steps on its
      penalised loss, the one a new fit would minimise, with Σ' as the first guess of the inverse Hessian, whatever
      `step` is. It comes close to a new fit, and that loss never rises.

    The prior is the one of the last fit: the new head keeps `prior` and `fitted_on`. No labels is no error;
    nothing but `version` and `ledger_seq` then changes. With one covariance for all classes O(b D² + b² D + passes · b
    C D), and with `seen` O(passes · n C D) more; no cost depends on the pool. All of this holds across `add_classes`.

    Raises:
        LabelError: a label is of a class the head does not know (see `add_classes`), a number cannot be used, features
        are
            not as long as the head takes them, or what is removed was never absorbed.
        ConfigError: the head is an ensemble, which has no closed-form step.
    """
    added = _evidence_for(head, features, labels, weights)
    taken = removed if removed is not None and len(removed) else None
    if not len(added) and taken is None:
        return replace(head, version=head.version + 1, ledger_seq=ledger_seq)
    posterior = head.posterior.updatable()
    step = posterior.default_step if step is None else step
    if taken is not None and len(taken) > head.labels_seen:
        raise never_absorbed()
    count = head.labels_seen + len(added) - (0 if taken is None else len(taken))
    with one_thread_if_small(len(added) if seen is None else len(seen), head.dim + 1, len(head.classes)):
        if len(added):
            posterior = posterior.absorb(added.rows, curvature_at(head, added))
        if taken is not None:
            posterior = posterior.retract(taken.rows, curvature_at(head, taken))
        if head.likelihood.quadratic:
            if posterior.exact_for_numbers:
                mean = _solved(head, posterior, added, taken)
            else:
                mean = _stepped(head, posterior, added, taken, 1.0, 1)
        elif seen is not None:
            mean = _polished(head, posterior, seen, passes)
        else:
            mean = _stepped(head, posterior, added, taken, step, passes)
    return replace(
        head, mean=mean, posterior=posterior, version=head.version + 1, labels_seen=count, ledger_seq=ledger_seq
    )


def retract(
    head: Head,
    features: NDArray[Any],
    labels: Sequence[Answer],
    weights: NDArray[Any] | None = None,
    *,
    ledger_seq: int,
    step: float | None = None,
    passes: int = 1,
    seen: Evidence | None = None,
) -> Head:
    """The head without labels that it has absorbed: withdrawn, or to be replaced. The inverse of `update` in the
    covariance; the mean takes their steps back, to first order (Koh & Liang, ICML 2017), or with `seen`, which is what
    is left, the steps of `update` on that. Whether classes have joined since they were absorbed does not matter.

    Raises:
        LabelError: they were not absorbed, or as `update`.
    """
    removed = _evidence_for(head, features, labels, weights)
    nothing = np.empty((0, head.dim))
    return update(head, nothing, [], ledger_seq=ledger_seq, step=step, passes=passes, removed=removed, seen=seen)


def add_classes(head: Head, classes: Sequence[str]) -> Head:
    """The head with `classes` that it lacks appended: weights 0, and a bias as of one label among those seen and one
    more, had all features been 0. The head itself where it lacks none. Their first label moves them, by `update`.

    Of a new output the posterior knows the prior alone (where outputs share one, what they share). Until the next fit,
    evidence stays where the last one took it (`Head.linearised_at`): labels that name a new class are evidence about
    its output, too, all others about those of the fit. So it does not matter to the precision which labels came before
    a class joined and which after, and `retract` takes back either exactly.

    Raises:
        LabelError: the head predicts numbers.
        ConfigError: it is an ensemble.
    """
    new = [name for name in dict.fromkeys(classes) if name not in head.classes]
    if not new:
        return head
    if not head.likelihood.discrete:
        raise LabelError("classes", f"{new[0]!r} for a head that predicts {head.likelihood.words}", "fit a classifier")
    mean, posterior = _joined(head.mean, len(new), head.labels_seen), head.posterior.updatable().add_classes(len(new))
    return replace(head, classes=(*head.classes, *new), mean=mean, posterior=posterior)


def add_classes_of(head: Head, answers: Iterable[Answer]) -> Head:
    """The head widened by the classes that these answers name.

    Raises:
        LabelError, ConfigError: an answer is none for this head, or as `add_classes`.
    """
    if not head.likelihood.discrete:  # its labels name no class
        return head
    shares = (head.likelihood.shares(answer, f"row {row}") for row, answer in enumerate(answers))
    return add_classes(head, [name for each in shares for name in each])


def mean_at_fit(head: Head) -> NDArray[np.float64]:
    """[C, D], the mean of the last fit, which classes that have joined since are appended to as right after it."""
    return _joined(head.linearised_at, len(head.classes) - len(head.linearised_at), head.fitted_on)


def _joined(mean: NDArray[np.float64], more: int, labels: int) -> NDArray[np.float64]:
    """`mean` with `more` rows for classes of which none of so many labels knew."""
    rows = np.zeros((more, mean.shape[1]))
    rows[:, -1] = -np.log1p(labels)
    return np.vstack([mean, rows])


def drift(head: Head) -> float:
    """How far the mean is from that of the last fit, in the rows of its classes, over the latter's length: ‖W - W₀‖ /
    ‖W₀‖."""
    fit = head.linearised_at
    moved, size = np.linalg.norm(head.mean[: len(fit)] - fit), np.linalg.norm(fit)
    return float(moved / size) if size > 0 else float(np.inf if moved > 0 else 0.0)


def loss_on(head: Head, evidence: Evidence, mean: NDArray[np.float64] | None = None) -> float:
    """Mean loss per unit of weight, of the head's mean or of another one."""
    outputs = evidence.rows @ (head.mean if mean is None else mean).T
    return head.likelihood.total_loss(outputs, evidence.targets, evidence.weights) / float(evidence.weights.sum())


def curvature_at(head: Head, evidence: Evidence) -> Curvature:
    """The curvature of labels at the mean of the last fit: a function of the label and that fit alone, and so the same
    before and after a class joins.

    Only labels that name a class which joined since, and so came after it, are evidence about its output. They are
    taken where it stood then, at one label among those fitted and one more: probability 1 / (n + 2). The others have 0.
    """
    p, weights = head.likelihood.responses(evidence.rows @ head.linearised_at.T), evidence.weights / head.noise
    if p.shape[1] < len(head.classes):
        odds = (evidence.targets[:, p.shape[1] :] > 0) / (1.0 + head.fitted_on)
        p = head.likelihood.with_joined(p, odds)
    return Curvature(head.likelihood, p, weights)


def _evidence_for(
    head: Head, features: NDArray[Any], labels: Sequence[Answer], weights: NDArray[Any] | None
) -> Evidence:
    evidence = gather_evidence(features, labels, weights, head.classes, head.likelihood)
    given = evidence.features.shape[1]
    if given != head.dim:
        raise LabelError("features", f"{given} features in a row", f"this head takes {head.dim}")
    return evidence


def objective_of(head: Head, seen: Evidence) -> Objective:
    """What a new fit on these labels would minimise: where the prior of the last one was in proportion to its labels
    (`Head.mass`), the penalty has grown with them."""
    square = mean_square(seen)
    grown = float(seen.weights.sum()) * square / head.mass if head.mass else 1.0
    penalty = np.full(head.dim + 1, head.prior * grown)
    penalty[-1] /= square  # the constant's, as in `Logistic`
    return Objective(head.likelihood, replace(seen, weights=seen.weights / head.noise), penalty)


def _polished(head: Head, posterior: Gaussian, seen: Evidence, passes: int) -> NDArray[np.float64]:
    """The mean after some steps on everything seen, with the new posterior."""
    objective = objective_of(head, seen)
    more = max(float(objective.penalty[-1]), FREE * head.prior) - head.prior
    return descend(objective, head.mean, _with_bias(posterior, more, head.mean.shape), passes)


def _with_bias(
    posterior: Gaussian, more: float, shape: tuple[int, int]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """`posterior.solve` with `more` added to the precision of every bias, for weights of this shape [C, D].

    The posterior has for the bias the prior of the weights. With vectors of length 1 that is next to nothing beside its
    penalty, and what it shares with the mean vector would seem all but free to move; with long ones it would seem all
    but fixed. By Woodbury's identity, from the covariance [C, C] of the biases: O(C D²) with one covariance for all
    classes.
    """
    classes, dim = shape
    pull = posterior.row_solver(np.eye(1, dim, dim - 1))
    biases = np.array([pull(0, output)[:, -1] for output in np.eye(classes)])
    inner = more * np.linalg.inv(np.eye(classes) + more * biases)

    def solve(gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        found = posterior.solve(gradient)
        return np.asarray(found - pull(0, inner @ found[:, -1]))

    return solve


def _solved(head: Head, posterior: Gaussian, added: Evidence, taken: Evidence | None) -> NDArray[np.float64]:
    """The mean that the new posterior has after labels that are numbers: one Newton step, as the loss is quadratic."""
    gradient = np.zeros_like(head.mean)
    for sign, evidence in ((1.0, added), (-1.0, taken)):
        if evidence is not None:
            residual = evidence.targets - evidence.rows @ head.mean.T
            gradient += sign * (residual * evidence.weights[:, None]).T @ evidence.rows / head.noise
    return np.asarray(head.mean + posterior.solve(gradient))


def _stepped(
    head: Head, posterior: Gaussian, added: Evidence, taken: Evidence | None, step: float, passes: int
) -> NDArray[np.float64]:
    """The mean after guarded steps for the labels alone, with the new posterior."""
    rows = added.rows
    before = head.likelihood.total_loss(rows @ head.mean.T, added.targets, added.weights)
    back = None if taken is None else _Walk(head, posterior, taken)
    on = _Walk(head, posterior, added)
    for _ in range(HALVINGS + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            mean = head.mean if back is None else back(head.mean, -step)
            for _ in range(passes):
                mean = on(mean, step)
            after = head.likelihood.total_loss(rows @ mean.T, added.targets, added.weights)
        if np.isfinite(mean).all() and not after > before:
            return mean
        step /= 2
    return head.mean


class _Walk:
    """Steps of the mean, one for each label in their order."""

    def __init__(self, head: Head, posterior: Gaussian, evidence: Evidence) -> None:
        self._likelihood, self._evidence, self._rows = head.likelihood, evidence, evidence.rows
        self._sizes = evidence.weights / head.noise
        self._pull = posterior.row_solver(self._rows)

    def __call__(self, mean: NDArray[np.float64], step: float) -> NDArray[np.float64]:
        for i, row in enumerate(self._rows):
            residual = self._evidence.targets[i] - self._likelihood.responses((mean @ row)[None])[0]
            mean = mean + self._pull(i, step * self._sizes[i] * residual)
        return mean
