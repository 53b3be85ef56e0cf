"""When a closed-form step is not to be trusted, and the head is fitted anew."""

from __future__ import annotations

from raysal.config import UpdateConfig
from raysal.models.evidence import Evidence
from raysal.models.head import Head
from raysal.models.online.update import drift, mean_at_fit, objective_of

SLACK = 1e-9
"""Rounding that a mean loss may show."""


def needs_refit(
    head: Head | None, changed: int, new_classes: bool, rounds_since_fit: int, config: UpdateConfig
) -> str | None:
    """Why the head must be fitted anew instead of updated, as a short sentence for the round's record; or
    None.

    `changed` are the items whose labels are not those of the last fit: new, corrected or withdrawn; `rounds_since_fit`
    is 1 in the round after it.
    """
    if head is None:
        return "there is no head yet"
    if config.mode == "retrain":
        return "every round is fitted anew (update.mode is retrain)"
    if not head.posterior.closed_form:
        return "an ensemble has no closed-form step"
    if new_classes:
        return "a new class appeared"
    if rounds_since_fit >= config.retrain_every:
        return f"{rounds_since_fit} rounds since the last fit (update.retrain_every is {config.retrain_every})"
    if changed > config.retrain_share * head.fitted_on:
        share = f"update.retrain_share is {config.retrain_share:g}"
        return f"{changed} labels changed since the last fit on {head.fitted_on} ({share})"
    return None


def gone_astray(head: Head, seen: Evidence, config: UpdateConfig) -> str | None:
    """Why an updated head is not to be kept, after all: its mean has left the neighbourhood in which its evidence was
    taken, or does worse on everything seen, penalty included, than that of the last fit. Steps that are exact cannot
    stray. O(n C D)."""
    if head.likelihood.quadratic and head.posterior.exact_for_numbers:
        return None
    moved = drift(head)
    if moved > config.retrain_drift:
        return f"the mean has moved by {moved:.2f} of its length (update.retrain_drift is {config.retrain_drift:g})"
    objective, rows, weight = objective_of(head, seen), seen.rows, float(seen.weights.sum())
    now, then = (objective.value(mean, rows @ mean.T) / weight for mean in (head.mean, mean_at_fit(head)))
    if now > then * (1 + SLACK) + SLACK:
        return f"the penalised loss on what was seen is {now:.3g}, with the last fit's mean {then:.3g}"
    return None
