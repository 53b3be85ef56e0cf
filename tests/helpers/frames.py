"""Frames as explicit matrices, for tests."""

from __future__ import annotations

import numpy as np

from raysal.models.frame import Frame
from raysal.models.head import Head


def matrix_of(frame: Frame | None, dim: int) -> np.ndarray:
    """T [dim + 1, dim + 1] with T h̃ the features of the frame."""
    if frame is None:
        return np.eye(dim + 1)
    matrix = np.diag(np.append(1 / frame.size, 0.0))
    matrix[:-1, -1] = -frame.centre / frame.size
    matrix[-1, -1] = frame.constant
    return matrix


def prior_precision(head: Head) -> np.ndarray:
    """The precision of the prior on the weights of an output, over vectors as they are: p T⁻¹ T⁻ᵀ."""
    inverse = np.linalg.inv(matrix_of(head.frame, head.dim))
    return head.prior * inverse @ inverse.T
