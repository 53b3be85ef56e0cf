"""Slow, obvious versions of BatchBALD, EPIG and LDM-S: numpy, float64, everything formed in full.

They share no code with the package except `raysal.rng`, whose draws are part of the definition, and the structures'
own draws of weights.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from raysal.rng import derive, generator, item_order, item_uniform

Floats = NDArray[np.float64]


def posterior_draws(head, count: int, key: int) -> Floats:
    """[T, C, D] weights."""
    noise = generator(derive(key, "posterior")).standard_normal((count, *head.mean.shape))
    return head.posterior.samples(head.mean, noise) / head.temperature


def drawn_outputs(x: NDArray[np.floating], draws: Floats) -> Floats:
    """[n, T, C]"""
    return np.einsum("nd,tcd->ntc", np.column_stack([x.astype(np.float64), np.ones(len(x))]), draws)


def drawn_labels(x: NDArray[np.floating], draws: Floats) -> list[Floats]:
    """For each of several labels [n, T, 2], that it is not there and that it is."""
    there = 1 / (1 + np.exp(-drawn_outputs(x, draws)))
    return [np.stack([1 - p, p], 2) for p in np.moveaxis(there, 2, 0)]


def drawn_probabilities(x: NDArray[np.floating], draws: Floats) -> Floats:
    """[n, T, C]"""
    outputs = drawn_outputs(x, draws)
    powers = np.exp(outputs - outputs.max(2, keepdims=True))
    return powers / powers.sum(2, keepdims=True)


def entropy(p: Floats) -> float:
    return float(-sum(q * math.log(q) for q in p.reshape(-1) if q > 0))


def joint_information(p: Floats, batch: list[int]) -> float:
    """Nats between the classes of a batch and the draws: the sum over every configuration of classes."""
    draws, classes = p.shape[1:]
    joint = 0.0
    for configuration in itertools.product(range(classes), repeat=len(batch)):
        likelihood = np.ones(draws)
        for item, label in zip(batch, configuration, strict=True):
            likelihood = likelihood * p[item, :, label]
        joint += entropy(likelihood.mean(keepdims=True))
    return joint - sum(entropy(p[item, t]) for item in batch for t in range(draws)) / draws


def batch_bald(questions: list[Floats], k: int) -> tuple[list[int], list[float]]:
    """Rows, and what each adds to the joint information of those before, summed over questions [n, T, answers]."""
    picks: list[int] = []
    gains: list[float] = []
    before = 0.0
    for _ in range(k):
        left = [row for row in range(len(questions[0])) if row not in picks]
        joint = {row: sum(joint_information(p, [*picks, row]) for p in questions) for row in left}
        best = max(left, key=lambda row: (joint[row], -row))
        picks.append(best)
        gains.append(joint[best] - before)
        before = joint[best]
    return picks, gains


def gaussian_information(covariance: Floats, noise: float, batch: list[int]) -> float:
    """log det(I + K / noise) / 2."""
    own = covariance[np.ix_(batch, batch)]
    return float(np.linalg.slogdet(np.eye(len(batch)) + own / noise)[1] / 2)


def epig(p: Floats, targets: Floats) -> Floats:
    """[n] mean mutual information with the label of a target, from probabilities [n, T, C] and [s, T, C]."""
    out = []
    for item in p:
        gains = []
        for target in targets:
            joint = np.einsum("tc,td->cd", item, target) / len(item)
            apart = np.outer(item.mean(0), target.mean(0))
            gains.append(sum(j * math.log(j / a) for j, a in zip(joint.flat, apart.flat, strict=True) if j > 0))
        out.append(np.mean(gains))
    return np.array(out)


def least_disagree_metric(
    x: NDArray[np.floating], weights: Floats, sizes: Floats, directions: Floats, patience: int, labels: bool = False
) -> tuple[NDArray[np.int64], int]:
    """(How many candidates change class, or set of labels, under the disturbed head that changes fewest of them and
    this one too [n], the directions tried), one head at a time; weights [C, D], directions [J, C, D] of their length.
    """

    def predicted(outputs: Floats) -> NDArray[np.int64]:
        return (outputs > 0).astype(np.int64) if labels else outputs.argmax(1)[:, None]

    rows = np.column_stack([x.astype(np.float64), np.ones(len(x))])
    own = predicted(rows @ weights.T)
    metric, quiet = np.full(len(x), len(x)), 0
    for tried, direction in enumerate(directions, 1):
        before = metric.copy()
        for size in sizes:
            changed = (predicted(rows @ (weights + size * direction).T) != own).any(1)
            metric[changed] = np.minimum(metric[changed], changed.sum())
        quiet = 0 if (metric < before).any() else quiet + 1
        if quiet == patience:
            return metric, tried
    return metric, len(directions)


def ldm_seeding(x: NDArray[np.floating], ids: NDArray[np.int64], metric: NDArray[np.int64], k: int, key: int):
    """Ids picked, from the whole matrix of cosine distances."""
    order = np.lexsort((item_order(derive(key, "ties"), ids), metric))
    edge = metric[order[k - 1]]
    weight = np.exp(-np.maximum(metric - edge, 0) / edge)
    weight[order[:k]] = 1.0
    others = order[k:]
    weight[others] = np.minimum(1.0, weight[others] * k / weight[others].sum())
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    apart = np.maximum(1 - unit.astype(np.float64) @ unit.T.astype(np.float64), 0)
    picks = [int(order[0])]
    while len(picks) < k:
        rate = (weight * apart[:, picks].min(1)) ** 2
        rate[picks] = 0
        clock = -np.log(item_uniform(derive(key, "race", len(picks)), ids))
        picks.append(min((row for row in range(len(x)) if rate[row] > 0), key=lambda row: clock[row] / rate[row]))
    return ids[picks]
