"""The loss of FixMatch: labels, and pseudo-labels of which no class gets more than its share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Losses(NamedTuple):
    """What one step adds up."""

    labelled: torch.Tensor
    """Mean loss of the labels."""
    unlabelled: torch.Tensor
    """Loss of the pseudo-labels over the number of all unlabelled pictures, with or without one."""
    pseudo: torch.Tensor
    """[m] likeliest class of each unlabelled picture."""
    top: torch.Tensor
    """[m] its probability"""
    taken: torch.Tensor
    """[m] whether it is a pseudo-label"""


def labelled_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted mean of the cross-entropy.

    Args:
        logits: [b, C]
        targets: [b, C] shares that add up to 1
        weights: [b]

    Returns:
        One number.
    """
    each = -(targets * logits.log_softmax(1)).sum(1)
    return (weights * each).sum() / weights.sum()


def unlabelled_loss(
    weak: torch.Tensor, strong: torch.Tensor, thresholds: torch.Tensor, balance: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss of strong views under the pseudo-labels of weak ones.

    The pseudo-label of a picture is the likeliest class of its weak view under the network as it trains (not its
    average), without a gradient. It counts if its probability reaches the threshold of its class. With `balance`, the
    n_c pseudo-labels of a class count min(1, m / (C n_c)) each: no class gets more than m / C. The sum is divided by
    all m pictures, so a step with few pseudo-labels moves the network little.

    Args:
        weak: logits [m, C].
        strong: logits [m, C].
        thresholds: [C]
        balance: whether no class gets more than its share.

    Returns:
        The loss; and the classes, their probabilities and which of them count, each [m].
    """
    import torch

    top, pseudo = weak.detach().softmax(1).max(1)
    taken = top >= thresholds[pseudo]
    counts = torch.bincount(pseudo[taken], minlength=weak.shape[1])
    share = taken.to(strong.dtype)
    if balance:
        most = len(weak) / weak.shape[1]
        share = share * (most / counts.clamp(min=1)).clamp(max=1).to(strong.dtype)[pseudo]
    each = torch.nn.functional.cross_entropy(strong, pseudo, reduction="none")
    return (share * each).sum() / len(weak), pseudo, top, taken


def fixmatch_losses(
    labelled: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    weak: torch.Tensor,
    strong: torch.Tensor,
    thresholds: torch.Tensor,
    balance: bool,
) -> Losses:
    """Both losses of a step; see `labelled_loss` and `unlabelled_loss`.

    Args:
        labelled: logits [b, C] of labelled pictures.
        targets: [b, C]
        weights: [b]
        weak: logits [m, C] of weak views.
        strong: logits [m, C] of strong views of the same pictures.
        thresholds: [C]
        balance: whether no class gets more than its share.

    Returns:
        The losses, and what became of the unlabelled pictures.
    """
    loss, pseudo, top, taken = unlabelled_loss(weak, strong, thresholds, balance)
    return Losses(labelled_loss(labelled, targets, weights), loss, pseudo, top, taken)
