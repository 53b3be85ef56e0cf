"""One closed-form step from the last head to the next, and when not to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.config import UpdateConfig
from raysal.errors import LabelError
from raysal.update.evidence import gather_evidence, with_constant
from raysal.update.head import Head, cross_entropy, curvature_of, softmax

HALVINGS = 10
"""How often a step that raises the loss is halved before the mean stays where it is."""


def update(
    head: Head,
    features: NDArray[Any],
    labels: Sequence[str],
    weights: NDArray[Any] | None = None,
    *,
    ledger_seq: int,
    step: float = 10.0,
    passes: int = 1,
) -> Head:
    """The head after b new labels, without looking at the old ones (Huseljic et al., arXiv 2210.06112).

    With h̃ = [h, 1] and evidence e_i (the label's weight times its curvature under the head as given, see
    `curvature_of`):

    - covariance: exactly the inverse of (old precision + Σ e_i h̃_i h̃_iᵀ), once, whatever `passes` is.
      With gaussian curvature neither the order nor the split of the labels over calls matters.
    - mean: label by label in the order given, `passes` times: W̃ += step · weight_i · (onehot_i - p) (Σ'
      h̃_i)ᵀ with the new covariance Σ' and p under the mean so far, bias included. The caller fixes the
      order (by item id).
    - guard: where the weighted cross-entropy summed over these labels would rise, `step` is halved, up to 10
      times; after that the mean stays, and only the covariance has learnt.

    The prior is the one of the last fit: the new head keeps `prior` and `fitted_on`. No labels is no error;
    nothing but `version` and `ledger_seq` then changes. O(b d² + b² d + b³ + passes · b² C), memory O(d² +
    b²).

    Raises:
        LabelError: a label is of a class the head does not know (fit anew), or a number cannot be used.
    """
    evidence = gather_evidence(features, labels, weights, head.classes)
    done = replace(head, version=head.version + 1, ledger_seq=ledger_seq, labels_seen=head.labels_seen + len(labels))
    if not len(labels):
        return done
    before = head.logits(evidence.features)
    counts = evidence.weights * curvature_of(head.curvature, before)
    rows = with_constant(evidence.features)
    covariance, gain = absorb(head.covariance, rows, counts)
    overlap = rows @ gain  # [b, b]: how far a step for one label moves the logits of another
    loss = cross_entropy(before, evidence.targets, evidence.weights)
    for _ in range(HALVINGS + 1):
        moves = _mean_moves(before, overlap, evidence.targets, step * evidence.weights, passes)
        moved = moves.T @ gain.T  # [C, d + 1]
        weight, bias = head.weight + moved[:, :-1], head.bias + moved[:, -1]
        if np.isfinite(weight).all() and np.isfinite(bias).all():
            candidate = replace(done, weight=weight, bias=bias, covariance=covariance)
            if cross_entropy(candidate.logits(evidence.features), evidence.targets, evidence.weights) <= loss:
                return candidate
        step /= 2
    return replace(done, covariance=covariance)


def absorb(
    covariance: NDArray[np.float64], rows: NDArray[np.float64], evidence: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The covariance Σ' [D, D] after `rows` [b, D] with `evidence` [b], and the gain Σ' rowsᵀ [D, b].

    Woodbury on the whole batch: with Φ the rows times the root of their evidence, Σ' = Σ - ΣΦᵀ(I + ΦΣΦᵀ)⁻¹ΦΣ.
    Rows are first brought to one size, so that an outlier does not drown the others in rounding; then the
    matrix is inverted by its eigenvectors and not by Cholesky, because two copies of one item with large
    features leave it singular in float64, and that is no fault of theirs. The gain is ΣΦᵀ(I + ΦΣΦᵀ)⁻¹ and
    not a product with Σ', which along such items has lost its digits to cancellation.

    Raises:
        LabelError: ΦΣΦᵀ leaves float64.
    """
    phi = rows * np.sqrt(evidence)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        variance = ((phi @ covariance) * phi).sum(axis=1)
    if not np.isfinite(variance).all():
        row = int((~np.isfinite(variance)).argmax())
        raise LabelError(f"row {row}", "its features are too large beside those of the head", "fit anew")
    size = np.sqrt(1.0 + np.maximum(variance, 0.0))
    phi = phi / size[:, None]
    reach = phi @ covariance  # [b, D]
    inner = reach @ phi.T + np.diag(size**-2)
    values, vectors = np.linalg.eigh(0.5 * (inner + inner.T))
    turned = vectors.T @ reach
    # Exact arithmetic obeys Cauchy-Schwarz, turned² <= value · diagonal. Where Σ has lost its digits along a
    # row (a second item far off in the same direction), holding to it keeps variances from turning negative.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        least = np.nanmax(turned**2 / np.maximum(np.diagonal(covariance), 0.0), axis=1)
    values = np.maximum(np.maximum(values, least), len(rows) * np.finfo(np.float64).eps)
    lost = turned / np.sqrt(values)[:, None]
    after = covariance - lost.T @ lost
    gain = (turned / values[:, None]).T @ vectors.T
    return 0.5 * (after + after.T), gain / (size * np.sqrt(evidence))


def _mean_moves(
    logits: NDArray[np.float64],
    overlap: NDArray[np.float64],
    targets: NDArray[np.int64],
    steps: NDArray[np.float64],
    passes: int,
) -> NDArray[np.float64]:
    """How far each label [b] moves the mean along its own gain, per class: [b, C].

    All logits of the batch are kept current through `overlap`, so that no step touches the weights
    themselves.
    """
    logits = logits.copy()
    moves = np.zeros_like(logits)
    for _ in range(passes):
        for row, target in enumerate(targets):
            move = -steps[row] * softmax(logits[row])
            move[target] += steps[row]
            moves[row] += move
            logits += overlap[:, row, None] * move
    return moves


def needs_refit(
    head: Head | None,
    new_items: int,
    new_classes: bool,
    corrected: bool,
    rounds_since_fit: int,
    config: UpdateConfig,
) -> str | None:
    """Why the head must be fitted anew instead of updated, as a short sentence for the round's record; or
    None.

    `new_items` are labels not yet absorbed; `rounds_since_fit` is 1 in the round after the fit.
    """
    if head is None:
        return "there is no head yet"
    if config.mode == "retrain":
        return "every round is fitted anew (update.mode is retrain)"
    if new_classes:
        return "a new class appeared"
    if corrected:
        return "a label that the head has absorbed was corrected"
    if rounds_since_fit >= config.retrain_every:
        return f"{rounds_since_fit} rounds since the last fit (update.retrain_every is {config.retrain_every})"
    since_fit = head.labels_seen - head.fitted_on + new_items
    if since_fit > config.retrain_share * head.fitted_on:
        share = f"update.retrain_share is {config.retrain_share:g}"
        return f"{since_fit} labels since the last fit on {head.fitted_on} ({share})"
    return None
