"""A head that predicts a number: Bayesian linear regression, whose posterior is exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.models.evidence import Evidence
from raysal.models.frame import Frame
from raysal.models.likelihood import IDENTITY, Likelihood
from raysal.models.posterior import Shared, Span
from raysal.models.posterior.square_root import root_of_inverse
from raysal.models.trainers.base import Context, Fit, Fitter

Vector = NDArray[np.float64]
RATIOS = 1e-6, 1e6
"""Least and largest noise · prior that are tried, in units of the spread of the features. Beyond them, labels say
either everything or nothing."""
POINTS = 121
"""Ratios that are tried before the best is made exact: ten for each factor of ten."""
LEAST_UNIT = 1e-6
"""Share of the largest sum of squares of a feature that the unit of ratios is at least. With a noise · prior of 1e-12
of that sum the precision can still be inverted."""


@dataclass(frozen=True, kw_only=True)
class Regression(Fitter):
    """Numbers, by a linear model with Gaussian noise: t_i = w h_i + b + e_i, e_i ~ N(0, noise / m_i).

    The priors are w ~ N(0, I / prior) and b ~ N(0, 1 / constant), flat unless `constant` is given. The posterior is
    then Gaussian with one covariance, of the precision diag(prior, ..., constant) + Σ m_i h̃_i h̃_iᵀ / noise.
    Closed-form steps from it are recursive least squares: in any order, they give what a new fit gives with the same
    prior and noise.

    `noise` and `prior` are numbers in the units of labels and features; or "evidence", for the values under which the
    labels are most likely, with w integrated out (type II maximum likelihood; MacKay, Neural Computation 1992). The
    constant is first taken out of the labels, as with a flat prior on it (restricted maximum likelihood). A search over
    noise · prior tries a grid of 121 points and then a golden section, each O(min(n, d)) from one singular value
    decomposition. Of several maxima it takes the highest of the grid. noise · prior stays within 1e-6 and 1e6 of the
    spread of the features. Where all labels are equal they say nothing of it; noise and weights then explain the mean
    square of the labels each. A constant that multiplies all labels or all features changes no
    prediction; nor does one that is added to them.

    Cost: O(n d min(n, d) + d³). Labels are numbers as text: "12", "-0.5", "1e3".

    Raises:
        ConfigError: a field is out of range.
    """

    likelihood: ClassVar[Likelihood] = IDENTITY
    noise: float | Literal["evidence"] = "evidence"
    """Variance of a label of weight 1 around the prediction."""
    prior: float | Literal["evidence"] = "evidence"
    """Precision of the prior on a weight."""
    constant: float | None = None
    """Precision of the prior on the constant, the output where all features are 0; none is 0."""

    def __post_init__(self) -> None:
        for name in ("noise", "prior", "constant"):
            value = getattr(self, name)
            if value == "evidence" or (name == "constant" and value is None):
                continue
            if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
                raise ConfigError(f"update.trainer.{name}", f"{value!r} is not a finite number above 0")

    def learn(self, evidence: Evidence, classes: Sequence[str], seed: int, context: Context) -> Fit:
        """See `Fitter.learn`. `classes` are none, or `value`."""
        del classes, seed, context
        noise, prior = self.variances(evidence)
        posterior = exact_posterior(evidence, noise, prior, self.constant)
        mean = posterior.solve((evidence.targets[:, 0] * evidence.weights / noise)[None] @ evidence.rows)
        return Fit(mean=mean, posterior=posterior, prior=prior, noise=noise)

    def variances(self, evidence: Evidence) -> tuple[float, float]:
        """The (noise, prior), as given or of the highest evidence."""
        if self.noise != "evidence" and self.prior != "evidence":
            return float(self.noise), float(self.prior)
        spectrum = spectrum_of(evidence)
        level = mean_square_of_labels(evidence)
        largest = float((evidence.weights @ evidence.features**2).max())
        unit = max(float(spectrum.values.sum()) / max(spectrum.freedom, 1), LEAST_UNIT * largest) or 1.0

        def scale(ratio: float) -> float:
            """1 / prior, given noise · prior."""
            if self.noise != "evidence":
                return float(self.noise) / ratio
            if self.prior != "evidence":
                return 1.0 / float(self.prior)
            return spectrum.scale(ratio)

        if spectrum.total == 0:
            # Nothing to search by: what is not given is such that noise and weights explain a mean square each.
            explained = float(Frame.isotropic(evidence).size[0]) ** 2
            noise = level if self.noise == "evidence" else float(self.noise)
            prior = explained / level if self.prior == "evidence" else float(self.prior)
            return noise, prior
        ratio = best_ratio(lambda ratio: spectrum.loss(ratio, scale(ratio)), unit)
        return ratio * scale(ratio), 1.0 / scale(ratio)


class Spectrum(NamedTuple):
    """Labels and features less their means, along the principal axes of the items."""

    values: Vector
    """[r] squared singular values of the features times the square roots of the weights"""
    squares: Vector
    """[r] squared parts of the labels along the axes"""
    rest: float
    """the rest of the sum of squares of the labels"""
    freedom: int
    """degrees of freedom, n - 1"""

    @property
    def total(self) -> float:
        """The sum of squares of the labels."""
        return float(self.squares.sum()) + self.rest

    def scale(self, ratio: float) -> float:
        """The most likely 1 / prior at a ratio noise · prior; 0 where all labels are equal."""
        return (float((self.squares / (self.values + ratio)).sum()) + self.rest / ratio) / max(self.freedom, 1)

    def loss(self, ratio: float, scale: float) -> float:
        """The -2 log evidence, up to a constant; the eigenvalues of the covariance are scale · (value + ratio)."""
        spread = self.values + ratio
        logs = float(np.log(spread).sum()) + (self.freedom - len(spread)) * math.log(ratio)
        fit = float((self.squares / spread).sum()) + self.rest / ratio
        return logs + self.freedom * math.log(scale) + fit / scale


def spectrum_of(evidence: Evidence) -> Spectrum:
    """The spectrum of labelled features. O(n d min(n, d))."""
    import torch

    root = np.sqrt(evidence.weights)
    shares = evidence.weights / evidence.weights.sum()
    rows = (evidence.features - shares @ evidence.features) * root[:, None]
    labels = evidence.targets[:, 0]
    labels = (labels - shares @ labels) * root
    if np.ptp(evidence.targets[:, 0]) == 0:
        labels = np.zeros_like(labels)  # exactly: a mean may be off by rounding
    count = len(labels) - 1
    axes, sizes, _ = torch.linalg.svd(torch.from_numpy(rows), full_matrices=False)
    along, values = (axes.T @ torch.from_numpy(labels)).numpy(), (sizes**2).numpy()
    kept = min(len(values), count)  # the mean took one dimension, the last of as many axes as there are items
    along, values = along[:kept], values[:kept]
    rest = max(float(labels @ labels) - float(along @ along), 0.0) if count > kept else 0.0
    return Spectrum(values, along**2, rest, count)


def best_ratio(loss: Callable[[float], float], unit: float) -> float:
    """The ratio of least loss within `RATIOS` times `unit`: the best of a grid, then golden section beside it."""
    grid = np.linspace(math.log(RATIOS[0] * unit), math.log(RATIOS[1] * unit), POINTS)
    best = int(np.argmin([loss(math.exp(x)) for x in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, POINTS - 1)])
    golden = (math.sqrt(5) - 1) / 2
    while high - low > 1e-8:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(math.exp(left)) <= loss(math.exp(right)):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def exact_posterior(evidence: Evidence, noise: float, prior: float, constant: float | None) -> Shared:
    """The posterior of precision diag(prior, ..., constant) + Σ m_i h̃_i h̃_iᵀ / noise. O(n d² + d³), or O(n² d + n³).

    Args:
        evidence: the labels.
        noise: variance of a label of weight 1.
        prior: precision of the prior on a weight.
        constant: precision of the prior on the constant; None for 0. The constant then does not depend on the weights
            at the mean of the labelled items, and the posterior is computed there.

    Returns:
        The posterior.
    """
    counts = evidence.weights / noise
    if constant is None:
        frame = Frame.isotropic(evidence)
        inside = frame.evidence(evidence)
        prior /= frame.size[0] ** 2
        span = Span.of_few(inside.rows, prior)
        features = inside.features if span is None else inside.features @ span.axes
        root = np.zeros((features.shape[1] + 1, features.shape[1] + 1))
        root[:-1, :-1] = root_of_inverse(features, counts, prior)
        root[-1, -1] = 1.0 / math.sqrt(float(counts.sum()))
        return Shared(root=root, frame=frame, span=span)
    # A constant feature of this size with the prior of the weights is one of size 1 with its own prior.
    unit = math.sqrt(prior / constant)
    found = Shared.of_counts(replace(evidence, constant=unit).rows, counts, prior)
    root = found.root.copy()
    root[-1] *= unit
    return replace(found, root=root)


def mean_square_of_labels(evidence: Evidence) -> float:
    """The weighted mean square of the labels, in their squared unit; 1 where all are 0."""
    return float(evidence.weights @ evidence.targets[:, 0] ** 2 / evidence.weights.sum()) or 1.0
