"""Labeled features, checked once, in the form every trainer works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import LabelError

LARGEST = 1e60
"""Features beyond this are refused: their squares, summed and weighted, would leave float64."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """n labeled items."""

    features: NDArray[np.float64]
    """[n, d]"""
    targets: NDArray[np.int64]
    """[n] rows of `classes`"""
    weights: NDArray[np.float64]
    """[n], each > 0; an item of weight 2 counts as the same item twice"""


def gather_evidence(
    features: NDArray[Any],
    labels: Sequence[str],
    weights: NDArray[Any] | None,
    classes: Sequence[str],
) -> Evidence:
    """The checked `Evidence`; `features` [n, d] of any float kind.

    Raises:
        LabelError: features are not [n, d] with d > 0, or hold a number that is not finite or beyond 1e60;
            counts differ; a weight is not in (0, 1e60]; a label is none of `classes`. The message names the
            row.
    """
    if features.ndim != 2 or features.shape[1] == 0:
        raise LabelError("features", f"shape {features.shape}", "give one row of numbers per label: [n, d]")
    n = features.shape[0]
    if len(labels) != n:
        raise LabelError("labels", f"{len(labels)} labels for {n} rows of features", "give one label per row")
    rows = np.ascontiguousarray(features, dtype=np.float64)
    bad = ~(np.abs(rows) <= LARGEST)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise LabelError(
            f"row {row}",
            f"feature {column} is {rows[row, column]}",
            "every feature must be finite and within ±1e60",
        )
    scales = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if scales.shape != (n,):
        raise LabelError("weights", f"shape {scales.shape} for {n} labels", "give one weight per label")
    bad = ~((scales > 0) & (scales <= LARGEST))
    if bad.any():
        row = int(bad.argmax())
        raise LabelError(f"row {row}", f"weight is {scales[row]}", "a weight must be finite and above 0")
    position = {name: row for row, name in enumerate(classes)}
    for row, label in enumerate(labels):
        if label not in position:
            listed = ", ".join(list(position)[:5]) + (" ..." if len(position) > 5 else "")
            raise LabelError(f"row {row}", f"label {label!r} is not one of the classes ({listed})", "add the class")
    targets = np.fromiter((position[label] for label in labels), dtype=np.int64, count=n)
    return Evidence(features=rows, targets=targets, weights=scales)


def with_constant(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """`features` [n, d] with the constant feature 1 as the last column: [n, d + 1]."""
    return np.hstack([features, np.ones((len(features), 1))])
