"""What a posterior predicts: probabilities that count how unsure a head is of its own outputs.

A head's outputs f [n, C] are Gaussian, with a mean and a variance for every item. Three ways to average what they
predict: `mean_field` by a formula, `monte_carlo` by draws, `laplace_bridge` by the Dirichlet distribution that is
nearest. Outputs and variances are those over the temperature and over its square. All of it is elementwise, in float64,
in arrays of [n, C]: a row's bits do not depend on the rows beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.models.likelihood import SOFTMAX, Likelihood

Predictive = Literal["laplace_bridge", "map", "mean_field", "monte_carlo"]
Matrix = NDArray[np.float64]
PROBIT = math.pi / 8
"""1 / (1 + exp(-x)) is close to the normal distribution function of x times the root of this."""


def mean_field(
    outputs: NDArray[Any], variance: NDArray[Any], factor: float = PROBIT, likelihood: Likelihood = SOFTMAX
) -> Matrix:
    """Responses to κ f, with κ_k = 1 / sqrt(1 + factor · v_k): [n, C] for outputs f [n, C] and their `variance` v
    [n, C], or [n, 1] where outputs share one. O(n C).

    For a label of its own the probit approximation of the mean of a sigmoid (MacKay, 1992), which is within 0.02 of
    it; for classes its counterpart, output by output, which has no such bound (`factor` 0.4 and 1 are in use, too).
    Where variances differ between classes it is not free of what is added to all outputs of an item; the penalty of a
    fit makes their sum 0, or nearly so. Numbers are their own mean. Variance 0 is the plain response, and a variance
    without end is 1/C, or 1/2.
    """
    return likelihood.mean_field(np.asarray(outputs, np.float64), np.asarray(variance, np.float64), factor)


def monte_carlo(
    outputs: NDArray[Any], variance: NDArray[Any], noise: Iterable[NDArray[Any]], likelihood: Likelihood = SOFTMAX
) -> Matrix:
    """The mean response [n, C] over draws of independent outputs N(f_k, v_k), one for each standard normal array of
    `noise`, which is [C], the same for every item, or [n, C]. O(T n C), memory O(n C).

    Exact, up to 1/sqrt(T), where the outputs of an item are independent: with a shared or diagonal posterior.
    """
    f, spread = np.asarray(outputs, np.float64), np.sqrt(np.asarray(variance, np.float64))
    return averaged((f + spread * one for one in noise), likelihood)


def draw_predictions(rows: Matrix, draws: Iterable[NDArray[Any]], likelihood: Likelihood = SOFTMAX) -> Matrix:
    """The mean response [n, C] of heads with these weights, each [C, D], for `rows` h̃ [n, D]. O(T n C D), memory
    O(n C). Exact, up to 1/sqrt(T), for every structure."""
    return averaged((rows @ weights.T for weights in draws), likelihood)


def averaged(outputs: Iterable[NDArray[Any]], likelihood: Likelihood = SOFTMAX) -> Matrix:
    """The mean response [n, C] over arrays of outputs [n, C], one at a time.

    Raises:
        ConfigError: there is none.
    """
    total: Matrix | None = None
    count = 0
    for one in outputs:
        predicted = likelihood.responses(np.asarray(one, np.float64))
        total = predicted if total is None else total + predicted
        count += 1
    if total is None:
        raise ConfigError("draws", "there are none to average", "ask for at least 1")
    return total / count


def laplace_bridge(outputs: NDArray[Any], variance: NDArray[Any]) -> Matrix:
    """The mean [n, C] of the Dirichlet distribution whose Gaussian, in outputs, has this mean f [n, C] and `variance`
    [n, C] or [n, 1] (MacKay, 1998; Hobbhahn et al., UAI 2022). O(n C).

    A Dirichlet's outputs add up to 0, so f is first taken on that condition: f_k - v_k Σf / Σv, of variance
    v_k - v_k² / Σv. Then α_k = (1 - 2/C + exp(f_k) Σ exp(-f) / C²) / v_k, and the mean is α / Σα.

    It holds where variances are those of a Dirichlet, larger for what is less likely, as the exact structures have
    them. A variance that all classes share cancels: then it is the same for what the head knows and for what it does
    not, and not the softmax at variance 0 either. Use `mean_field` there. One class has probability 1.
    """
    f = np.asarray(outputs, np.float64)
    v = np.broadcast_to(np.asarray(variance, np.float64), f.shape)
    # Only ratios of variances matter, and to each other they may be as small as can be told from 0.
    largest = v.max(axis=1, keepdims=True)
    v = np.maximum(np.where(largest > 0, v / np.where(largest > 0, largest, 1.0), 1.0), 1e-12)
    total = v.sum(axis=1, keepdims=True)
    centred = f - v * (f.sum(axis=1, keepdims=True) / total)
    alpha = bridged(centred, v * (1 - v / total)) if f.shape[1] > 1 else np.ones_like(f)
    return np.asarray(alpha / alpha.sum(axis=1, keepdims=True))


def bridged(outputs: Matrix, variance: Matrix) -> Matrix:
    """Concentrations α [n, C] of the Dirichlets whose Gaussians have these means, which add up to 0, and variances; up
    to a factor for each item, without which they would leave float64."""
    classes, least, most = outputs.shape[1], outputs.min(axis=1, keepdims=True), outputs.max(axis=1, keepdims=True)
    others = np.exp(least - outputs).sum(axis=1, keepdims=True)
    flat = (1 - 2 / classes) * np.exp(least - most)
    return np.asarray((flat + np.exp(outputs - most) * others / classes**2) / variance)


def predictive_responses(
    predictive: Predictive, likelihood: Likelihood, outputs: NDArray[Any], variance: NDArray[Any] | None
) -> Matrix:
    """What outputs [n, C] predict, by one of the closed formulas.

    Raises:
        ConfigError: the formula is not for these labels, or needs draws.
    """
    check_predictive(predictive, likelihood)
    f = np.asarray(outputs, np.float64)
    if predictive == "map" or likelihood.quadratic or variance is None:
        return likelihood.responses(f)
    if predictive == "monte_carlo":
        raise ConfigError("predictive", "monte_carlo needs draws", "call `draw_predictions`")
    return mean_field(f, variance, likelihood=likelihood) if predictive == "mean_field" else laplace_bridge(f, variance)


def check_predictive(predictive: str, likelihood: Likelihood) -> None:
    """
    Raises:
        ConfigError: no such predictive, or the bridge for what is not one class of several.
    """
    known = ("laplace_bridge", "map", "mean_field", "monte_carlo")
    if predictive not in known:
        raise ConfigError("predictive", f"unknown {predictive!r}", f"use one of: {', '.join(known)}")
    if predictive == "laplace_bridge" and not likelihood.exclusive:
        raise ConfigError("predictive", "laplace_bridge is for one class of several", "use mean_field")
