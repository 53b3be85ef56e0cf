"""The maths of raysal/models written slowly: loops, full Hessians, explicit inverses."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from raysal.models.evidence import Evidence
from raysal.models.head import Head

BIAS_PRIOR = 0.1
"""Precision of the bias at the centre of the labels, as the docstring of `Logistic` has it."""


def softmax_reference(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


def loss_reference(weight, bias, features, targets, weights) -> float:
    total = 0.0
    for h, y, m in zip(features, targets, weights, strict=True):
        total -= m * np.log(softmax_reference(weight @ h + bias)[y])
    return total


def frame_reference(
    features, weights, prior: float, bias_prior: float = BIAS_PRIOR, *, standardised: bool = False
) -> np.ndarray:
    """T [D, D] with T (h, 1) = ((h - centre) / size, κ), κ² = prior / bias_prior, of labelled features.

    One size for all; or, standardised, sizes as deviations, 0.3 of the farthest item's at least. Total variance 1.
    """
    d, total = features.shape[1], sum(weights)
    centre = sum(m * h for h, m in zip(features, weights, strict=True)) / total
    variances = sum(m * (h - centre) ** 2 for h, m in zip(features, weights, strict=True)) / total
    size = np.ones(d)
    if standardised:
        farthest = np.max([abs(h - centre) for h in features], axis=0)
        size = np.array([max(np.sqrt(v), 0.3 * far) for v, far in zip(variances, farthest, strict=True)])
        varies = size > 1e-12 * max(size)
        size[~varies] = np.median(size[varies])
    size = size * np.sqrt(sum(variances / size**2))
    frame = np.diag(np.append(1 / size, np.sqrt(prior / bias_prior)))
    frame[:-1, -1] = -centre / size
    return frame


def logistic_reference(
    features, targets, weights, classes: int, l2: float, framed_on=None
) -> tuple[np.ndarray, np.ndarray]:
    """(weight [C, d], bias [C]) that minimise Σ m CE(W z + b, y) + l2/2 ‖W‖² + 0.1/2 ‖b‖² over centred, scaled z.

    By damped Newton steps on the full Hessian [C (d + 1), C (d + 1)]; then carried to the features as they are.
    Features are centred and scaled by themselves, or by `framed_on`, other (features, weights).
    """
    d = features.shape[1]
    plain = frame_reference(*(framed_on or (features, weights)), 1.0, 1.0)  # with the constant 1
    penalty = np.tile(np.append(np.full(d, l2), BIAS_PRIOR), classes)
    rows = [plain @ np.append(h, 1.0) for h in features]
    flat = np.zeros(classes * (d + 1))

    def objective(flat):
        w = flat.reshape(classes, d + 1)
        loss = loss_reference(w[:, :-1], w[:, -1], [row[:-1] for row in rows], targets, weights)
        return loss + 0.5 * (penalty * flat**2).sum()

    for _ in range(200):
        gradient, hessian = penalty * flat, np.diag(penalty)
        for z, y, m in zip(rows, targets, weights, strict=True):
            p = softmax_reference(flat.reshape(classes, d + 1) @ z)
            gradient = gradient + m * np.kron(p - np.eye(classes)[y], z)
            hessian = hessian + m * np.kron(np.diag(p) - np.outer(p, p), np.outer(z, z))
        if np.abs(gradient).max() < 1e-10 * max(1.0, sum(weights)):
            break
        direction, t = np.linalg.solve(hessian, gradient), 1.0
        while objective(flat - t * direction) > objective(flat) and t > 1e-6:
            t /= 2
        flat = flat - t * direction
    w = flat.reshape(classes, d + 1) @ plain
    return w[:, :-1], w[:, -1]


def minimum_reference(features, targets, weights, l2: float, frame: np.ndarray, link: str = "softmax") -> np.ndarray:
    """Weights [C, D], of features as they are, of least penalised loss, by a general solver.

    Targets are shares [n, C]. `frame` is T [D, D] with the constant 1, in which l2 and the prior on the bias hold.
    """
    rows, classes = np.column_stack([features, np.ones(len(features))]) @ frame.T, targets.shape[1]
    penalty = np.append(np.full(features.shape[1], l2), BIAS_PRIOR)

    def value(flat):
        w = flat.reshape(classes, -1)
        outputs = rows @ w.T
        if link == "softmax":
            loss = np.logaddexp.reduce(outputs, axis=1) * targets.sum(axis=1) - (targets * outputs).sum(axis=1)
            p = np.exp(outputs - np.logaddexp.reduce(outputs, axis=1)[:, None])
        else:
            loss = (np.logaddexp(0, outputs) - targets * outputs).sum(axis=1)
            p = 1 / (1 + np.exp(-outputs))
        slope = ((p - targets) * weights[:, None]).T @ rows + penalty * w
        return weights @ loss + 0.5 * (penalty * w**2).sum(), slope.ravel()

    start = np.zeros(classes * rows.shape[1])
    found = minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-8, "maxiter": 5000})
    return found.x.reshape(classes, -1) @ frame


def covariance_reference(features, evidence, prior: float, frame: np.ndarray) -> np.ndarray:
    """Tᵀ (prior · I + Σ evidence (T h̃) (T h̃)ᵀ)⁻¹ T of a frame T, term by term."""
    precision = prior * np.eye(features.shape[1] + 1)
    for h, e in zip(features, evidence, strict=True):
        row = frame @ np.append(h, 1.0)
        precision = precision + e * np.outer(row, row)
    return frame.T @ np.linalg.inv(precision) @ frame


def laplace_reference(head, features, targets, weights, step: float, passes: int):
    """(weight, bias, covariance) after one gaussian update, each step on the weights themselves."""
    precision = np.linalg.inv(head.covariance)
    for h, m in zip(features, weights, strict=True):
        extended = np.append(h, 1.0)
        precision = precision + m * np.outer(extended, extended)
    covariance = np.linalg.inv(precision)
    before = loss_reference(head.weight, head.bias, features, targets, weights)
    for halvings in range(11):
        w = np.column_stack([head.weight, head.bias])
        for _ in range(passes):
            for h, y, m in zip(features, targets, weights, strict=True):
                extended = np.append(h, 1.0)
                p = softmax_reference(w @ extended)
                w = w + step / 2**halvings * m * np.outer(np.eye(len(p))[y] - p, covariance @ extended)
        if loss_reference(w[:, :-1], w[:, -1], features, targets, weights) <= before:
            return w[:, :-1], w[:, -1], covariance
    return head.weight, head.bias, covariance


def loss_on(head: Head, evidence: Evidence) -> float:
    """Mean loss per unit of weight."""
    outputs = evidence.rows @ head.mean.T
    return head.likelihood.total_loss(outputs, evidence.targets, evidence.weights) / float(evidence.weights.sum())
