"""Square roots R of a covariance Σ = R Rᵀ: they change when evidence is added to its inverse, or taken from it.

A square root carries twice the digits of its square, and R Rᵀ has no negative variance. Navigation has propagated
square roots for these reasons since Potter (1963).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError, LabelError
from raysal.numerics import one_thread

Matrix = NDArray[np.float64]
LARGEST_GAIN = 1e12
"""Evidence, in units of what was known, beyond which rows are absorbed one by one. A sum of larger squares would lose
the 1 that is added to it. It takes features a million times those of the fit."""
LEAST_LEFT = 1e-8
"""Share of the evidence in any direction that must be left when labels are taken back. With a smaller share, more than
1 in 1e4 of what is left would be rounding."""
MOST_ROUNDING = 1e-4
"""Share of what is left that rounding may be, at most."""
LEAST_PIVOT = 1e-13
"""Least squared pivot of a precision with ones on its diagonal. Below it a thousandth of the inverse is rounding."""


def root_of_inverse(rows: Matrix, evidence: NDArray[np.float64], prior: float) -> Matrix:
    """The square root R of (prior · I + Σ_i evidence_i h_i h_iᵀ)⁻¹. O(n D² + D³).

    Args:
        rows: h [n, D]
        evidence: [n], each > 0.
        prior: precision of every weight before any evidence.

    Returns:
        R [D, D]

    Raises:
        ConfigError: float64 cannot invert the precision, as the prior is too weak beside the evidence.
    """
    import torch

    weighted = torch.from_numpy(rows) * torch.from_numpy(evidence).sqrt()[:, None]
    precision = weighted.T @ weighted
    precision.diagonal().add_(prior)
    # Jacobi scaling: without it, features of very different size cost the factor its digits.
    scale = precision.diagonal().rsqrt()
    factor, failed = torch.linalg.cholesky_ex(precision * scale[:, None] * scale)
    if failed or float(factor.diagonal().min()) ** 2 < LEAST_PIVOT:
        raise ConfigError("update.trainer.l2", f"a prior of {prior:g} is too weak for these features", "raise it")
    eye = torch.eye(len(factor), dtype=torch.float64)
    root: Matrix = (torch.linalg.solve_triangular(factor, eye, upper=False).T * scale[:, None]).contiguous().numpy()
    return root


def update(root: Matrix, rows: Matrix, evidence: NDArray[np.float64]) -> Matrix:
    """The square root R' of (Σ⁻¹ + Σ_i evidence_i h_i h_iᵀ)⁻¹. O(b D² + b² D).

    Let Φ be the rows times the square roots of their evidence, and V = Rᵀ Φᵀ = Q T. Then
    R' = R (I - Q (I - L⁻ᵀ) Qᵀ) with L Lᵀ = I + T Tᵀ: Woodbury's identity for square roots.

    Args:
        root: R [D, D] with Σ = R Rᵀ.
        rows: h [b, D]
        evidence: [b], each > 0.

    Returns:
        R' [D, D]

    Raises:
        LabelError: Φ Σ Φᵀ leaves float64; the error names the row.
    """
    basis, triangle, largest = _factored(root, rows, evidence)
    if largest > LARGEST_GAIN and len(rows) > 1:
        for row, count in zip(rows, evidence, strict=True):
            root = update(root, row[None], np.array([count]))
        return root
    return _changed(root, basis, np.linalg.cholesky(np.eye(len(triangle)) + triangle @ triangle.T))


def downdate(root: Matrix, rows: Matrix, evidence: NDArray[np.float64]) -> Matrix:
    """The square root R' of (Σ⁻¹ - Σ_i evidence_i h_i h_iᵀ)⁻¹: the inverse of `update`. O(b D² + b² D).

    Args:
        root: R [D, D] with Σ = R Rᵀ.
        rows: h [b, D]
        evidence: [b], each > 0.

    Returns:
        R' [D, D]

    Raises:
        LabelError: Σ⁻¹ holds less evidence of these rows; or nearly all that it holds in some direction is theirs (all
            but 1e-8, or what rounding hides), and float64 cannot tell what would be left.
    """
    basis, triangle, _ = _factored(root, rows, evidence)
    left = np.eye(len(triangle)) - triangle @ triangle.T
    least = np.linalg.eigvalsh(left).min(initial=1.0)
    # What rounding may do to it: Rᵀh cancels where R has shrunk along h by many more digits than elsewhere.
    lost = np.finfo(np.float64).eps * np.linalg.norm(root) * np.linalg.norm(rows * np.sqrt(evidence)[:, None])
    bound = max(LEAST_LEFT, lost / MOST_ROUNDING, lost**2)
    if least < bound:
        error = never_absorbed() if least < -bound else nearly_all()
        raise error
    return _changed(root, basis, np.linalg.cholesky(left))


def never_absorbed() -> LabelError:
    """The error for evidence that is taken back and was not there."""
    return LabelError("labels", "more evidence is taken back than was absorbed", "retract what was absorbed, once")


def nearly_all() -> LabelError:
    """The error for evidence that is nearly all there is."""
    return LabelError("labels", "nearly all that is known of some direction would be taken back", "fit anew")


def _changed(root: Matrix, basis: Matrix, factor: NDArray[Any]) -> Matrix:
    """R (I - Q (I - L⁻ᵀ) Qᵀ) of a basis Q [D, r] and a factor L [r, r]; read-only, so that no head has to copy it."""
    import torch

    left = root @ basis @ (np.eye(len(factor)) - np.linalg.inv(factor).T)
    changed = root.copy()
    # In place and in one pass: for a single row a third of the time of a product, a difference and their arrays. With
    # few features the last bits depend on the number of threads (MKL, seen with 17 and 34).
    with one_thread(numpy=True):
        torch.from_numpy(changed).addmm_(torch.from_numpy(left), torch.from_numpy(basis).T, alpha=-1)
    changed.flags.writeable = False
    return changed


def _factored(root: Matrix, rows: Matrix, evidence: NDArray[np.float64]) -> tuple[Matrix, Matrix, float]:
    """The product V = Rᵀ Φᵀ [D, b] as Q T, with orthonormal columns in Q.

    The largest rows come first; an outlier then does not drown the others in rounding. What rounding leaves of a row
    that repeats an earlier one is set to 0.

    Args:
        root: R [D, D]
        rows: h [b, D]
        evidence: [b]

    Returns:
        (Q [D, r], T [r, b], the largest squared length of a column of V).

    Raises:
        LabelError: V leaves float64; the error names the row.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        reach = root.T @ (rows * np.sqrt(evidence)[:, None]).T
        sizes = (reach**2).sum(axis=0)
    if not np.isfinite(sizes).all():
        row = int((~np.isfinite(sizes)).argmax())
        raise LabelError(f"row {row}", "its features are too large beside those of the head", "fit anew")
    if len(sizes) == 1 and sizes[0] > 0:  # what QR gives, in a fifth of the time: the usual case is one label alone
        length = np.sqrt(sizes[None])
        return reach / length, length, float(sizes[0])
    order = np.argsort(-sizes, kind="stable")
    basis, triangle = np.linalg.qr(reach[:, order])
    diagonal = np.abs(np.diagonal(triangle))
    lost = np.flatnonzero(diagonal <= 64 * np.finfo(np.float64).eps * np.sqrt(sizes[order][: len(diagonal)]))
    triangle[lost, lost] = 0.0
    return basis, triangle, float(sizes.max(initial=0.0))
