"""When a head is fitted anew instead of moved by a closed-form step."""

from __future__ import annotations

import numpy as np

from raysal.config import UpdateConfig
from raysal.models.evidence import Evidence
from raysal.models.head import Head
from raysal.models.online.classes import mean_at_fit
from raysal.models.online.mean import inside, objective_of

SLACK = 1e-9
"""Rounding that a mean loss may show."""


def reason_to_refit(
    head: Head | None,
    changed: int,
    new_classes: bool,
    rounds_since_fit: int,
    config: UpdateConfig,
    fitted_on: int | None = None,
) -> str | None:
    """Why the head must be fitted anew instead of updated.

    Args:
        head: the last head.
        changed: items whose labels are not those of the last fit: new, corrected or withdrawn.
        new_classes: whether a label is of a class that the head does not know.
        rounds_since_fit: 1 in the round after the fit.
        config: of updates.
        fitted_on: labels of the last fit, where the head was fitted on more than labels.

    Returns:
        A short sentence for the record of the round, or None.
    """
    if head is None:
        return "there is no head yet"
    fitted_on = head.fitted_on if fitted_on is None else fitted_on
    if head.fitted_otherwise:
        return "an older raysal fitted the last head, with a penalty on the bias"
    if config.mode == "retrain":
        return "every round is fitted anew (update.mode is retrain)"
    if not head.posterior.closed_form:
        return "an ensemble has no closed-form step"
    if new_classes:
        return "a new class appeared"
    if rounds_since_fit >= config.retrain_every:
        return f"{rounds_since_fit} rounds since the last fit (update.retrain_every is {config.retrain_every})"
    if changed > config.retrain_share * fitted_on:
        share = f"update.retrain_share is {config.retrain_share:g}"
        return f"{changed} labels changed since the last fit on {fitted_on} ({share})"
    return None


def reason_to_reject(head: Head, seen: Evidence, config: UpdateConfig) -> str | None:
    """Why an updated head is not to be kept. O(n C D).

    Its mean has left the neighbourhood in which its evidence was taken; or it does worse on everything seen, penalty
    included, than the mean of the last fit. Exact steps are always kept.

    Args:
        head: the updated head.
        seen: all labels so far.
        config: of updates.

    Returns:
        A short sentence for the record of the round, or None.
    """
    if head.likelihood.quadratic and head.posterior.exact_for_numbers:
        return None
    moved = drift(head)
    if moved > config.retrain_drift:
        return f"the mean has moved by {moved:.2f} of its length (update.retrain_drift is {config.retrain_drift:g})"
    objective, weight = objective_of(head, seen), float(seen.weights.sum())
    means = (inside(head, mean) for mean in (head.mean, mean_at_fit(head)))
    now, then = (objective.value(mean, objective.evidence.rows @ mean.T) / weight for mean in means)
    if now > then * (1 + SLACK) + SLACK:
        return f"the penalised loss on what was seen is {now:.3g}, with the last fit's mean {then:.3g}"
    return None


def drift(head: Head) -> float:
    """How far the mean W is from that of the last fit W₀, ‖W - W₀‖ / ‖W₀‖, in the frame and the rows of its classes."""
    fit, now = inside(head, head.linearised_at), inside(head, head.mean[: len(head.linearised_at)])
    moved, size = np.linalg.norm(now - fit), np.linalg.norm(fit)
    return float(moved / size) if size > 0 else float(np.inf if moved > 0 else 0.0)
