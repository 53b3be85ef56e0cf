"""How outputs of a linear head become predictions, what a label costs them, and how that cost curves.

Three links, each the natural one of its exponential family: `softmax` for one class of several, `sigmoid` for any
number of labels at once, `identity` for numbers. In each the gradient of the loss in an output is response - target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Link = Literal["identity", "sigmoid", "softmax"]
Weighting = Literal["gaussian", "categorical"]
LEAST = 1e-9
"""What a label counts at least in a covariance weighted by confidence, so that none is without any effect."""


def softmax(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    raised = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def sigmoid(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(outputs))
    return np.asarray(np.where(outputs >= 0, 1.0, small) / (1.0 + small))


def responses(link: Link, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """What outputs [n, C] predict [n, C]: class probabilities, one probability for each label, or the numbers."""
    if link == "softmax":
        return softmax(outputs)
    return sigmoid(outputs) if link == "sigmoid" else outputs


def losses(link: Link, outputs: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each item costs [n], given outputs and targets [n, C]: nats, or half the squared error."""
    if link == "softmax":
        top = outputs.max(axis=1)
        log_sum = top + np.log(np.exp(outputs - top[:, None]).sum(axis=1))
        # Only what a target has a share in: infinity times zero is not a number.
        named = np.where(targets > 0, targets * outputs, 0.0).sum(axis=1)
        return np.asarray(log_sum * targets.sum(axis=1) - named)
    if link == "sigmoid":
        return np.asarray((np.logaddexp(0.0, outputs) - targets * outputs).sum(axis=1))
    return np.asarray(0.5 * ((outputs - targets) ** 2).sum(axis=1))


def bends(link: Link, outputs: NDArray[np.float64], along: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n] how what each item costs curves, where its outputs [n, C] move by `along` [n, C]."""
    if link == "identity":
        return np.asarray((along**2).sum(axis=1))
    p = responses(link, outputs)
    if link == "sigmoid":
        return np.asarray((p * (1 - p) * along**2).sum(axis=1))
    middle = (p * along).sum(axis=1)
    return np.asarray((p * (along - middle[:, None]) ** 2).sum(axis=1))


def total_loss(
    link: Link, outputs: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """The summed `losses`, each times its weight [n]."""
    return float(losses(link, outputs, targets) @ weights)


@dataclass(frozen=True)
class Curvature:
    """How the loss of n items curves in their outputs, each times its weight: the weights of the generalised
    Gauss-Newton matrix."""

    link: Link
    responses: NDArray[np.float64]
    """[n, C], of the mean that the head is linearised at"""
    weights: NDArray[np.float64]
    """[n], each > 0"""

    def diagonal(self) -> NDArray[np.float64]:
        """[n, C] second derivatives in each output: p (1 - p), or 1 for numbers."""
        one = np.ones_like(self.responses) if self.link == "identity" else self.responses * (1 - self.responses)
        return np.asarray(one * self.weights[:, None])

    def roots(self) -> NDArray[np.float64]:
        """[n, C, C] matrices S with S Sᵀ the Hessian in the outputs; for softmax diag(p) - p pᵀ."""
        if self.link != "softmax":
            return np.asarray(np.sqrt(self.diagonal())[:, :, None] * np.eye(self.responses.shape[1]))
        root = np.sqrt(self.responses)
        matrices = root[:, :, None] * np.eye(self.responses.shape[1]) - self.responses[:, :, None] * root[:, None, :]
        return np.asarray(matrices * np.sqrt(self.weights)[:, None, None])

    def summed(self) -> NDArray[np.float64]:
        """[C, C], the Hessians in the outputs of all items added up."""
        matrix = np.diag(self.diagonal().sum(axis=0))
        if self.link == "softmax":
            matrix = np.diag(self.weights @ self.responses) - (self.responses.T * self.weights) @ self.responses
        return np.asarray(matrix)

    def counts(self, weighting: Weighting) -> NDArray[np.float64]:
        """[n], one number for all outputs of an item. gaussian: 1, which bounds every output's own curvature from
        above. categorical: p (1 - p) of the surest class, or of the least sure label; at least 1e-9."""
        if weighting == "gaussian" or self.link == "identity":
            return self.weights
        p = self.responses.max(axis=1) if self.link == "softmax" else None
        each = (self.responses * (1 - self.responses)).max(axis=1) if p is None else p * (1 - p)
        return np.asarray(self.weights * np.maximum(each, LEAST))
