"""Slow, obvious versions of BAIT, LCMD, FALCUN and the power rules: numpy, everything formed in full.

They share no code with the package except `raysal.rng`, whose draws are part of the definition.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from raysal.rng import derive, generator, item_uniform

Floats = NDArray[np.float64]


def bait_rows(p: Floats, h: Floats, fisher: str, top: int = 0) -> Floats:
    """V [n, r, D] of items with class probabilities p [n, C] and features h [n, d], as the papers write them: V'V is
    the Fisher matrix of an item.

    `binary`: sqrt(p) (1 - p) h and -sqrt(1 - p) p h, p the largest probability. `exact`: sqrt(p_y) (e_y - p) (x) h for
    every class y. `top_c`: for the `top` most probable, their probabilities made to add up to 1. `numbers`: h.
    """
    if fisher == "numbers":
        return h[:, None, :]
    if fisher == "binary":
        q = p.max(1)
        return np.stack([np.sqrt(q) * (1 - q), -np.sqrt(1 - q) * q], axis=1)[:, :, None] * h[:, None, :]
    found = []
    for own, features in zip(p, h, strict=True):
        classes = sorted(range(len(own)), key=lambda y: (-own[y], y))[: top if fisher == "top_c" else len(own)]
        total = sum(own[y] for y in classes)
        found.append([math.sqrt(own[y] / total) * np.kron(np.eye(len(own))[y] - own, features) for y in classes])
    return np.array(found)


def information(rows: Floats) -> Floats:
    """The sum of V'V over items [n, r, D]."""
    return sum((v.T @ v for v in rows), np.zeros((rows.shape[2], rows.shape[2])))


def bait_trace(precision: Floats, fisher: Floats) -> float:
    """tr(precision^-1 F)."""
    return float(np.trace(np.linalg.inv(precision) @ fisher))


def bait(
    rows: Floats, precision: Floats, fisher: Floats, k: int, weight: float = 1.0, oversample: float = 1.0
) -> tuple[list[int], list[float]]:
    """The rule of BAIT by inverses: items that lower tr(M F) most, then without those whose loss raises it least.

    Args:
        rows: V [n, r, D].
        precision: at the start.
        fisher: F.
        k: items in the batch.
        weight: of the information of a pick.
        oversample: `oversample` k are picked, of which k are left.

    Returns:
        (rows picked, by how much each lowered the trace).
    """
    own = [weight * v.T @ v for v in rows]
    picked: list[int] = []
    falls: list[float] = []
    while len(picked) < min(int(oversample * k), len(rows)):
        before = bait_trace(precision, fisher)
        traces = {row: bait_trace(precision + own[row], fisher) for row in range(len(rows)) if row not in picked}
        best = min(traces, key=lambda row: (traces[row], row))
        picked.append(best)
        falls.append(before - traces[best])
        precision = precision + own[best]
    while len(picked) > k:
        traces = {row: bait_trace(precision - own[row], fisher) for row in picked}
        least = min(traces, key=lambda row: traces[row])
        precision = precision - own[least]
        del falls[picked.index(least)]
        picked.remove(least)
    return picked, falls


def bait_as_the_authors_code(
    rows: Floats, labelled: Floats, fisher: Floats, k: int, lamb: float = 1.0, over_sample: float = 2.0
) -> list[int]:
    """The loop of the published code: scores tr[X M F M X' (I + X M X')^-1] and Woodbury updates; the labelled items
    count n / (n + k) together, every candidate k / (n + k), and lambda is absolute.
    """
    n = len(labelled)
    mean = information(labelled) / n if n else np.zeros_like(fisher)
    m = np.linalg.inv(lamb * np.eye(len(fisher)) + mean * n / (n + k))
    x = rows * np.sqrt(k / (n + k))
    eye = np.eye(x.shape[1])
    picked: list[int] = []

    def scores(some: Floats, sign: float) -> Floats:
        inner = np.linalg.inv(sign * eye + some @ m @ some.transpose(0, 2, 1))
        return np.trace(some @ m @ fisher @ m @ some.transpose(0, 2, 1) @ inner, axis1=1, axis2=2)

    def moved(row: Floats, sign: float) -> Floats:
        return m - m @ row.T @ np.linalg.inv(sign * eye + row @ m @ row.T) @ row @ m

    for _ in range(int(over_sample * k)):
        value = scores(x, 1.0)
        value[picked] = -np.inf
        picked.append(int(value.argmax()))
        m = moved(x[picked[-1]], 1.0)
    for _ in range(len(picked) - k):
        gone = int((-scores(x[picked], -1.0)).argmin())
        m = moved(x[picked[gone]], -1.0)
        del picked[gone]
    return picked


def lcmd(x: Floats, labelled: Floats, k: int) -> tuple[list[int], list[float]]:
    """Rows picked and their squared distances to the nearest centre, everything recomputed for each pick."""
    picked: list[int] = []
    gaps: list[float] = []
    for _ in range(k):
        centres = [*labelled, *x[picked]]
        left = [row for row in range(len(x)) if row not in picked]
        if not centres:
            row = max(left, key=lambda r: ((x[r] ** 2).sum(), -r))
            gap = float((x[row] ** 2).sum())
        else:
            sq = np.stack([((x - c) ** 2).sum(1) for c in centres], axis=1)
            nearest = sq.argmin(1)
            weights = [sq[nearest == c, c].sum() for c in range(len(centres))]
            heaviest = int(np.argmax(weights))
            row = max((r for r in left if nearest[r] == heaviest), key=lambda r: (sq[r, heaviest], -r))
            gap = float(sq[row, heaviest])
        picked.append(row)
        gaps.append(gap)
    return picked, gaps


def falcun(p: Floats, ids: NDArray[np.int64], k: int, gamma: float, key: int) -> tuple[list[int], list[float]]:
    """Ids drawn one after the other in proportion to (u + scaled d)^gamma, by the exponential race."""
    ordered = np.sort(p, axis=1)
    u = 1 - (ordered[:, -1] - ordered[:, -2])
    d = u.copy()
    left = list(range(len(p)))
    picked: list[int] = []
    weights: list[float] = []
    for draw in range(k):
        low, high = d[left].min(), d[left].max()
        w = u[left] + (d[left] - low) / (high - low)
        clock = -np.log(item_uniform(derive(key, draw), ids[left]))
        best = int(np.argmin(clock / w**gamma))
        weights.append(float(w[best]))
        picked.append(int(ids[left[best]]))
        pick = left.pop(best)
        d = np.minimum(d, np.abs(p - p[pick]).sum(1))
    return picked, weights


def mutual_information(h: Floats, mean: Floats, root: Floats, draws: int, key: int) -> Floats:
    """BALD of each row of h [n, d] from draws of weights with means [C, d + 1] and, for every class, covariance root
    root'."""
    noise = generator(derive(key, "posterior")).standard_normal((draws, *mean.shape))
    out = []
    for features in h:
        extended = np.append(features, 1.0)
        p = np.exp(np.array([[extended @ (row + root @ z) for row, z in zip(mean, one, strict=True)] for one in noise]))
        p /= p.sum(1, keepdims=True)
        average = p.mean(0)
        out.append(-(average * np.log(average)).sum() + (p * np.log(p)).sum(1).mean())
    return np.array(out)


def power(score: Floats, ids: NDArray[np.int64], beta: float, key: int, k: int) -> NDArray[np.int64]:
    """Ids of the largest beta log(score) + Gumbel noise."""
    noisy = beta * np.log(score) - np.log(-np.log(item_uniform(key, ids)))
    return ids[np.argsort(-noisy)[:k]]
