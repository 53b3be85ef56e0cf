"""Scores of what a label would change: the gradient it would bring, the step of the head, the loss afterwards.

The label is not known. So a score is an expectation over the answers that the head itself predicts, p, or takes the
likeliest for the label (`influence`). Gradients are of the loss the head was fitted by, whose responses q are those
before the temperature (p where that is 1).
"""

from __future__ import annotations

import torch

from raysal.scoring.base import Predicted, needed, score


@score("norm", numbers=("mean_variance", "norm"))
def expected_gradient_length(predicted: Predicted) -> torch.Tensor:
    """Expected length of the gradient of an item's loss: Σ_y p_y ‖q - e_y‖ · ‖z̃‖ (Settles, Craven & Ray, NIPS 2007).

    z̃ = [z, 1] with the features z of the head's frame. With several labels the mean over them; of numbers
    E|f - y| ‖z̃‖ with y ~ N(f, noise + v). Cost O(nC + nD).

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
    """How far the loss on a sample of the pool would fall, were the item labelled as predicted: signed, to first order.

    ⟨V, g⟩ with the gradient g = (q - e_ŷ) h̃ᵀ of the predicted label ŷ and V = Σ∇L of `influence_of`, L the mean loss on
    the reference (`scoring.reference`). With several labels the mean over them. Cost O(nC).

    This is minus the influence of ISAL (Liu et al., ICCV 2021), which picks the lowest, the most negative; so here the
    highest helps most. Σ stands for the inverse Hessian of the labels' loss, which the authors estimate by a series:
    that of the structure `full` is the inverse itself, and `shared` counts each label for more than it is. The
    authors leave out biases and batch norms; here the constant feature counts as any other.

    A number that is labelled as predicted has no gradient. So for numbers it is the expected size of the change,
    E|f - y| |V h̃| / noise, without a sign.

    Returns:
        float32 [n], of either sign, unbounded; for numbers at least 0.
    """
    pull = needed(predicted.influence).double()
    return predicted.likelihood.predicted_effect(predicted, pull).float()
