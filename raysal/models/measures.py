"""How well predictions fit true answers: by class, by label, or by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.errors import UserError

LEAST = 1e-12
"""What the probability of a true answer counts as at least. The likelihood of an unknown class is then finite."""


Weights = NDArray[np.float64] | None
"""What each item counts for; none where all count alike."""


class Measure(NamedTuple):
    """How to show one number of an evaluation."""

    words: str
    higher: bool
    """whether higher is better"""
    share: bool
    """whether it is a share, shown in percent"""


MEASURES = {
    "accuracy": Measure("accuracy", True, True),
    "attained_at_k": Measure("of the attainable in the first k", True, True),
    "attained_in_top": Measure("of the attainable in the top 1 %", True, True),
    "auprc": Measure("AUPRC", True, False),
    "auroc": Measure("AUROC", True, False),
    "exact_match": Measure("exact match", True, True),
    "expected_calibration_error": Measure("calibration error", False, True),
    "label_accuracy": Measure("label accuracy", True, True),
    "macro_f1": Measure("macro F1", True, True),
    "micro_f1": Measure("micro F1", True, True),
    "negative_log_likelihood": Measure("negative log-likelihood", False, False),
    "precision_at_k": Measure("precision in the first k", True, True),
    "precision_in_top": Measure("precision in the top 1 %", True, True),
    "prevalence": Measure("prevalence", True, True),
    "r2": Measure("R²", True, False),
    "recall_at_k": Measure("recall in the first k", True, True),
    "recall_in_top": Measure("recall in the top 1 %", True, True),
    "rmse": Measure("root mean squared error", False, False),
}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a head does on the held-out items."""

    items: int
    metric: str
    """the main one of `measures`: accuracy, for several labels macro_f1, for numbers rmse; auprc where classes are
    looked for, and the answers hold some of them"""
    measures: dict[str, float]
    """by name, of `MEASURES`; a measure that is not defined, such as R² of one value, is left out"""
    accuracy: float | None
    """None where items have no single class"""
    recall: dict[str, float]
    """by true class or label, the share that is predicted as such"""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """by name, an interval of 95 % for those of `measures` that have one"""
    known_by: str | None = None
    """how the held-out items became known: `truth` of the oracle, `uniform` labels, or `test draws`"""


def shown(metric: str, value: float) -> str:
    """The value of a measure for people: `91.2 %`, `0.4213`."""
    return f"{100 * value:.1f} %" if MEASURES[metric].share else f"{value:,.4g}"


def main_measure(evaluation: Mapping[str, Any]) -> tuple[str, float]:
    """The main measure in a round's record; records from before there were several measures have the accuracy.

    Args:
        evaluation: the record's `evaluation`.

    Returns:
        Its name and value.
    """
    name = str(evaluation.get("metric", "accuracy"))
    return name, float(evaluation["measures"][name] if "measures" in evaluation else evaluation["accuracy"])


def standing(evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the status of a run says of its last evaluation, if there is one: accuracy, and the main measure."""
    metric, value = (None, None) if evaluation is None else main_measure(evaluation)
    return {"accuracy": (evaluation or {}).get("accuracy"), "metric": metric, "value": value}


def judge_classes(
    classes: Sequence[str], probabilities: NDArray[np.float64], answers: Sequence[str], weights: Weights = None
) -> Evaluation:
    """Judge class probabilities: accuracy, likelihood in nats per item, calibration.

    With weights the accuracy is 1 - Σ weight of the wrong ones: draws that look for errors know these best.

    Args:
        classes: [C] names of the classes that the head knows.
        probabilities: [n, C]; ties go to the first class.
        answers: [n] true classes, known to the head or not.
        weights: [n] that estimate a mean as Σ weight · value; none means 1 / n.

    Returns:
        The evaluation.
    """
    place = {name: row for row, name in enumerate(classes)}
    truth = np.array([place.get(answer, -1) for answer in answers])
    guess, best = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = guess == truth
    likely = np.where(truth >= 0, probabilities[np.arange(len(truth)), truth], 0.0)
    of_class: Counter[str] = Counter(answers)
    found = Counter(a for a, hit in zip(answers, right, strict=True) if hit)
    accuracy = float(right.mean()) if weights is None else min(1.0, max(0.0, 1 - float(weights @ ~right)))
    if weights is not None:
        of_class, found = Counter(), Counter()
        for answer, hit, weight in zip(answers, right.tolist(), weights.tolist(), strict=True):
            of_class[answer] += weight
            found[answer] += weight * hit
    return Evaluation(
        items=len(answers),
        metric="accuracy",
        measures={
            "accuracy": accuracy,
            "negative_log_likelihood": _nats(likely, weights),
            "expected_calibration_error": expected_calibration_error(best.clip(0, 1), right, weights=weights),
        },
        accuracy=accuracy,
        recall={name: found[name] / count for name, count in sorted(of_class.items()) if count},
    )


def judge_labels(
    classes: Sequence[str],
    probabilities: NDArray[np.float64],
    answers: Sequence[Sequence[str]],
    weights: Weights = None,
) -> Evaluation:
    """Judge a probability for each label; a probability above 1/2 predicts the label.

    F1 is 2 · right / (predicted + present). Macro F1 is its mean over the labels that are predicted or present, and 1
    where there is none. The likelihood is in nats per item. The calibration is that of every label of every item.

    Args:
        classes: [C] names of the labels that the head knows; it never predicts others.
        probabilities: [n, C]
        answers: [n] the labels of each item.
        weights: [n], of which the proportions count; none means 1.

    Returns:
        The evaluation.
    """
    names = [*classes, *sorted({name for answer in answers for name in answer} - set(classes))]
    place = {name: column for column, name in enumerate(names)}
    there = np.zeros((len(answers), len(names)), bool)
    for row, answer in enumerate(answers):
        there[row, [place[name] for name in answer]] = True
    p = np.pad(probabilities, ((0, 0), (0, len(names) - len(classes))))
    guess = p > 0.5
    w = np.ones(len(answers)) if weights is None else weights / weights.mean()
    both, either, given = w @ (guess & there), w @ (guess | there), w @ there
    used = either > 0
    f1 = 2 * both[used] / (both + either)[used]
    likely = np.where(there, p, 1 - p)
    each = None if weights is None else np.repeat(w / w.sum() / len(names), len(names))
    return Evaluation(
        items=len(answers),
        metric="macro_f1",
        measures={
            "macro_f1": float(f1.mean()) if used.any() else 1.0,
            "micro_f1": float(2 * both.sum() / (both + either).sum()) if used.any() else 1.0,
            "exact_match": float((w * (guess == there).all(axis=1)).mean()),
            "label_accuracy": float((w[:, None] * (guess == there)).mean()),
            "negative_log_likelihood": _nats(likely, each) * len(names),
            "expected_calibration_error": expected_calibration_error(
                p.clip(0, 1), there, weights=np.repeat(w, len(names))
            ),
        },
        accuracy=None,
        recall={names[c]: float(both[c] / given[c]) for c in np.argsort(names) if given[c]},
    )


def judge_numbers(
    values: NDArray[np.float64], answers: NDArray[np.float64], variance: NDArray[np.float64], weights: Weights = None
) -> Evaluation:
    """Judge numbers: root mean squared error, share of the variance explained, and likelihood in nats per item.

    Args:
        values: [n] that are predicted.
        answers: [n] that are true.
        variance: [n] of a label around its prediction.
        weights: [n], of which the proportions count; none means 1.

    Returns:
        The evaluation.
    """
    squares = (values - answers) ** 2
    w = np.ones(len(answers)) if weights is None else weights / weights.mean()
    spread = float((w * (answers - (w * answers).mean()) ** 2).sum())
    nats = 0.5 * (np.log(2 * np.pi * variance) + squares / variance)
    measures = {"rmse": float(np.sqrt((w * squares).mean())), "negative_log_likelihood": float((w * nats).mean())}
    if spread > 0:
        measures["r2"] = 1 - float((w * squares).sum()) / spread
    return Evaluation(items=len(values), metric="rmse", measures=measures, accuracy=None, recall={})


def expected_calibration_error(
    probabilities: NDArray[Any], right: NDArray[Any], bins: int = 15, weights: NDArray[Any] | None = None
) -> float:
    """The mean distance between the probabilities of answers and the share of the answers that is right.

    It is Σ over bins of their share of the answers · |share that is right - mean probability| (Naeini et al., AAAI
    2015; Guo et al., ICML 2017). Bins have equal width. A probability on the edge of two bins is in the lower one, and
    0 is in the first. Another number of bins gives another error for the same data.

    Args:
        probabilities: [n] of the answers given; for classes, the largest of each item.
        right: [n], whether each answer is right.
        bins: how many there are.
        weights: [n] of the answers; none means 1.

    Returns:
        The error, in [0, 1]; 0 is calibrated. NaN without answers.

    Raises:
        UserError: there is less than one bin, or a probability is not in [0, 1].
    """
    if bins < 1:
        raise UserError("bins", f"{bins} is below 1")
    p, hit = np.asarray(probabilities, np.float64).ravel(), np.asarray(right, np.float64).ravel()
    m = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64).ravel()
    if not len(p):
        return float("nan")
    if not ((p >= 0) & (p <= 1)).all():
        raise UserError("probabilities", "hold a number outside [0, 1]")
    bin_of = np.searchsorted(np.arange(1, bins) / bins, p, side="left")  # `linspace` rounds 3/10, and others, up
    gaps = np.bincount(bin_of, weights=m * (hit - p), minlength=bins)
    return float(np.abs(gaps).sum() / m.sum())


def _nats(likely: NDArray[np.float64], weights: Weights = None) -> float:
    """Mean of -log p, or with weights Σ weight · -log p."""
    nats = -np.log(np.maximum(likely, LEAST))
    return float(nats.mean() if weights is None else weights @ nats.ravel())
