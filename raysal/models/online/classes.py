"""Classes that join a head between two fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysal.errors import LabelError
from raysal.models.head import Head
from raysal.models.targets import Answer


def add_classes(head: Head, classes: Sequence[str]) -> Head:
    """Append the classes that a head lacks. Their first label moves them, by `update`.

    A new class has weights 0. Its bias is as if one label among those seen, and one more, were of this class, wherever
    they lie. Of a new output the posterior knows the prior alone; where outputs share one covariance, that one.

    Until the next fit, evidence stays where the last fit took it (`Head.linearised_at`). Labels that name a new class
    are evidence about its output as well, all others about the outputs of the fit alone. The precision therefore does
    not depend on which labels came before a class joined, and `retract` takes back any of them exactly.

    Args:
        head: the head.
        classes: names, known to the head or not.

    Returns:
        The head with these classes; the head itself where it lacks none.

    Raises:
        LabelError: the head predicts numbers.
        ConfigError: the head is an ensemble.
    """
    new = [name for name in dict.fromkeys(classes) if name not in head.classes]
    if not new:
        return head
    if not head.likelihood.discrete:
        raise LabelError("classes", f"{new[0]!r} for a head that predicts {head.likelihood.words}", "fit a classifier")
    mean = _with_rows(head.mean, len(new), head.labels_seen)
    posterior = head.posterior.updatable().add_classes(len(new))
    return replace(head, classes=(*head.classes, *new), mean=mean, posterior=posterior)


def add_classes_of(head: Head, answers: Iterable[Answer]) -> Head:
    """Append the classes that answers name.

    Args:
        head: the head.
        answers: labels.

    Returns:
        As `add_classes`; a head that predicts numbers stays as it is.

    Raises:
        LabelError: an answer is no label for this head.
        ConfigError: the head is an ensemble.
    """
    if not head.likelihood.discrete:  # its labels name no class
        return head
    shares = (head.likelihood.shares(answer, f"row {row}") for row, answer in enumerate(answers))
    return add_classes(head, [name for each in shares for name in each])


def mean_at_fit(head: Head) -> NDArray[np.float64]:
    """The mean of the last fit [C, D], with the classes that have joined since as they were when they joined then."""
    return _with_rows(head.linearised_at, len(head.classes) - len(head.linearised_at), head.fitted_on)


def _with_rows(mean: NDArray[np.float64], more: int, labels: int) -> NDArray[np.float64]:
    """The mean with rows for `more` classes, of which none of so many labels is."""
    rows = np.zeros((more, mean.shape[1]))
    rows[:, -1] = -np.log1p(labels)
    return np.vstack([mean, rows])
