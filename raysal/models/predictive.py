"""What a posterior predicts: probabilities that account for how unsure a head is of its own outputs.

The outputs f [n, C] of a head are Gaussian, with a mean and a variance for every item. There are three ways to average
what they predict: `mean_field` by a formula, `monte_carlo` by samples, `laplace_bridge` by the nearest Dirichlet
distribution. Outputs are divided by the temperature, variances by its square. All is elementwise, in float64: the bits
of a row do not depend on the rows beside it.
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
"""1 / (1 + exp(-x)) is close to the distribution function of a normal variable at x times the root of this."""


def mean_field(
    outputs: NDArray[Any], variance: NDArray[Any], factor: float = PROBIT, likelihood: Likelihood = SOFTMAX
) -> Matrix:
    """Responses to κ f with κ_k = 1 / sqrt(1 + factor · v_k). O(n C).

    For several labels it is the probit approximation of the mean of a sigmoid (MacKay, 1992), which is within 0.02 of
    the mean. For classes it is the same formula for each output, and has no such bound; `factor` 0.4 and 1 are also in
    use. Where variances differ between classes, it changes with a number that is added to all outputs of an item. The
    penalty of a fit makes the sum of the outputs 0, or nearly so. Numbers are their own mean. With variance 0 it is the
    plain response, with infinite variance 1/C or 1/2.

    Args:
        outputs: f [n, C]
        variance: v [n, C], or [n, 1] where outputs share it.
        factor: of the variance.
        likelihood: what the labels are.

    Returns:
        The responses, [n, C].
    """
    return likelihood.mean_field(np.asarray(outputs, np.float64), np.asarray(variance, np.float64), factor)


def monte_carlo(
    outputs: NDArray[Any], variance: NDArray[Any], noise: Iterable[NDArray[Any]], likelihood: Likelihood = SOFTMAX
) -> Matrix:
    """The mean response over samples of independent outputs N(f_k, v_k). O(T n C), memory O(n C).

    It is exact up to 1/sqrt(T) where the outputs of an item are independent: with a shared or diagonal posterior.

    Args:
        outputs: f [n, C]
        variance: v [n, C], or [n, 1] where outputs share it.
        noise: T arrays of standard normal numbers, each [C], the same for every item, or [n, C].
        likelihood: what the labels are.

    Returns:
        The mean response, [n, C].

    Raises:
        ConfigError: there is no noise.
    """
    f, spread = np.asarray(outputs, np.float64), np.sqrt(np.asarray(variance, np.float64))
    return averaged((f + spread * one for one in noise), likelihood)


def sampled_predictions(rows: Matrix, samples: Iterable[NDArray[Any]], likelihood: Likelihood = SOFTMAX) -> Matrix:
    """The mean response of sampled weights. O(T n C D), memory O(n C).

    It is exact up to 1/sqrt(T) with every structure of the posterior.

    Args:
        rows: h̃ [n, D]
        samples: T samples of the weights, each [C, D].
        likelihood: what the labels are.

    Returns:
        The mean response, [n, C].

    Raises:
        ConfigError: there is no sample.
    """
    return averaged((rows @ weights.T for weights in samples), likelihood)


def averaged(outputs: Iterable[NDArray[Any]], likelihood: Likelihood = SOFTMAX) -> Matrix:
    """The mean response over arrays of outputs, one at a time.

    Args:
        outputs: arrays [n, C].
        likelihood: what the labels are.

    Returns:
        The mean response, [n, C].

    Raises:
        ConfigError: there is no array.
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
    """The mean of the Dirichlet distribution that is nearest to Gaussian outputs. O(n C).

    It is the Dirichlet whose Laplace approximation in the outputs has this mean f and variance v (MacKay, 1998;
    Hobbhahn et al., UAI 2022). The outputs of a Dirichlet add up to 0. Therefore f is first conditioned on that: the
    mean becomes f_k - v_k Σf / Σv, the variance v_k - v_k² / Σv. Then α_k = (1 - 2/C + exp(f_k) Σ exp(-f) / C²) / v_k,
    and the mean is α / Σα. A single class has probability 1.

    It holds where variances are those of a Dirichlet, larger for less likely classes. The exact structures have such
    variances. A variance that all classes share cancels: the result is then the same for items that the head knows and
    for items that it does not, and it is not the softmax even at variance 0. Use `mean_field` there.

    Args:
        outputs: f [n, C]
        variance: v [n, C] or [n, 1].

    Returns:
        Class probabilities, [n, C].
    """
    f = np.asarray(outputs, np.float64)
    v = np.broadcast_to(np.asarray(variance, np.float64), f.shape)
    # Only ratios of variances matter; they are kept above 1e-12 so that none is 0.
    largest = v.max(axis=1, keepdims=True)
    v = np.maximum(np.where(largest > 0, v / np.where(largest > 0, largest, 1.0), 1.0), 1e-12)
    total = v.sum(axis=1, keepdims=True)
    centred = f - v * (f.sum(axis=1, keepdims=True) / total)
    alpha = bridged(centred, v * (1 - v / total)) if f.shape[1] > 1 else np.ones_like(f)
    return np.asarray(alpha / alpha.sum(axis=1, keepdims=True))


def bridged(outputs: Matrix, variance: Matrix) -> Matrix:
    """Concentrations of Dirichlets from the moments of their outputs, up to a factor for each item.

    Without that factor they would leave float64.

    Args:
        outputs: [n, C] means, which add up to 0.
        variance: [n, C]

    Returns:
        α [n, C] times a factor.
    """
    classes, least, most = outputs.shape[1], outputs.min(axis=1, keepdims=True), outputs.max(axis=1, keepdims=True)
    others = np.exp(least - outputs).sum(axis=1, keepdims=True)
    flat = (1 - 2 / classes) * np.exp(least - most)
    return np.asarray((flat + np.exp(outputs - most) * others / classes**2) / variance)


def predictive_responses(
    predictive: Predictive, likelihood: Likelihood, outputs: NDArray[Any], variance: NDArray[Any] | None
) -> Matrix:
    """What outputs predict, by one of the closed formulas.

    Args:
        predictive: the formula.
        likelihood: what the labels are.
        outputs: [n, C]
        variance: [n, C] or [n, 1]; None for the mean of the weights alone.

    Returns:
        The responses, [n, C].

    Raises:
        ConfigError: the formula is not for these labels, or it needs samples.
    """
    check_predictive(predictive, likelihood)
    f = np.asarray(outputs, np.float64)
    if predictive == "map" or likelihood.quadratic or variance is None:
        return likelihood.responses(f)
    if predictive == "monte_carlo":
        raise ConfigError("predictive", "monte_carlo needs draws", "call `sampled_predictions`")
    return mean_field(f, variance, likelihood=likelihood) if predictive == "mean_field" else laplace_bridge(f, variance)


def check_predictive(predictive: str, likelihood: Likelihood) -> None:
    """Refuse a formula that cannot work with these labels.

    Args:
        predictive: the formula.
        likelihood: what the labels are.

    Raises:
        ConfigError: there is no such formula; or it is the bridge, and labels are not one class of several.
    """
    known = ("laplace_bridge", "map", "mean_field", "monte_carlo")
    if predictive not in known:
        raise ConfigError("predictive", f"unknown {predictive!r}", f"use one of: {', '.join(known)}")
    if predictive == "laplace_bridge" and not likelihood.exclusive:
        raise ConfigError("predictive", "laplace_bridge is for one class of several", "use mean_field")
