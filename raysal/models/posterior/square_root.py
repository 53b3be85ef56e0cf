"""Roots R of a covariance Σ = R Rᵀ, and how they change when evidence is added to its inverse or taken from it.

Square roots carry twice the digits of what they are roots of, and their products cannot turn negative: the reason why
navigation has propagated them since Potter (1963).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError, LabelError
from raysal.numerics import one_thread

Matrix = NDArray[np.float64]
FAR = 1e12
"""Evidence, in units of what was known, beyond which rows are taken one by one: a sum of their squares would have lost
the 1 it is added to. It takes features a million times those of the fit."""
LEFT = 1e-8
"""Share of a direction's uncertainty that taking labels back must leave, or digits are lost: at this share 1 in 1e4 of
what is left is rounding."""
ROUNDING = 1e-4
"""Share of what is left that rounding may be, at most."""
PIVOT = 1e-13
"""Least squared pivot of a precision with ones on its diagonal; below it a thousandth of its inverse is rounding."""


def root_of_inverse(rows: Matrix, evidence: NDArray[np.float64], prior: float) -> Matrix:
    """R [D, D] with R Rᵀ = (prior · I + Σ evidence_i h_i h_iᵀ)⁻¹ over `rows` h [n, D]. O(n D² + D³).

    Raises:
        ConfigError: float64 cannot invert it, because the prior is too weak beside the evidence.
    """
    import torch

    weighted = torch.from_numpy(rows) * torch.from_numpy(evidence).sqrt()[:, None]
    precision = weighted.T @ weighted
    precision.diagonal().add_(prior)
    # Jacobi scaling: features of very different size would otherwise cost the factor its digits.
    scale = precision.diagonal().rsqrt()
    factor, failed = torch.linalg.cholesky_ex(precision * scale[:, None] * scale)
    if failed or float(factor.diagonal().min()) ** 2 < PIVOT:
        raise ConfigError("update.trainer.l2", f"a prior of {prior:g} is too weak for these features", "raise it")
    eye = torch.eye(len(factor), dtype=torch.float64)
    root: Matrix = (torch.linalg.solve_triangular(factor, eye, upper=False).T * scale[:, None]).contiguous().numpy()
    return root


def update(root: Matrix, rows: Matrix, evidence: NDArray[np.float64]) -> Matrix:
    """R' with R' R'ᵀ = (Σ⁻¹ + Σ_i evidence_i h_i h_iᵀ)⁻¹ for Σ = R Rᵀ, R [D, D], `rows` h [b, D]. O(b D² + b² D).

    With V = Rᵀ Φᵀ = Q T, Φ the rows times the roots of their evidence, R' = R (I - Q (I - L⁻ᵀ) Qᵀ) where L Lᵀ =
    I + T Tᵀ: Woodbury's identity, for roots.

    Raises:
        LabelError: Φ Σ Φᵀ leaves float64; it names the row.
    """
    basis, triangle, largest = _seen_from(root, rows, evidence)
    if largest > FAR and len(rows) > 1:
        for row, count in zip(rows, evidence, strict=True):
            root = update(root, row[None], np.array([count]))
        return root
    return _turned(root, basis, np.linalg.cholesky(np.eye(len(triangle)) + triangle @ triangle.T))


def downdate(root: Matrix, rows: Matrix, evidence: NDArray[np.float64]) -> Matrix:
    """R' with R' R'ᵀ = (Σ⁻¹ - Σ_i evidence_i h_i h_iᵀ)⁻¹: the inverse of `update`. O(b D² + b² D).

    Raises:
        LabelError: Σ⁻¹ does not hold that much evidence of these rows; or nearly all that it holds in some direction
            is theirs (all but 1e-8, or what rounding hides), so that float64 cannot tell what would be left.
    """
    basis, triangle, _ = _seen_from(root, rows, evidence)
    left = np.eye(len(triangle)) - triangle @ triangle.T
    least = np.linalg.eigvalsh(left).min(initial=1.0)
    # What rounding may do to it: Rᵀh cancels where R has shrunk along h by many more digits than elsewhere.
    lost = np.finfo(np.float64).eps * np.linalg.norm(root) * np.linalg.norm(rows * np.sqrt(evidence)[:, None])
    bound = max(LEFT, lost / ROUNDING)
    if least < -bound:
        raise never_absorbed()
    if least < bound:
        raise nearly_all()
    return _turned(root, basis, np.linalg.cholesky(left))


def never_absorbed() -> LabelError:
    return LabelError("labels", "more evidence is taken back than was absorbed", "retract what was absorbed, once")


def nearly_all() -> LabelError:
    return LabelError("labels", "nearly all that is known of some direction would be taken back", "fit anew")


def _turned(root: Matrix, basis: Matrix, factor: NDArray[Any]) -> Matrix:
    """R (I - Q (I - L⁻ᵀ) Qᵀ) of a basis Q [D, r] and a factor L [r, r]; read-only, so that a head need not copy it."""
    import torch

    left = root @ basis @ (np.eye(len(factor)) - np.linalg.inv(factor).T)
    turned = root.copy()
    # In place and in one pass: for a single row a third of the time of a product, a difference and their arrays. Its
    # last bits would depend on the number of threads, for few features (MKL, seen with 17 and 34).
    with one_thread(numpy=True):
        torch.from_numpy(turned).addmm_(torch.from_numpy(left), torch.from_numpy(basis).T, alpha=-1)
    turned.flags.writeable = False
    return turned


def _seen_from(root: Matrix, rows: Matrix, evidence: NDArray[np.float64]) -> tuple[Matrix, Matrix, float]:
    """V = Rᵀ Φᵀ [D, b] as Q [D, r] with orthonormal columns times T [r, b]; and the largest squared length in V.

    Largest rows first, so that an outlier does not drown the others in rounding; and what rounding leaves of a row
    that is a copy of an earlier one is taken for the nothing that it is.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        reach = root.T @ (rows * np.sqrt(evidence)[:, None]).T
        sizes = (reach**2).sum(axis=0)
    if not np.isfinite(sizes).all():
        row = int((~np.isfinite(sizes)).argmax())
        raise LabelError(f"row {row}", "its features are too large beside those of the head", "fit anew")
    if len(sizes) == 1 and sizes[0] > 0:  # as QR has it, in a fifth of the time: a label told alone is the usual case
        length = np.sqrt(sizes[None])
        return reach / length, length, float(sizes[0])
    order = np.argsort(-sizes, kind="stable")
    basis, triangle = np.linalg.qr(reach[:, order])
    diagonal = np.abs(np.diagonal(triangle))
    lost = np.flatnonzero(diagonal <= 64 * np.finfo(np.float64).eps * np.sqrt(sizes[order][: len(diagonal)]))
    triangle[lost, lost] = 0.0
    return basis, triangle, float(sizes.max(initial=0.0))
