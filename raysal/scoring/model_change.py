"""Scores of what a label would change: the gradient it would bring, the step of the head, the loss afterwards.

The label is not known, so each score is an expectation over the answers that the head itself predicts, p. Gradients are
of the loss the head was fitted by, whose responses q are those before the temperature (p where that is 1).
"""

from __future__ import annotations

import torch

from raysal.scoring.base import Predicted, needed, score


@score("norm", numbers=("mean_variance", "norm"))
def expected_gradient_length(predicted: Predicted) -> torch.Tensor:
    """Expected length of the gradient of an item's loss: Σ_y p_y ‖q - e_y‖ · ‖h̃‖ (Settles, Craven & Ray, NIPS 2007).

    With several labels the mean over them; of numbers E|f - y| ‖h̃‖ with y ~ N(f, noise + v). Cost O(nC + nD).

    Returns:
        float32 [n], at least 0, unbounded: it grows with the vector.
    """
    return (predicted.likelihood.expected_residual(predicted) * needed(predicted.length)).float()


@score("gain", "mean_variance", numbers=("gain", "mean_variance"))
def expected_model_change(predicted: Predicted) -> torch.Tensor:
    """Expected length of the step that `update` would make of a label, at step length 1.

    Σ_y p_y ‖q - e_y‖ · ‖Σh̃‖ / (1 + m v), with m what the covariance counts a label as: 1, or by confidence q (1 - q),
    taken at this mean. With several labels the mean over them; of numbers E|f - y| ‖Σh̃‖ / (noise + v).

    This is expected model change (Settles, Craven & Ray, NIPS 2007) with the closed-form step in place of a gradient's:
    what the head already knows no longer moves it. Needs one covariance for all outputs. Cost O(nC + nD).

    Returns:
        float32 [n], at least 0, unbounded.
    """
    variance = predicted.mean_variance * predicted.temperature**2
    # What a label counts for in the covariance (`Curvature.counts`), at this mean.
    counted = predicted.likelihood.expected_count(predicted) if predicted.by_confidence else 1.0
    count = counted / predicted.noise
    step = needed(predicted.gain).double() / predicted.noise / (1 + count * variance)
    return (predicted.likelihood.expected_residual(predicted) * step).float()


@score("influence", numbers=("influence", "mean_variance"))
def influence(predicted: Predicted) -> torch.Tensor:
    """Expected size of the change of the loss on the labelled items, were the item among them.

    Σ_y p_y |⟨V, g_y⟩| with the gradient g_y = (q - e_y) h̃ᵀ and V = Σ∇L of `influence_of`. With several labels the mean
    over them; of numbers E|f - y| |V h̃| / noise. Cost O(nC).

    ISAL (Liu et al., ICCV 2021) takes the change that the predicted class would bring, and an estimate of the inverse
    Hessian; here Σ is the inverse, exactly. The plain expectation over y is zero for every item, since Σ_y p_y g_y is:
    what a label would do is good for as much as it is bad. So half of this score is the expected decrease of the loss,
    over the labels that decrease it. Where the head is sure, both definitions are near zero. Where it is not, this one
    does not take the predicted class for true.

    Returns:
        float32 [n], at least 0, unbounded; small, as the labelled items outweigh one more.
    """
    pull = needed(predicted.influence).double()
    return predicted.likelihood.expected_effect(predicted, pull).float()
