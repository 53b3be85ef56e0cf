"""Whether probabilities mean what they say, and the one number that mends most of it: the temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import UserError
from raysal.models.likelihood import Link, responses

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures stay within: where every held-out label is predicted there is no best one, and where outputs say nothing
neither."""
STEPS = 100


def fit_temperature(
    outputs: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None = None, link: Link = "softmax"
) -> float:
    """The temperature T at which outputs / T cost held-out labels least (Guo et al., ICML 2017): `outputs` and
    `targets` [n, C], `weights` [n].

    The negative log-likelihood is convex in 1/T, so its slope is searched for its zero by Newton's steps within a
    bracket, which is halved where they would leave it: right to 1e-9, whatever the outputs, in ten steps or so of
    O(n C). Within 0.05 .. 20. It is 1 where nothing depends on it: no labels, outputs all alike, or labels that are
    numbers.

    Raises:
        UserError: an output is not finite.
    """
    f, t = np.asarray(outputs, np.float64), np.asarray(targets, np.float64)
    m = np.ones(len(f)) if weights is None else np.asarray(weights, np.float64)
    if not np.isfinite(f).all():
        raise UserError("outputs", "hold numbers that are not finite", "fit anew")
    if link == "softmax" and len(f):
        f = f - f.mean(axis=1, keepdims=True)  # changes no probability
    if link == "identity" or not len(f) or not f.any():
        return 1.0

    def slope(beta: float) -> tuple[float, float]:
        """First and second derivative of the loss at 1/T = beta."""
        p = responses(link, beta * f)
        mass = t.sum(axis=1, keepdims=True) if link == "softmax" else np.ones((len(f), 1))
        first = ((mass * p - t) * f).sum(axis=1)
        mean = (p * f).sum(axis=1, keepdims=True) if link == "softmax" else 0.0
        curve = p * (f - mean) ** 2 if link == "softmax" else p * (1 - p) * f**2
        return float(m @ first), float(m @ (mass * curve).sum(axis=1))

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(high)[0] <= 0:
        return COLDEST
    if slope(low)[0] >= 0:
        return HOTTEST
    beta = 1.0
    for _ in range(STEPS):
        first, second = slope(beta)
        low, high = (beta, high) if first < 0 else (low, beta)
        moved = beta - first / second if second > 0 else high
        moved = moved if low < moved < high else (low * high) ** 0.5
        if first == 0 or abs(moved - beta) <= 1e-9 * beta:
            break
        beta = moved
    return float(1 / beta)


def expected_calibration_error(
    probabilities: NDArray[Any], right: NDArray[Any], bins: int = 15, weights: NDArray[Any] | None = None
) -> float:
    """Σ over bins of their share of the answers times |share that is right - mean probability|, in [0, 1], 0 being
    calibrated (Naeini et al., AAAI 2015; Guo et al., ICML 2017). NaN without answers.

    `probabilities` [n] are those of the answers given, for classes the largest of each item; `right` [n] says which of
    them are. Bins are of equal width; a probability on the edge of two is in the lower one, and 0 in the first. Empty
    bins count for nothing. The same data in other numbers of bins gives another number: compare like with like.

    Raises:
        UserError: there is less than one bin, or a probability is not in [0, 1].
    """
    if bins < 1:
        raise UserError("bins", f"{bins} is below 1")
    p, hit = np.asarray(probabilities, np.float64).ravel(), np.asarray(right, np.float64).ravel()
    m = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64).ravel()
    if not len(p):
        return float("nan")
    if not ((p >= 0) & (p <= 1)).all():
        raise UserError("probabilities", "hold a number outside [0, 1]")
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], p, side="left")
    gaps = np.bincount(bin_of, weights=m * (hit - p), minlength=bins)
    return float(np.abs(gaps).sum() / m.sum())
