"""Slow, obvious versions of BAIT, LCMD, FALCUN and the power rules: numpy, everything formed in full.

They share no code with the package except `raysal.rng`, whose draws are part of the definition.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from raysal.rng import derive, generator, item_uniform

Floats = NDArray[np.float64]


def bait_published(
    confidence: Floats, h: Floats, m_inv: Floats, fisher: Floats, k: int, weight: float, backward: int = 0
) -> list[int]:
    """The published loop of BAIT with binary Fisher information: two rows of length d an item, scored by
    tr[X M F M X' (s I + X M X')^-1], Woodbury updates; forward k + backward, then `backward` steps back.

    m_inv [d, d] is the inverse of the precision at the start, `weight` what one item counts beside it.
    """
    p = confidence
    x = np.stack([np.sqrt(p) * (1 - p), -np.sqrt(1 - p) * p], axis=1)[:, :, None] * h[:, None, :]  # [n, 2, d]
    x = x * math.sqrt(weight)
    eye = np.eye(2)
    picked: list[int] = []

    def scores(m: Floats, rows: Floats, sign: float) -> Floats:
        inner = np.linalg.inv(sign * eye + rows @ m @ rows.transpose(0, 2, 1))
        middle = rows @ m @ fisher @ m @ rows.transpose(0, 2, 1)
        return np.trace(middle @ inner, axis1=1, axis2=2)

    def update(m: Floats, row: Floats, sign: float) -> Floats:
        return m - m @ row.T @ np.linalg.inv(sign * eye + row @ m @ row.T) @ row @ m

    for _ in range(k + backward):
        value = scores(m_inv, x, 1.0)
        value[picked] = -np.inf
        picked.append(int(value.argmax()))
        m_inv = update(m_inv, x[picked[-1]], 1.0)
    for _ in range(backward):
        rise = -scores(m_inv, x[picked], -1.0)
        drop = int(rise.argmin())
        m_inv = update(m_inv, x[picked[drop]], -1.0)
        del picked[drop]
    return picked


def bait_traces(x: Floats, precision: Floats, fisher: Floats, picks: list[int]) -> list[float]:
    """tr(M F) after none, one, two ... of the picks, by inverses."""
    traces = [float(np.trace(np.linalg.inv(precision) @ fisher))]
    for place in range(len(picks)):
        some = x[picks[: place + 1]]
        traces.append(float(np.trace(np.linalg.inv(precision + some.T @ some) @ fisher)))
    return traces


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
