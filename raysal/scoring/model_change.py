"""Scores of what a label would change: the gradient it would bring, the step the head would make, the loss after it.

The label is not known. Each score is an expectation over the answers the head itself believes in, p; gradients are of
the loss the head was fitted by, whose responses q are those before the temperature (p where that is 1).
"""

from __future__ import annotations

import torch

from raysal.scoring.base import Predicted, given, score


@score("norm", numbers=("mean_variance", "norm"))
def expected_gradient_length(predicted: Predicted) -> torch.Tensor:
    """Σ_y p_y ‖q - e_y‖ · ‖h̃‖, the expected length of the gradient of an item's loss (Settles, Craven & Ray, NIPS
    2007); with several labels the mean over them; of numbers E|f - y| ‖h̃‖ with y ~ N(f, noise + v). Unbounded: it
    grows with the vector. Cost O(nC + nD)."""
    return (predicted.likelihood.expected_residual(predicted) * given(predicted.length)).float()


@score("gain", "mean_variance", numbers=("gain", "mean_variance"))
def expected_model_change(predicted: Predicted) -> torch.Tensor:
    """Expected length of the step that `update` would make of a label, at step length 1: Σ_y p_y ‖q - e_y‖ · ‖Σh̃‖ /
    (1 + m v), with m what the covariance counts a label as, 1 or by confidence q (1 - q), taken at this mean; with
    several labels the mean over them; of numbers E|f - y| ‖Σh̃‖ / (noise + v). Unbounded.

    Expected model change (Settles, Craven & Ray, NIPS 2007) with the closed-form step in place of a gradient's: what
    the head already knows no longer moves it. Needs one covariance for all outputs. Cost O(nC + nD).
    """
    variance = predicted.mean_variance * predicted.temperature**2
    # What a label counts for in the covariance (`Curvature.counts`), at this mean.
    counted = predicted.likelihood.expected_count(predicted) if predicted.by_confidence else 1.0
    count = counted / predicted.noise
    step = given(predicted.gain).double() / predicted.noise / (1 + count * variance)
    return (predicted.likelihood.expected_residual(predicted) * step).float()


@score("influence", numbers=("influence", "mean_variance"))
def influence(predicted: Predicted) -> torch.Tensor:
    """Expected size of the change of the loss on the labelled items, were the item among them: Σ_y p_y |⟨V, g_y⟩| with
    the gradient g_y = (q - e_y) h̃ᵀ and V = Σ∇L of `influence_of`; with several labels the mean over them; of numbers
    E|f - y| |V h̃| / noise. Unbounded, and small, as the labelled items outweigh one more. Cost O(nC).

    ISAL (Liu et al., ICCV 2021) takes the change that the predicted class would bring, and an estimate of the inverse
    Hessian; here Σ is the inverse, exactly. The plain expectation over y is zero for every item, since Σ_y p_y g_y is:
    what a label would do is good for as much as it is bad. So half of this score is the expected decrease of the loss,
    over the labels that decrease it. Where the head is sure, both definitions are near zero; where it is not, this one
    does not take the predicted class for true.
    """
    pull = given(predicted.influence).double()
    return predicted.likelihood.expected_effect(predicted, pull).float()
