"""Slow, obvious coverage rules: dense kernels, eager loops. Rows come in id order; ties (1e-9) go to the lower row."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def units(x: NDArray[np.floating]) -> Floats:
    """Rows of length 1, rounded to float32 as the package holds them; zero rows stay."""
    out = [row / (math.sqrt(sum(float(v) ** 2 for v in row)) or 1.0) for row in x.astype(np.float64)]
    return np.array(out).reshape(x.shape).astype(np.float32).astype(np.float64)


def distances(a: Floats, b: Floats) -> Floats:
    """Euclidean distances [len(a), len(b)] by direct differences."""
    return np.sqrt(np.array([((b - row) ** 2).sum(1) for row in a]).reshape(len(a), len(b)))


def greedy_cover(k_of: Floats, weights: Floats, covered: Floats, k: int) -> tuple[list[int], list[float]]:
    """Rows of the largest gain under kernel k_of [candidates, ground], until nothing is gained; and the gains."""
    covered = covered.copy()
    picks: list[int] = []
    gains: list[float] = []
    while len(picks) < k:
        best, row = 0.0, -1
        for s in range(len(k_of)):
            gain = float((weights * np.maximum(k_of[s] - covered, 0)).sum())
            if s not in picks and gain > best * (1 + 1e-9):
                best, row = gain, s
        if best < 1e-9:
            break
        picks.append(row)
        gains.append(best)
        covered = np.maximum(covered, k_of[row])
    return picks, gains


def herding(
    x: NDArray[np.floating],
    ground: NDArray[np.floating],
    labelled: NDArray[np.floating],
    u: Floats,
    sigma: float,
    k: int,
) -> tuple[list[int], list[float]]:
    """MaxHerding (u = 1) and UHerding over candidates x: f(S) = mean_n u_n max_{s in L + S} k(x_n, s), greedily."""
    x, ground, labelled = units(x), units(ground), units(labelled)
    kernel = np.exp(-((distances(x, ground) / sigma) ** 2))
    known = np.exp(-((distances(labelled, ground) / sigma) ** 2))
    picks, gains = greedy_cover(kernel, u, known.max(0, initial=0.0), k)
    return picks, [gain / len(ground) for gain in gains]


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def uncertainty(logits: Floats, temperature: float) -> Floats:
    """1 - margin at a temperature."""
    p = np.sort(softmax(logits / temperature), 1)
    return 1 - (p[:, -1] - p[:, -2])


def calibration_error(logits: Floats, classes: list[int], temperature: float) -> float:
    """Expected calibration error over 15 bins (low, high] of confidence."""
    p = softmax(logits / temperature)
    error = 0.0
    for b in range(15):
        rows = [i for i in range(len(p)) if b / 15 < p[i].max() <= (b + 1) / 15]
        if rows:
            accuracy = sum(int(p[i].argmax()) == classes[i] for i in rows) / len(rows)
            confidence = sum(float(p[i].max()) for i in rows) / len(rows)
            error += len(rows) / len(p) * abs(accuracy - confidence)
    return error


def purity(x: Floats, assignment: NDArray[np.int64], radius: float, rows: list[int]) -> float:
    """Share of the open balls about `rows` that hold one cluster only."""
    pure = 0
    for i in rows:
        inside = np.flatnonzero(np.sqrt(((x - x[i]) ** 2).sum(1)) < radius)
        pure += len(set(assignment[inside].tolist()) | {int(assignment[i])}) == 1
    return pure / len(rows)


def probcover(x: Floats, labelled: Floats, delta: float, k: int) -> tuple[list[int], list[float]]:
    """The published loop over the edges of the delta graph, until it is exhausted."""
    inside = distances(x, x) < delta
    open_rows = ~(distances(labelled, x) < delta).any(0)
    picks: list[int] = []
    degrees: list[float] = []
    while len(picks) < k and open_rows.any():
        degree = (inside & open_rows).sum(1)
        picks.append(int(degree.argmax()))
        degrees.append(float(degree.max()))
        open_rows &= ~inside[picks[-1]]
    return picks, degrees


def farthest_first(x: Floats, centres: Floats, taken: list[int], k: int) -> list[int]:
    """Rows farthest from the centres and from the rows before them; below 1e-6 all are equally near."""
    picks: list[int] = []
    for _ in range(k):
        known = np.concatenate([centres, x[picks]])
        gaps = distances(x, known).min(1)
        gaps[gaps < 1e-6] = 0
        gaps[[*taken, *picks]] = -1
        picks.append(int(gaps.argmax()))
    return picks
