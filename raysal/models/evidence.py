"""Labelled features, checked once, in the form that every trainer works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import LabelError
from raysal.models.likelihood import SOFTMAX, Likelihood
from raysal.models.targets import LARGEST, Answer


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """n labelled items."""

    features: NDArray[np.float64]
    """[n, d]"""
    targets: NDArray[np.float64]
    """[n, C] what the outputs should answer: shares that add up to 1, a probability for each label, or a number"""
    weights: NDArray[np.float64]
    """[n], each > 0; an item of weight 2 counts as the same item twice"""
    constant: float = 1.0
    """the constant feature that stands beside the others (`raysal.models.frame`)"""

    def __len__(self) -> int:
        return len(self.weights)

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """The features with the constant appended: [n, d + 1]."""
        return with_constant(self.features, self.constant)

    def take(self, which: NDArray[Any]) -> Evidence:
        """Some of the items."""
        return replace(self, features=self.features[which], targets=self.targets[which], weights=self.weights[which])


def gather_evidence(
    features: NDArray[Any],
    labels: Sequence[Answer],
    weights: NDArray[Any] | None,
    classes: Sequence[str],
    likelihood: Likelihood = SOFTMAX,
) -> Evidence:
    """Check labelled features.

    Args:
        features: [n, d] of any float kind.
        labels: [n]
        weights: [n]; none means 1.
        classes: [C] names of the outputs.
        likelihood: what the labels are.

    Returns:
        The evidence, in float64.

    Raises:
        LabelError: features are not [n, d] with d > 0, or hold a number that is not finite or beyond 1e60; counts
            differ; a weight is not in (0, 1e60]; or as `Likelihood.targets`. The error names the row.
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
    targets = likelihood.targets(labels, classes)
    return Evidence(features=rows, targets=targets, weights=scales)


def evidence_to_fit(
    features: NDArray[Any],
    labels: Sequence[Answer],
    weights: NDArray[Any] | None,
    classes: Sequence[str],
    likelihood: Likelihood = SOFTMAX,
) -> Evidence:
    """Check labelled features for a fit from scratch.

    Args:
        features: [n, d] of any float kind.
        labels: [n]
        weights: [n]; none means 1.
        classes: [C] names of the outputs.
        likelihood: what the labels are.

    Returns:
        The evidence, of at least one label.

    Raises:
        LabelError: there is no label; or as `gather_evidence`.
    """
    evidence = gather_evidence(features, labels, weights, classes, likelihood)
    if not len(evidence):
        raise LabelError("labels", "there are none to fit", "label at least one item first")
    return evidence


def with_constant(features: NDArray[np.float64], constant: float = 1.0) -> NDArray[np.float64]:
    """Features h [n, d] with a constant feature as the last column: h̃ [n, d + 1]."""
    return np.hstack([features, np.full((len(features), 1), constant)])
