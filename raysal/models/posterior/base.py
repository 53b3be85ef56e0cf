"""The posterior over the weights of a head: what every structure of it is.

A structure that is a `Gaussian`, N(mean, Σ), has the precision of the Laplace approximation: prior · I + the
generalised Gauss-Newton matrix of the labels absorbed, taken at the mean the head is linearised at. That makes evidence
additive: neither the order of the labels, nor how they are split over calls, nor when they came changes the precision,
and what was absorbed can be taken back exactly. Structures differ in what of the matrix they keep.

Weights are [C, D] with the constant feature as the last of D = d + 1; `rows` h̃ [n, D] end with a 1.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.models.likelihood import Curvature, Weighting

Matrix = NDArray[np.float64]
Pull = Callable[[int, NDArray[np.float64]], Matrix]
"""(row, residual [C]) to a step [C, D]"""


class Quadratic(NamedTuple):
    """Numbers q_c = Σ_r combine[c, r] (project[r] · h̃)² of a row h̃: what a posterior says of every item, in a form
    that rides along in one matrix product."""

    project: Matrix
    """[r, D]"""
    combine: Matrix
    """[c, r]; c is C, or 1 where all outputs share it"""

    def of(self, rows: Matrix) -> Matrix:
        """[n, c] for rows [n, D]. O(n r D)."""
        return np.asarray((rows @ self.project.T) ** 2 @ self.combine.T)


class Posterior(ABC):
    """A distribution over weights [C, D]. Subclasses are frozen dataclasses; their arrays are float64 and read-only,
    and their fields are what files of heads hold."""

    name: ClassVar[str]
    """As files of heads have it (`structure`)."""
    closed_form: ClassVar[bool] = True
    """Whether evidence can be added in closed form: whether it is a `Gaussian`."""
    exact_for_numbers: ClassVar[bool] = False
    """Whether it keeps the whole precision where labels are numbers, so that one step of the mean is exact."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """D, the number of features with the constant one."""

    @property
    def output_count(self) -> int | None:
        """C, the number of outputs; None where any number of outputs share one covariance."""
        return None

    @property
    def covariance(self) -> Matrix | None:
        """Σ [D, D], if all outputs share one, exactly symmetric. O(D³)."""
        return None

    @property
    def by_confidence(self) -> bool:
        """Whether a label counts by the confidence of its prediction (`Weighting`), and not as 1."""
        return False

    @abstractmethod
    def variance(self) -> Quadratic:
        """The variance of every output of a row.

        Returns:
            The form whose numbers are the variances.
        """

    @abstractmethod
    def draws(self, mean: Matrix, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights sampled from the posterior.

        Args:
            mean: [C, D]
            noise: [T, C, D], standard normal.

        Returns:
            T samples of the weights, [T, C, D]; an ensemble has no more than its members.
        """

    def updatable(self) -> Gaussian:
        """The posterior, if evidence can be added to it.

        Returns:
            Itself.

        Raises:
            ConfigError: it is an ensemble, which has no closed-form step.
        """
        raise ConfigError("update.mode", "an ensemble has no closed-form step", 'use mode = "retrain"')

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """The fields that are arrays, by name."""
        return {name: value for name, value in self._fields().items() if isinstance(value, np.ndarray)}

    def record(self) -> dict[str, Any]:
        """The name of the structure, and the fields that are no arrays."""
        plain = {name: value for name, value in self._fields().items() if not isinstance(value, np.ndarray)}
        return {"structure": self.name, **plain}

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]


class Gaussian(Posterior):
    """A Gaussian over weights that evidence can be added to: what every structure but an ensemble is."""

    @classmethod
    @abstractmethod
    def fit(
        cls, rows: Matrix, curvature: Curvature, prior: float, classes: int, weighting: Weighting = "gaussian"
    ) -> Self:
        """The posterior of the prior and all rows at once.

        Args:
            rows: [n, D]
            curvature: of the labels of these rows.
            prior: precision of every weight before any label.
            classes: C, the number of outputs.
            weighting: what a label counts for, where all outputs share one covariance.

        Returns:
            The posterior.

        Raises:
            ConfigError: the prior is too weak beside the evidence for float64, or the matrix would be too large.
        """

    @property
    @abstractmethod
    def stride(self) -> float:
        """How long a step of the mean that looks at new labels alone may be, in units of Σ.

        What a structure leaves out makes its Σ too large where labels agree, and steps by it overshoot: for 1 and 10
        labels after 50 (digits, centred or not; breast cancer) these made no mean worse, the next larger of 0.03, 0.1,
        0.3, 1, 3 did. With 3, one label cost the digits 14 nats with diagonal, 1.1 with kronecker.
        """

    @abstractmethod
    def absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        """The posterior with the evidence of labels added to the precision.

        Args:
            rows: [n, D]
            curvature: of the labels of these rows.

        Returns:
            The posterior after these labels.

        Raises:
            LabelError: the evidence leaves float64; the error names the row.
        """

    @abstractmethod
    def retract(self, rows: Matrix, curvature: Curvature) -> Self:
        """The posterior with the evidence of labels taken back: the inverse of `absorb`.

        Args:
            rows: [n, D]
            curvature: as when they were absorbed.

        Returns:
            The posterior without these labels.

        Raises:
            LabelError: there is not that much evidence to take.
        """

    @abstractmethod
    def solve(self, gradient: Matrix) -> Matrix:
        """Σ times a gradient.

        Args:
            gradient: [C, D]

        Returns:
            The product, [C, D].
        """

    def pulls(self, rows: Matrix) -> Pull:
        """The steps that residuals at some rows cause.

        Args:
            rows: [b, D]

        Returns:
            A function of (i, residual [C]): `solve` of the residual times row i, [C, D].
        """
        return lambda i, residual: self.solve(np.outer(residual, rows[i]))

    @abstractmethod
    def add_classes(self, more: int) -> Self:
        """The posterior of more outputs.

        Args:
            more: how many outputs join after those there are.

        Returns:
            The posterior, which knows nothing of them but the prior.
        """

    def updatable(self) -> Self:
        """Itself."""
        return self
