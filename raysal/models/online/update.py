"""Closed-form steps from the last head to the next: labels are added, or taken back.

The precision of the posterior is a sum over labels, each taken at the mean of the last fit (`Head.linearised_at`). It
does not depend on the order of the labels, it counts each label once, and what is taken back can be subtracted. A class
that joins changes none of that (`raysal.models.online.classes`). The mean moves by guarded steps, whose size and number
do not change the precision (`raysal.models.online.mean`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import LabelError
from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import Curvature
from raysal.models.online.mean import newton_mean, quasi_newton_mean, stepped_mean
from raysal.models.posterior.square_root import never_absorbed
from raysal.models.targets import Answer
from raysal.numerics import one_thread_if_small


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

    Covariance: the old precision gains the evidence of the new labels, once, whatever `passes` is, and loses that of
    `removed` labels. Evidence is taken at `head.linearised_at`: neither the order of the labels nor their split over
    calls matters.

    Mean, from the new labels alone: label by label in the order given, `passes` times,
    W += step · weight_i · Σ' (t_i - p_i) h̃_iᵀ with the new covariance Σ', and p under the mean so far. A removed label
    moves the mean the other way first. Where the summed loss of the new labels would rise, `step` is halved, up to 10
    times; after that the mean stays, and only the covariance has learnt. Labels that are numbers make one step of
    length 1 together, which is exact (recursive least squares) with a shared or full structure.

    Mean, with `seen`: `passes` quasi-Newton steps on the penalised loss of everything seen, which a new fit would
    minimise, with Σ' as the first guess of the inverse Hessian. It comes close to a new fit, and the loss never rises.

    The prior is that of the last fit: the new head keeps `prior` and `fitted_on`. Without labels nothing but `version`
    and `ledger_seq` changes. With one covariance for all classes it costs O(b D² + b² D + passes · b C D), and with
    `seen` O(passes · n C D) more; no cost depends on the pool. All of this holds across `add_classes`.

    Args:
        head: the last head.
        features: [b, d] of the new labels.
        labels: [b]
        weights: [b]; none means 1.
        ledger_seq: offset in the ledger up to which labels are then absorbed.
        step: length of a step of the mean, in units of the covariance; none is `Gaussian.default_step`.
        passes: steps of the mean, or passes over the new labels.
        removed: labels to take back, which were absorbed before.
        seen: all labels so far, the new ones included.

    Returns:
        The new head.

    Raises:
        LabelError: a label is of a class that the head does not know (see `add_classes`), a number cannot be used,
            features have another length than the head takes, or what is removed was never absorbed.
        ConfigError: the head is an ensemble, which has no closed-form step.
    """
    added = _evidence_for(head, features, labels, weights)
    taken = removed if removed is not None and len(removed) else None
    if not len(added) and taken is None:
        return replace(head, version=head.version + 1, ledger_seq=ledger_seq)
    posterior = head.posterior.updatable()
    step = posterior.default_step if step is None else step
    if taken is not None and len(taken) > head.labels_seen:
        error = never_absorbed()
        raise error
    count = head.labels_seen + len(added) - (0 if taken is None else len(taken))
    solved = len(added) if seen is None else len(seen)
    with one_thread_if_small(solved, head.dim + 1, len(head.classes), square=posterior.width):
        if len(added):
            posterior = posterior.absorb(added.rows, curvature_at(head, added))
        if taken is not None:
            posterior = posterior.retract(taken.rows, curvature_at(head, taken))
        if head.likelihood.quadratic:
            if posterior.exact_for_numbers:
                mean = newton_mean(head, posterior, added, taken)
            else:
                mean = stepped_mean(head, posterior, added, taken, 1.0, 1)
        elif seen is not None:
            mean = quasi_newton_mean(head, posterior, seen, passes)
        else:
            mean = stepped_mean(head, posterior, added, taken, step, passes)
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
    """The head without b labels that it has absorbed: withdrawn, or to be replaced.

    In the covariance it is the inverse of `update`. The mean takes the steps of these labels back, to first order (Koh
    & Liang, ICML 2017). With `seen`, it makes the steps of `update` on what is left. It does not matter whether classes
    have joined since the labels were absorbed.

    Args:
        head: the last head.
        features: [b, d] of these labels.
        labels: [b], as they were absorbed.
        weights: [b], as they were absorbed; none means 1.
        ledger_seq: as in `update`.
        step: as in `update`.
        passes: as in `update`.
        seen: all labels that are left.

    Returns:
        The new head.

    Raises:
        LabelError: these labels were not absorbed, or as `update`.
        ConfigError: the head is an ensemble.
    """
    removed = _evidence_for(head, features, labels, weights)
    nothing = np.empty((0, head.dim))
    return update(head, nothing, [], ledger_seq=ledger_seq, step=step, passes=passes, removed=removed, seen=seen)


def curvature_at(head: Head, evidence: Evidence) -> Curvature:
    """The curvature of labels at the mean of the last fit.

    It is a function of the label and of that fit alone; it is therefore the same before and after a class joins. Only
    labels that name a class which has joined since are evidence about its output, as they came after it. They are taken
    where the output stood then, at one label among those fitted and one more: probability 1 / (n + 2). For all other
    labels that probability is 0.

    Args:
        head: the head.
        evidence: n labels.

    Returns:
        The curvature of these labels.
    """
    p, weights = head.likelihood.responses(evidence.rows @ head.linearised_at.T), evidence.weights / head.noise
    if p.shape[1] < len(head.classes):
        odds = (evidence.targets[:, p.shape[1] :] > 0) / (1.0 + head.fitted_on)
        p = head.likelihood.with_joined(p, odds)
    return Curvature(head.likelihood, p, weights)


def _evidence_for(
    head: Head, features: NDArray[Any], labels: Sequence[Answer], weights: NDArray[Any] | None
) -> Evidence:
    """Labels, checked for this head."""
    evidence = gather_evidence(features, labels, weights, head.classes, head.likelihood)
    given = evidence.features.shape[1]
    if given != head.dim:
        raise LabelError("features", f"{given} features in a row", f"this head takes {head.dim}")
    return evidence
