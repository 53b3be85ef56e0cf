"""The posterior over a head's weights, in one of several structures, and its closed-form updates.

Each is Gaussian, N(mean, Σ), with the precision of the Laplace approximation: prior · I + the generalised Gauss-Newton
matrix of the labels absorbed, taken at the mean the head is linearised at. That makes evidence additive: neither the
order of the labels, nor how they are split over calls, nor when they came changes the precision, and what was absorbed
can be taken back exactly. Structures differ in what of the matrix they keep.

Weights are [C, D] with the constant feature as the last of D = d + 1; `rows` [n, D] end with a 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.models.likelihood import Curvature, Weighting
from raysal.models.posterior import square_root
from raysal.models.posterior.square_root import LEFT, nearly_all, never_absorbed, root_of_inverse

LARGEST_FULL = 6_000
"""Weights of a head beyond which a matrix over all of them is refused: 6,000 take 288 MB."""

Matrix = NDArray[np.float64]
Pull = Callable[[int, NDArray[np.float64]], Matrix]


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


class Gaussian(Protocol):
    """A Gaussian over weights [C, D] that evidence can be added to: what every structure but an ensemble is. Frozen;
    arrays are float64 and read-only."""

    @property
    def dim(self) -> int:
        """D."""
        ...

    @property
    def stride(self) -> float:
        """How long a step of the mean, in units of Σ, that looks at new labels alone may be. What a structure leaves
        out makes its Σ too large where labels agree, and steps by it overshoot: for 1 and 10 labels after 50 (digits,
        centred or not; breast cancer) these made no mean worse, the next larger of 0.03, 0.1, 0.3, 1, 3 did. With 3,
        one label cost the digits 14 nats with diagonal, 1.1 with kronecker."""
        ...

    def variance(self) -> Quadratic:
        """The variance of every output of a row."""
        ...

    def draws(self, mean: Matrix, noise: Matrix) -> NDArray[np.float64]:
        """Weights [T, C, D] from the posterior around `mean`, made of standard normal `noise` [T, C, D]."""
        ...

    def absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        """With the evidence of these rows [n, D] added to the precision.

        Raises:
            LabelError: it leaves float64; it names the row.
        """
        ...

    def retract(self, rows: Matrix, curvature: Curvature) -> Self:
        """With their evidence taken back: the inverse of `absorb`.

        Raises:
            LabelError: there is not that much evidence to take.
        """
        ...

    def solve(self, gradient: Matrix) -> Matrix:
        """Σ times a gradient [C, D]: [C, D]."""
        ...

    def pulls(self, rows: Matrix) -> Pull:
        """What a residual [C] at row i of `rows` [b, D] moves: `solve` of their product [C, D]."""
        return lambda i, residual: self.solve(np.outer(residual, rows[i]))

    def add_classes(self, more: int) -> Self:
        """For `more` outputs after those there are, of which nothing is known but the prior."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Shared(Gaussian):
    """One covariance Σ [D, D] for the weights of every output, the matrix SNGP keeps (Liu et al., 2020; for updates
    Huseljic et al., arXiv 2210.06112): prior · I + Σ_i m_i h̃_i h̃_iᵀ, m_i by `weighting` (`Curvature.counts`).

    8 D² bytes whatever C; absorbing b rows O(b D²). Kept as a root R with Σ = R Rᵀ, so that no variance can turn
    negative however often it is updated.
    """

    root: Matrix
    """[D, D]"""
    weighting: Weighting = "gaussian"

    @property
    def stride(self) -> float:
        # Gaussian takes every label for 1 where its own curvature is at most 1/4; above 4 steps overshoot. On
        # Fashion-MNIST 3 kept a fifth to four fifths of what a new fit gains; 10, as published, often lost more.
        return 3.0 if self.weighting == "gaussian" else 1.0

    @classmethod
    def fit(
        cls, rows: Matrix, curvature: Curvature, prior: float, classes: int, weighting: Weighting = "gaussian"
    ) -> Self:
        """From the prior and all rows at once, whatever the number of classes. O(n D² + D³).

        Raises:
            ConfigError: the prior is too weak beside the evidence for float64.
        """
        del classes
        return cls(root=root_of_inverse(rows, curvature.counts(weighting), prior), weighting=weighting)

    @property
    def dim(self) -> int:
        return len(self.root)

    @property
    def covariance(self) -> Matrix:
        """Σ [D, D], exactly symmetric. O(D³)."""
        return np.asarray(self.root @ self.root.T)

    def absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        root = square_root.update(self.root, rows, curvature.counts(self.weighting))
        return type(self)(root=root, weighting=self.weighting)

    def retract(self, rows: Matrix, curvature: Curvature) -> Self:
        root = square_root.downdate(self.root, rows, curvature.counts(self.weighting))
        return type(self)(root=root, weighting=self.weighting)

    def solve(self, gradient: Matrix) -> Matrix:
        return np.asarray((gradient @ self.root) @ self.root.T)

    def pulls(self, rows: Matrix) -> Pull:
        solved = self.solve(rows)
        return lambda i, residual: np.outer(residual, solved[i])

    def variance(self) -> Quadratic:
        return Quadratic(self.root.T, np.ones((1, self.dim)))

    def draws(self, mean: Matrix, noise: Matrix) -> NDArray[np.float64]:
        # One product: of a stack of small ones each would be spread over the threads, and wait for them.
        return np.asarray(mean + (noise.reshape(-1, self.dim) @ self.root.T).reshape(noise.shape))

    def add_classes(self, more: int) -> Self:
        del more
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagonal(Gaussian):
    """A variance for every single weight: the diagonal of the full matrix. 8 C D bytes; absorbing O(b C D)."""

    stride: ClassVar[float] = 0.03
    precision: Matrix
    """[C, D]"""
    prior: float

    @classmethod
    def fit(cls, rows: Matrix, curvature: Curvature, prior: float, classes: int) -> Self:
        """From the prior and all rows at once. O(n C D)."""
        empty = np.full((classes, rows.shape[1]), prior)
        return cls(precision=empty, prior=prior).absorb(rows, curvature)

    @property
    def dim(self) -> int:
        return int(self.precision.shape[1])

    def absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        return self._with(self.precision + curvature.diagonal().T @ rows**2)

    def retract(self, rows: Matrix, curvature: Curvature) -> Self:
        left = self.precision - curvature.diagonal().T @ rows**2
        if (left < self.prior - 1e-9 * self.precision).any():  # what rounding may take, beside a large evidence
            raise never_absorbed()
        if (left < LEFT * self.precision).any():
            raise nearly_all()
        return self._with(np.maximum(left, self.prior))

    def solve(self, gradient: Matrix) -> Matrix:
        return np.asarray(gradient / self.precision)

    def variance(self) -> Quadratic:
        return Quadratic(np.eye(self.dim), 1.0 / self.precision)

    def draws(self, mean: Matrix, noise: Matrix) -> NDArray[np.float64]:
        return np.asarray(mean + noise / np.sqrt(self.precision))

    def add_classes(self, more: int) -> Self:
        return self._with(np.vstack([self.precision, np.full((more, self.dim), self.prior)]))

    def _with(self, precision: Matrix) -> Self:
        return type(self)(precision=precision, prior=self.prior)


@dataclass(frozen=True, kw_only=True, eq=False)
class Kronecker(Gaussian):
    """prior · I + B ⊗ A / n, with A = Σ m_i h̃_i h̃_iᵀ, B = Σ m_i Λ_i the summed Hessians in the outputs, and
    n = Σ m_i (KFAC for a last layer: Ritter et al., ICLR 2018).

    Both sums are kept, so absorbing is exact in them, though the product of sums is not the sum of products. Variances
    come from the eigenvectors A = V diag(μ) Vᵀ and B = U diag(λ) Uᵀ without any Jacobian: v_k = Σ_a U_ka² Σ_j
    (v_jᵀh̃)² / (λ_a μ_j / n + prior). 8 (D² + C²) bytes; the eigenvectors are computed where they are needed,
    O(D³ + C³), so that one update costs as much as many.
    """

    stride: ClassVar[float] = 0.1
    inputs: Matrix
    """A [D, D]"""
    outputs: Matrix
    """B [C, C]"""
    count: float
    """n"""
    prior: float

    @classmethod
    def fit(cls, rows: Matrix, curvature: Curvature, prior: float, classes: int) -> Self:
        """From the prior and all rows at once. O(n (D² + C²))."""
        dim = rows.shape[1]
        nothing = cls(inputs=np.zeros((dim, dim)), outputs=np.zeros((classes, classes)), count=0.0, prior=prior)
        return nothing.absorb(rows, curvature)

    @property
    def dim(self) -> int:
        return len(self.inputs)

    def absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        return self._moved(rows, curvature, 1.0)

    def retract(self, rows: Matrix, curvature: Curvature) -> Self:
        less = self._moved(rows, curvature, -1.0)
        least = min(np.linalg.eigvalsh(less.inputs)[0] / max(float(np.trace(self.inputs)), 1e-300), less.count)
        if least < -1e-9:
            raise never_absorbed()
        # A bound on the precision in any direction, before and after.
        most = [np.trace(of.inputs) * np.trace(of.outputs) / max(of.count, 1e-300) + of.prior for of in (self, less)]
        if most[1] < LEFT * most[0]:
            raise nearly_all()
        return less

    def _moved(self, rows: Matrix, curvature: Curvature, sign: float) -> Self:
        moved = (rows.T * (sign * curvature.weights)) @ rows
        return type(self)(
            inputs=self.inputs + 0.5 * (moved + moved.T),
            outputs=self.outputs + sign * curvature.summed(),
            count=self.count + sign * float(curvature.weights.sum()),
            prior=self.prior,
        )

    @cached_property
    def _axes(self) -> tuple[Matrix, Matrix, Matrix]:
        """(U [C, C], V [D, D], eigenvalues of Σ [C, D])."""
        of_outputs, u = np.linalg.eigh(self.outputs)
        of_inputs, v = np.linalg.eigh(self.inputs)
        evidence = np.outer(np.maximum(of_outputs, 0), np.maximum(of_inputs, 0))
        return u, v, 1.0 / (evidence / max(self.count, 1e-300) + self.prior)

    def solve(self, gradient: Matrix) -> Matrix:
        u, v, values = self._axes
        return np.asarray(u @ ((u.T @ gradient @ v) * values) @ v.T)

    def pulls(self, rows: Matrix) -> Pull:
        u, v, values = self._axes
        turned = rows @ v
        return lambda i, residual: np.asarray(u @ (np.outer(residual @ u, turned[i]) * values) @ v.T)

    def variance(self) -> Quadratic:
        u, v, values = self._axes
        return Quadratic(v.T, u**2 @ values)

    def draws(self, mean: Matrix, noise: Matrix) -> NDArray[np.float64]:
        u, v, values = self._axes
        scaled = noise * np.sqrt(values)
        return np.asarray(mean + u @ (scaled.reshape(-1, len(v)) @ v.T).reshape(noise.shape))

    def add_classes(self, more: int) -> Self:
        outputs = np.pad(self.outputs, (0, more))
        return type(self)(inputs=self.inputs, outputs=outputs, count=self.count, prior=self.prior)


@dataclass(frozen=True, kw_only=True, eq=False)
class Full(Gaussian):
    """The whole generalised Gauss-Newton matrix, (C D)² numbers: the measure of the other structures, for small
    heads. Absorbing b rows O(b C (C D)²)."""

    stride: ClassVar[float] = 0.3
    root: Matrix
    """[C D, C D] with Σ = root rootᵀ; the weights of an output lie together."""
    classes: int
    prior: float

    @classmethod
    def fit(cls, rows: Matrix, curvature: Curvature, prior: float, classes: int) -> Self:
        """From the prior and all rows at once. O(n C (C D)² + (C D)³).

        Raises:
            ConfigError: the head has more weights than are sensible, or the prior is too weak beside the evidence.
        """
        size = classes * rows.shape[1]
        if size > LARGEST_FULL:
            problem = f"{classes} classes x {rows.shape[1]} features are {size} weights, more than {LARGEST_FULL}"
            raise ConfigError("update.trainer.structure", problem, "use shared, kronecker or diagonal")
        wide = jacobians(rows, curvature)
        root = root_of_inverse(wide, np.ones(len(wide)), prior)
        return cls(root=root, classes=classes, prior=prior)

    @property
    def dim(self) -> int:
        return len(self.root) // self.classes

    def absorb(self, rows: Matrix, curvature: Curvature) -> Self:
        wide = jacobians(rows, curvature)
        return self._with(square_root.update(self.root, wide, np.ones(len(wide))))

    def retract(self, rows: Matrix, curvature: Curvature) -> Self:
        wide = jacobians(rows, curvature)
        return self._with(square_root.downdate(self.root, wide, np.ones(len(wide))))

    def solve(self, gradient: Matrix) -> Matrix:
        return np.asarray(self.root @ (gradient.reshape(-1) @ self.root)).reshape(gradient.shape)

    def variance(self) -> Quadratic:
        blocks = self.root.reshape(self.classes, self.dim, -1).transpose(0, 2, 1)
        combine = np.kron(np.eye(self.classes), np.ones((1, len(self.root))))
        return Quadratic(blocks.reshape(-1, self.dim), np.asarray(combine, np.float64))

    def draws(self, mean: Matrix, noise: Matrix) -> NDArray[np.float64]:
        return np.asarray(mean + (noise.reshape(len(noise), -1) @ self.root.T).reshape(noise.shape))

    def add_classes(self, more: int) -> Self:
        size, extra = len(self.root), more * self.dim
        root = np.zeros((size + extra, size + extra))
        root[:size, :size] = self.root
        root[size:, size:] = np.eye(extra) / np.sqrt(self.prior)
        return type(self)(root=root, classes=self.classes + more, prior=self.prior)

    def _with(self, root: Matrix) -> Self:
        return type(self)(root=root, classes=self.classes, prior=self.prior)


@dataclass(frozen=True, kw_only=True, eq=False)
class Members:
    """T heads instead of a formula: the members of an ensemble, or the masks of a dropout head. Their spread is the
    posterior; it has no closed form, so new labels mean a new fit."""

    weights: NDArray[np.float64]
    """[T, C, D]"""

    @property
    def dim(self) -> int:
        return int(self.weights.shape[2])

    def variance(self) -> Quadratic:
        apart = self.weights - self.weights.mean(axis=0)
        members, classes, _ = apart.shape
        combine = np.tile(np.eye(classes), (1, members)) / max(members - 1, 1)
        return Quadratic(apart.reshape(-1, self.dim), combine)

    def draws(self, mean: Matrix, noise: Matrix) -> NDArray[np.float64]:
        """The first T members, whatever `mean` and `noise` say: there are no others."""
        del mean
        return self.weights[: len(noise)]


Stepping = Shared | Diagonal | Kronecker | Full
"""those that new evidence can be added to; each is a `Gaussian`"""
Posterior = Stepping | Members

STRUCTURES: dict[str, type[Posterior]] = {
    "diagonal": Diagonal,
    "full": Full,
    "kronecker": Kronecker,
    "members": Members,
    "shared": Shared,
}


def jacobians(rows: Matrix, curvature: Curvature) -> Matrix:
    """[n C, C D]: the rows whose outer products add up to the full Gauss-Newton matrix of `rows` [n, D]."""
    roots = curvature.roots()  # [n, C, C]
    wide = np.einsum("nck,nd->nkcd", roots, rows)
    return np.asarray(wide.reshape(roots.shape[0] * roots.shape[2], -1))
